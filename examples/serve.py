"""A trained policy as one more model name: any OpenAI client asks it, plainly or as a stream.

A game without a model (`forms`) is learnt for some seconds; the policy is then served on a free port, asked with the `openai`
package, and its server ended as a container would end it.

python examples/serve.py
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from urllib.parse import unquote

import openai

from duologue.cli import main as duologue

QUESTIONS = ["I am afraid of a first job.", "Quickly: what do I need for baking bread?"]


def main() -> None:
    """Trains, serves, asks, ends."""
    duologue(
        ["train", "experiment=forms", "inference=rules", "agent.total_timesteps=3072", "agent.learning_rate=0.003"]
    )
    command = [sys.executable, "-m", "duologue", "serve", "policy=runs/train/latest", "alias=my-model", "port=0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert server.stdout
        said = server.stdout.readline()  # Serving my-model, rules at http://127.0.0.1:…/v1
        address = re.search(r"http://\S+", said)
        assert address, said
        ask(address[0])
    finally:
        server.send_signal(signal.SIGTERM)  # requests under way would still be answered
        print(f"The server ended with status {server.wait(30)}.")


def ask(address: str) -> None:
    """Asks once plainly, for the answer and for what the policy did; and once for a stream."""
    client = openai.OpenAI(base_url=address, api_key="none", max_retries=8)  # it may still be starting
    for question in QUESTIONS:
        raw = client.chat.completions.with_raw_response.create(
            model="my-model", messages=[{"role": "user", "content": question}]
        )
        print(f"\n{question}\n  action: {unquote(raw.headers['x-duologue-action'])}")
        print(f"  answer: {raw.parse().choices[0].message.content}")
    stream = client.chat.completions.create(
        model="my-model", messages=[{"role": "user", "content": QUESTIONS[0]}], stream=True
    )
    print("As a stream:", *(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices), sep="|")


if __name__ == "__main__":
    main()
