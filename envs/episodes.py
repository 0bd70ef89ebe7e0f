"""Which scenario an episode plays: a pure function of the seed and the episode's number.

Scenarios are bound to the episode's number and never to the slot that happens to be free: slots that always play the
same scenarios, or finish quick ones first, bias the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..inference.errors import ConfigError
from .scenarios import Scenario


@dataclass(frozen=True)
class Episode:
    """One episode to play: its number, its scenario, and which repetition (``draw``) of that scenario's sampling."""

    number: int
    scenario: Scenario
    draw: int = 0


@dataclass(frozen=True)
class Curriculum:
    """Deals scenarios in epochs: every epoch plays each scenario once, in an order of its own.

    Attributes:
        scenarios: What is dealt.
        draws: Independent repetitions of each scenario's sampling that are ever asked for. With 1 the second epoch
            meets the same candidates again, which the cassette gives for nothing; None never repeats.
    """

    scenarios: Sequence[Scenario]
    draws: int | None = 1

    def __post_init__(self) -> None:
        if self.draws is not None and self.draws < 1:
            raise ConfigError(f"`env.draws` must be at least 1, or null, not {self.draws}")

    def episode(self, seed: int, number: int) -> Episode:
        """The episode with this number, from 0, of the run with this seed."""
        epoch, place = divmod(number, len(self.scenarios))
        draw = epoch if self.draws is None else epoch % self.draws
        return Episode(number, self.scenarios[_order(seed, epoch, len(self.scenarios))[place]], draw)


@lru_cache(maxsize=16)
def _order(seed: int, epoch: int, count: int) -> tuple[int, ...]:
    """In which order an epoch deals; kept, because all of its episodes ask."""
    return tuple(np.random.default_rng([seed, epoch]).permutation(count).tolist())
