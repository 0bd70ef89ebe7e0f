"""How one judge enters the reward."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

When: TypeAlias = Literal["turn", "end", "potential"]
"""``turn``: after every turn. ``end``: only after the turn that ends the dialogue. ``potential``: after every turn that does not
end it, and what enters the reward is the change of its score, see `Reward`."""


def spread(weights: Mapping[str, float], present: Iterable[str]) -> float | None:
    """The factor by which the weights of judges that gave a score grow where others abstained.

    None where those present have no weight.
    """
    own = sum(abs(weights[name]) for name in present)
    return sum(map(abs, weights.values())) / own if own else None


@dataclass(frozen=True)
class Weighted:
    """How a judge enters the reward.

    What enters is the raw score, length-controlled, normalised, clipped and weighted, in this order. Logged is the raw score.

    Attributes:
        weight: Factor of its score in the weighted sum; negative for a penalty, 0 to log it only. Ignored for a gate.
        gate: Whether its score, clipped to [0, 1], multiplies the sum instead of entering it.
        when: When the judge is asked.
        length_control: Whether what the score owes to the reply's length is taken away: the residual of a linear regression
            of all scores so far on the replies' words, moved back to their mean.
        normalise: Whether it is moved to mean 0 and standard deviation 1 of all scores so far.
        clip: Lowest and highest value; None for no bounds.

    The statistics of ``length_control`` and ``normalise`` are those of all rollouts before the present one, so that all turns
    of a rollout are treated alike and do not depend on the order in which they came; in the first one there are none, and
    scores enter as they are.
    """

    weight: float = 1.0
    gate: bool = False
    when: When = "turn"
    length_control: bool = False
    normalise: bool = False
    clip: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"`weight` must be a finite number, not {self.weight}")
        if self.gate and self.when == "potential":
            raise ValueError("a gate multiplies what others give, so it cannot have `when=potential`")
        if self.gate and self.normalise:
            raise ValueError("a gate is a share from 0 to 1: leave `normalise` at false")
        if self.clip is not None:
            bounds = [*self.clip]
            if len(bounds) != 2 or not bounds[0] < bounds[1]:
                raise ValueError(f"`clip` must be the lowest and the highest value, such as [-3, 3], not {bounds}")

    def clipped(self, value: float) -> float:
        """The value inside the bounds."""
        return value if self.clip is None else min(self.clip[1], max(self.clip[0], value))
