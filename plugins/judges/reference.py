"""Semantic similarity to the hidden reference answer."""

from __future__ import annotations

from collections.abc import Sequence

from ...inference.encoders import make_encoder
from ..judge import Abstain, BaseJudge, Score, Turn, Verdict


class ReferenceJudge(BaseJudge):
    """The cosine of the reply's and the reference's embeddings, in [-1, 1]; abstains where there is no reference.

    Args:
        encoder: Name of a local encoder.
    """

    name = "reference"
    summary = "semantic similarity to the hidden reference answer, by MiniLM"
    cost = "model"
    needs_reference = True

    def __init__(self, encoder: str = "minilm") -> None:
        self._encoder = make_encoder(encoder, custom=False)

    async def score(self, batch: Sequence[Turn]) -> list[Verdict]:
        """One verdict per turn."""
        texts = [text for turn in batch if turn.reference for text in (turn.reply, turn.reference)]
        vectors = iter(await self._encoder.encode(texts))
        return [
            Score(float(next(vectors) @ next(vectors))) if turn.reference else Abstain("the scenario has no reference")
            for turn in batch
        ]
