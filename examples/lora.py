"""A few steps of GRPO on SmolLM2 with a judge of lengths, then the adapter's answers beside those of the model beneath.

python examples/lora.py
"""

from __future__ import annotations

from duologue.agents.lora import load_writer
from duologue.cli import main as duologue
from duologue.inference.completion import Message

SETTINGS = [
    "agent.max_steps=2",
    "agent.num_generations=4",
    "agent.per_device_train_batch_size=4",
    "agent.max_completion_length=12",
    "agent.learning_rate=0.001",
    "agent.beta=0.0",
    "agent.save_strategy=no",
    "env.limit=8",
    "~judges.reference",
    "judges.length.low=3",  # words: be brief
    "judges.length.high=8",
]
QUESTIONS = ["What is the capital of France?", "Why is the sky blue?", "How do I boil an egg?"]


def main() -> None:
    """Trains as `duologue train agent=grpo` does, and prints both models' likeliest answers."""
    duologue(["train", "agent=grpo", *SETTINGS])
    asked: list[list[Message]] = [[{"role": "user", "content": question}] for question in QUESTIONS]
    writer, _ = load_writer("runs/train/latest", decoding={"temperature": 0.0, "max_completion_length": 16})
    tuned = writer.write(asked, [0] * 3)
    with writer.local.model.disable_adapter():
        base = writer.write(asked, [0] * 3)
    for question, plain, own in zip(QUESTIONS, base, tuned, strict=True):
        print(f"{question}\n  without: {plain.text!r}\n  with:    {own.text!r}")


if __name__ == "__main__":
    main()
