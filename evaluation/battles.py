"""Battles of two contestants each, as ratings are made from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Battles:
    """Who met whom, and how it went.

    Attributes:
        names: The contestants, in the order of their indices.
        first: Index of one of the two, shape (n,).
        second: Index of the other.
        score: Of the first: 1 for a win, 0.5 for a tie, 0 for a loss, or between, shape (n,).
        clusters: Index of each battle's prompt, shape (n,).
    """

    names: tuple[str, ...]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    clusters: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        first: Sequence[str],
        second: Sequence[str],
        score: npt.ArrayLike,
        clusters: Sequence[Hashable] | None = None,
    ) -> Battles:
        """Battles by the contestants' names.

        Args:
            first: One of the two, by battle.
            second: The other.
            score: Of the first, in [0, 1].
            clusters: The prompt of each battle; each its own by default.

        Raises:
            ValueError: If the lengths differ, a score is out of range, or somebody meets himself.
        """
        scores = np.asarray(score, np.float64)
        n = len(scores)
        groups = list(range(n)) if clusters is None else [str(cluster) for cluster in clusters]
        if not len(first) == len(second) == len(groups) == n:
            raise ValueError(f"battles of different lengths: {len(first)}, {len(second)}, {n} and {len(groups)}")
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError("a battle's score must be from 0 to 1")
        names, index = np.unique([*first, *second], return_inverse=True)
        if (index[:n] == index[n:]).any():
            raise ValueError("a contestant cannot meet himself")
        _, group = np.unique(np.array(groups), return_inverse=True)
        return cls(tuple(map(str, names)), index[:n], index[n:], scores, group.astype(np.int64))
