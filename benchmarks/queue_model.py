"""What a scheme of collection could reach if the client and the policy cost nothing: a discrete-event model.

A turn takes the sum of two log-normal latencies, one generation and one judge call; an episode goes to the slot that is
free first, as in `agents.rollouts`.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

CALLS, TURNS = 2, 3


def lock_step(slots: int, rng: np.random.Generator, sigma: float = 1.0) -> float:
    """Utilisation if every step waits for the slowest of all dialogues."""
    turns = _turns(rng, (4000, slots), sigma)
    return float(turns.mean() / turns.max(axis=1).mean())


def exact(slots: int, steps: int, rng: np.random.Generator, sigma: float = 1.0, rollouts: int = 20) -> float:
    """Utilisation of a queue of whole episodes that is played to its end before the update."""
    used = wall = 0.0
    for _ in range(rollouts):
        ends = [0.0] * slots
        for episode in _turns(rng, (round(steps * slots / TURNS), TURNS), sigma).sum(axis=1):
            heapq.heapreplace(ends, ends[0] + episode)
            used += episode
        wall += max(ends)
    return used / (wall * slots)


def _turns(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> npt.NDArray[np.float64]:
    turns: npt.NDArray[np.float64] = rng.lognormal(-(sigma**2) / 2, sigma, (*shape, CALLS)).sum(axis=-1)
    return turns
