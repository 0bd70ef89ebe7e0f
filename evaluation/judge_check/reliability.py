"""A judge's reliability in figures with intervals, from its verdicts on labelled records.

Failures are no verdicts: they are left out of every figure but the failure rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..stats.agreement import (
    Figure,
    from_resamples,
    from_sums,
    kappa_of_table,
    krippendorffs_alpha,
    pearson_of_sums,
    repeat_agreement,
    spearman,
)
from ..stats.win_rates import win_rate

CATEGORIES = ("first", "second", "tie")


@dataclass(frozen=True)
class PairVerdicts:
    """A judge's verdicts on one labelled pair; replies are numbered as in the record.

    Attributes:
        label: ``first``, ``second`` or ``tie``.
        there: Over repeats, where the pair was shown as it is; None for a failure.
        back: Where it was shown the other way round.
        both: Where the order does not matter.
        longer: Number of the longer reply; None if equal.
        own: Number of the reply written by the judge model itself; None if neither.
    """

    label: str
    there: Sequence[str | None] = ()
    back: Sequence[str | None] = ()
    both: Sequence[str | None] = ()
    longer: str | None = None
    own: str | None = None

    @property
    def every(self) -> list[str]:
        """All verdicts that were given."""
        return [verdict for verdict in (*self.there, *self.back, *self.both) if verdict is not None]

    @property
    def orders(self) -> list[tuple[str, str]]:
        """Verdicts in both orders, where neither failed."""
        pairs = zip(self.there, self.back, strict=True)
        return [(there, back) for there, back in pairs if there is not None and back is not None]

    @property
    def shown_first(self) -> list[bool]:
        """For each decided verdict, whether it preferred the reply shown first."""
        shown = [verdict == "first" for verdict in self.there if verdict in ("first", "second")]
        return shown + [verdict == "second" for verdict in self.back if verdict in ("first", "second")]


@dataclass(frozen=True)
class ScoreVerdicts:
    """A judge's verdicts on one scored reply.

    Attributes:
        label: Its score by those who labelled it.
        scores: The judge's over repeats; None for a failure.
        words: The reply's.
        components: The parts of each score that was given.
    """

    label: float
    scores: Sequence[float | None]
    words: int = 0
    components: Sequence[Mapping[str, float]] = field(default_factory=list)

    @property
    def given(self) -> list[float]:
        """The scores that were given."""
        return [score for score in self.scores if score is not None]


def pair_reliability(rows: Sequence[PairVerdicts]) -> dict[str, Figure]:
    """Measures a judge on pairs.

    Args:
        rows: Verdicts on each pair.

    Returns:
        ``agreement`` with the labels over all verdicts, the same ``without_ties``, Cohen's ``kappa``; ``both_orders_right`` and
        ``order_consistency`` of pairs; ``first_place_preference``: share of decided verdicts for the reply shown first, 0.5
        without a bias; ``longer_preference``, that of the labels, and ``length_bias``, their difference; ``self_preference``,
        the same difference for the judge's own replies; ``repeat_consistency``: share of pairs of repeats that agree;
        ``failure_rate``.
    """
    decided = [[verdict for verdict in row.every if verdict != "tie"] for row in rows]
    repeats = [[[v for v in order if v is not None] for order in (r.there, r.back, r.both)] for r in rows]
    return {
        "agreement": _share([[verdict == row.label for verdict in row.every] for row in rows]),
        "agreement_without_ties": _share(
            [[verdict == r.label for verdict in d if r.label != "tie"] for r, d in zip(rows, decided, strict=True)]
        ),
        "kappa": from_sums([_table(row) for row in rows], _kappa),
        "both_orders_right": _share([[there == back == row.label for there, back in row.orders] for row in rows]),
        "order_consistency": _share([[there == back for there, back in row.orders] for row in rows]),
        "first_place_preference": _share([row.shown_first for row in rows]),
        "longer_preference": _share(_for(rows, decided, "longer")),
        "longer_preference_of_labels": _share(_labels_for(rows, "longer")),
        "length_bias": _difference(_for(rows, decided, "longer"), _labels_for(rows, "longer")),
        "self_preference": _difference(_for(rows, decided, "own"), _labels_for(rows, "own")),
        "repeat_consistency": _share([_known(map(repeat_agreement, orders)) for orders in repeats]),
        "failure_rate": _share([[v is None for v in (*row.there, *row.back, *row.both)] for row in rows]),
    }


def score_reliability(rows: Sequence[ScoreVerdicts], members: bool = False) -> dict[str, Figure]:
    """Measures a judge on scored replies.

    Args:
        rows: One for each record.
        members: Whether the components are the scores of a panel's members.

    Returns:
        ``pearson`` and ``spearman`` correlations with the labels; ``concordance``: the share of pairs of replies with different
        labels that the judge orders as they do, its ties counting half; ``length_correlation`` and that of the labels;
        ``repeat_deviation``: the mean standard deviation of one reply's scores; ``failure_rate``; and for a panel
        ``krippendorffs_alpha`` of its members.
    """
    names = sorted({name for row in rows for parts in row.components for name in parts})
    figures = {
        "pearson": _pearson([[(score, row.label) for score in row.given] for row in rows]),
        "spearman": from_resamples(len(rows), lambda chosen: spearman(*_pairs(rows, chosen))),
        "concordance": from_resamples(len(rows), lambda chosen: concordance(*_pairs(rows, chosen))),
        "length_correlation": _pearson([[(score, row.words) for score in row.given] for row in rows]),
        "length_correlation_of_labels": _pearson([[(row.label, row.words)] for row in rows]),
        "repeat_deviation": _mean([[float(np.std(row.given, ddof=1))] if len(row.given) > 1 else [] for row in rows]),
        "failure_rate": _share([[score is None for score in row.scores] for row in rows]),
    }
    if members and len(names) > 1:
        figures["krippendorffs_alpha"] = from_resamples(len(rows), lambda chosen: _alpha(rows, names, chosen))
    return figures


def concordance(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The share of pairs with different labels that the scores order as the labels do; equal scores count half."""
    x, y = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    ahead = y[:, None] > y[None, :]
    return float((np.sign(x[:, None] - x[None, :])[ahead] + 1).mean() / 2) if ahead.any() else math.nan


def _share(values: Sequence[Sequence[bool | float]]) -> Figure:
    """The mean of values in [0, 1], which come by record; its interval has a width even where all are equal."""
    flat = [(float(value), record) for record, entry in enumerate(values) for value in entry]
    if not flat:
        return Figure(math.nan, math.nan, math.nan, 0)
    found = win_rate([value for value, _ in flat], [record for _, record in flat])
    return Figure(found.rate, found.low, found.high, found.clusters)


def _mean(values: Sequence[Sequence[float]]) -> Figure:
    """The mean of all values, which come by record."""
    return from_sums(_sums(values), lambda sums: _divided(sums[..., 0], sums[..., 1]))


def _difference(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Figure:
    """The difference of two such means over the same records."""
    sums = np.hstack([_sums(a), _sums(b)])
    return from_sums(sums, lambda s: _divided(s[..., 0], s[..., 1]) - _divided(s[..., 2], s[..., 3]))


def _sums(values: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    return np.array([[sum(entry), len(entry)] for entry in values], np.float64).reshape(-1, 2)


def _divided(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(b > 0, a / b, np.nan)


def _table(row: PairVerdicts) -> list[int]:
    """Counts verdicts against labels: a flat table of 3 x 3."""
    return [(row.every.count(verdict) if label == row.label else 0) for verdict in CATEGORIES for label in CATEGORIES]


def _kappa(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return kappa_of_table(sums.reshape(*sums.shape[:-1], len(CATEGORIES), len(CATEGORIES)))


def _for(rows: Sequence[PairVerdicts], decided: Sequence[Sequence[str]], which: str) -> list[list[float]]:
    """For each decided verdict, whether it preferred the longer reply, or the judge's own."""
    chosen = [getattr(row, which) for row in rows]
    return [[v == c for v in d] if c is not None else [] for c, d in zip(chosen, decided, strict=True)]


def _labels_for(rows: Sequence[PairVerdicts], which: str) -> list[list[float]]:
    chosen = [(row.label, getattr(row, which)) for row in rows]
    return [[label == c] if c is not None and label != "tie" else [] for label, c in chosen]


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _pearson(pairs: Sequence[Sequence[tuple[float, float]]]) -> Figure:
    sums = [[sum(t) for t in zip(*map(_moments, entry), strict=True)] if entry else [0.0] * 6 for entry in pairs]
    return from_sums(sums, pearson_of_sums)


def _moments(pair: tuple[float, float]) -> tuple[float, ...]:
    x, y = pair
    return 1.0, x, y, x * x, y * y, x * y


def _pairs(rows: Sequence[ScoreVerdicts], chosen: npt.NDArray[np.int64]) -> tuple[list[float], list[float]]:
    pairs = [(score, rows[i].label) for i in chosen for score in rows[i].given]
    return [score for score, _ in pairs], [label for _, label in pairs]


def _alpha(rows: Sequence[ScoreVerdicts], names: Sequence[str], chosen: npt.NDArray[np.int64]) -> float:
    parts = [component for i in chosen for component in rows[i].components]
    return krippendorffs_alpha([[part.get(name, math.nan) for part in parts] for name in names])
