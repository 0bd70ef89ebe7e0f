"""Lexical overlap with the hidden reference answer."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.errors import ConfigError
from ..judge import Abstain, Score, Turn, Verdict


class ChrfJudge:
    """Sentence-level chrF in [0, 1] (Popović 2015, aclanthology.org/W15-3049), computed by sacrebleu.

    Args:
        word_order: 0 for chrF, 2 for chrF++.
        beta: How many times recall counts as much as precision.

    Raises:
        ConfigError: If sacrebleu is not installed.
    """

    needs_reference = True

    def __init__(self, word_order: int = 0, beta: int = 2) -> None:
        try:
            from sacrebleu.metrics.chrf import CHRF
        except ImportError as error:
            raise ConfigError("the judge `chrf` needs sacrebleu: run `pip install 'duologue[local]'`") from error
        self._metric = CHRF(word_order=word_order, beta=beta)

    async def score(self, batch: Sequence[Turn]) -> list[Verdict]:
        """One verdict per turn; abstains where there is no reference."""
        return [self._one(turn) for turn in batch]

    def _one(self, turn: Turn) -> Verdict:
        if not turn.reference:
            return Abstain("the scenario has no reference")
        return Score(self._metric.sentence_score(turn.reply, [turn.reference]).score / 100)

    async def aclose(self) -> None:
        """Nothing to free."""
