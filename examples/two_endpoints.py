"""Which of two endpoints answers better? Nothing is trained: prompts, two addresses and a judge are enough.

Two scripted servers stand for the endpoints. In place of them: addresses of yours, and `judge=pairwise` for a model that compares.

python examples/two_endpoints.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from duologue.cli import main as duologue
from duologue.inference import Message
from duologue.inference.scripted import Answer, ScriptedServer

CAPITALS = {
    "Austria": "Vienna", "Chile": "Santiago", "Cuba": "Havana", "Denmark": "Copenhagen", "Egypt": "Cairo", "Finland": "Helsinki",
    "France": "Paris", "Ghana": "Accra", "Greece": "Athens", "Iceland": "Reykjavik", "Ireland": "Dublin", "Italy": "Rome",
    "Japan": "Tokyo", "Kenya": "Nairobi", "Nepal": "Kathmandu", "Norway": "Oslo", "Peru": "Lima", "Poland": "Warsaw",
}  # fmt: skip


def main() -> None:
    """Writes the prompts, and compares as `duologue compare` does."""
    rows = [{"prompt": f"What is the capital of {c}?", "reference": f"It is {CAPITALS[c]}."} for c in CAPITALS]
    Path("capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    old, new = ScriptedServer(knows("ACEFGHIJ")), ScriptedServer(knows("ACDEFGHIJKN"))
    duologue(
        [
            "compare",
            "prompts=capitals.jsonl",
            "judge=chrf",  # how much of the reference's wording is there; the first contestant is the baseline
            f"+contestants={{old: {{base_url: {old.url!r}, model: small}}, new: {{base_url: {new.url!r}, model: larger}}}}",
        ]
    )
    old.stop()
    new.stop()


def knows(initials: str) -> Answer:
    """A model that knows the capitals of countries with these initials."""

    def answer(messages: Sequence[Message], seed: int, model: str) -> str:
        country = messages[-1]["content"].removesuffix("?").rpartition(" ")[2]
        return f"It is {CAPITALS[country]}." if country[0] in initials else "I do not know."

    return answer


if __name__ == "__main__":
    main()
