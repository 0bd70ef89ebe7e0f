"""The training of agents that `duologue train` only watches: a progress line, the curve, and what the summary says."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from ..envs.task import Task
from ..inference.progress import ProgressLine
from ..plugins.progress import PROGRESS, STEP
from ..plugins.run_folder import Run
from .bandits import Tell


class Learner(Protocol):
    """An agent that learns by itself and tells how it goes."""

    @property
    def turns(self) -> int:
        """Turns so far."""
        ...

    @property
    def failures(self) -> Counter[str]:
        """What failed, by cause."""
        ...

    def learn(self, tell: Tell, on_step: Callable[[], None]) -> None:
        """Learns; see `agents.bandits.Bandit.learn`."""
        ...


def learn_plainly(agent: Learner, steps: int, run: Run, task: Task) -> None:
    """Trains; ``progress.csv`` gets the mean return of the episodes by the turns so far.

    A run that was ended begins anew: what it asked is in the cassette.

    Args:
        agent: Who learns.
        steps: Turns, for the progress line.
        run: Whose folder and summary are kept.
        task: What is played.
    """
    rewards: list[float] = []
    try:
        with (
            ProgressLine("training", steps, task.client.meter) as line,
            (run.folder / PROGRESS).open("w", encoding="utf-8", newline="") as file,
        ):
            rows = csv.writer(file)
            rows.writerow([STEP, "rollout/ep_rew_mean"])

            def tell(turns: int, reward: float) -> None:
                rows.writerow([turns, reward])
                rewards.append(reward)

            done = itertools.count(1)
            agent.learn(tell, lambda: line.update(next(done), f"reward {rewards[-1]:.3f}" if rewards else ""))
    finally:
        run.summary |= {
            "timesteps": agent.turns,
            "failures": dict(agent.failures),
            "alarms": [],
            "reward_first": rewards[0] if rewards else None,
            "reward_last": rewards[-1] if rewards else None,
        }
        if task.reward is not None:
            task.client.run(task.reward.aclose())
