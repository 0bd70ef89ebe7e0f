"""A judge for Duologue: does a reply use one of these words?"""

import re

from duologue.plugins import JudgeRegistrar, Score, Turn, TurnJudge, hookimpl


class Politeness(TurnJudge):
    """1 for a reply with one of the words, else 0.

    Args:
        words: The words, separated by commas. Every parameter is a setting, and needs a default.
    """

    name = "politeness"
    summary = "one of these words in the reply"

    def __init__(self, words: str = "please, thank, thanks") -> None:
        self._words = {word.strip().lower() for word in words.split(",")}

    def judge(self, turn: Turn) -> Score:
        """Returns the verdict: also `Abstain` where there is nothing to judge, `Failure` where it went wrong."""
        return Score(float(not self._words.isdisjoint(re.findall(r"\w+", turn.reply.lower()))))


@hookimpl
def duologue_register_judges(register: JudgeRegistrar) -> None:
    """Registers the judge."""
    register.judge(Politeness)
