"""Lexical overlap with the hidden reference answer."""

from __future__ import annotations

from ...core.errors import ConfigError
from ..judge import Abstain, Score, Turn, TurnJudge, Verdict


class ChrfJudge(TurnJudge):
    """Sentence-level chrF in [0, 1] (Popović 2015, aclanthology.org/W15-3049), computed by sacrebleu.

    Args:
        word_order: 0 for chrF, 2 for chrF++.
        beta: How many times recall counts as much as precision.

    Raises:
        ConfigError: If sacrebleu is not installed.
    """

    name = "chrf"
    summary = "character n-gram overlap with the hidden reference answer, by sacrebleu"
    needs_reference = True

    def __init__(self, word_order: int = 0, beta: int = 2) -> None:
        try:
            from sacrebleu.metrics.chrf import CHRF
        except ImportError as error:
            raise ConfigError("the judge `chrf` needs sacrebleu: run `pip install 'duologue[local]'`") from error
        self._metric = CHRF(word_order=word_order, beta=beta)

    def judge(self, turn: Turn) -> Verdict:
        """Judges one turn."""
        if not turn.reference:
            return Abstain("the scenario has no reference")
        return Score(self._metric.sentence_score(turn.reply, [turn.reference]).score / 100)
