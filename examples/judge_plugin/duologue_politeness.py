"""A judge for Duologue: does a reply use one of these words?"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from duologue.plugins import JudgeRegistrar, Score, Turn, hookimpl


@dataclass
class Settings:
    """What a configuration may set; each needs a default, and is an argument of the judge's constructor."""

    words: str = "please, thank, thanks"


class Politeness:
    """1 for a reply with one of the words, else 0."""

    def __init__(self, words: str) -> None:
        self._words = {word.strip().lower() for word in words.split(",")}

    async def score(self, batch: Sequence[Turn]) -> list[Score]:
        """One score per turn, in order; `Abstain` where there is nothing to judge, `Failure` where it went wrong."""
        return [Score(float(self._has_one(turn.reply))) for turn in batch]

    def _has_one(self, reply: str) -> bool:
        return not self._words.isdisjoint(re.findall(r"\w+", reply.lower()))

    async def aclose(self) -> None:
        """Frees what the judge holds."""


@hookimpl
def duologue_register_judges(register: JudgeRegistrar) -> None:
    """Offers the judge; its class is imported only when a run selects it."""
    register.judge(
        "politeness",
        "duologue_politeness:Politeness",
        config=Settings,
        summary="one of these words in the reply",
    )
