"""Tells of a training while it goes on: the progress line, checkpoints, alarms, and the plugins' hook."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from ..inference.progress import ProgressLine
from ..plugins.alarms import AlarmWatch
from ..plugins.lifecycle import RolloutStats
from ..plugins.manager import plugins
from ..plugins.reward import Reward
from ..plugins.rollout_figures import describe_replies, mean_scores, variance_shares
from ..plugins.run_folder import Run
from .checkpoint import write_checkpoint
from .played import Played
from .ppo import DialoguePPO
from .validation import Validation

CHECKPOINT = "checkpoint.pt"
"""Its place in the run folder."""


class Reporter(BaseCallback):
    """A callback of `DialoguePPO.learn`.

    Args:
        run: Whose folder and summary are kept.
        line: The progress line.
        reward: Whose judges are watched.
        notes: What an earlier part of a resumed run left in its checkpoint.
        validation: Called before this callback; what it found is told and kept.

    Attributes:
        history: All rollouts so far.
    """

    def __init__(
        self,
        run: Run,
        line: ProgressLine,
        reward: Reward | None,
        notes: Mapping[str, Any],
        validation: Validation | None = None,
    ) -> None:
        super().__init__()
        self._run, self._line, self._validation = run, line, validation
        self._told = 0 if validation is None else len(validation.results)
        self._returns: deque[float] = deque(maxlen=100)
        self.history = [RolloutStats(**{**stats, "alarms": (*stats["alarms"],)}) for stats in notes.get("history", [])]
        self._alarms = AlarmWatch(reward, notes.get("alarms", []))
        self._logged: Mapping[str, float] = notes.get("logged", {})

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says of the rollouts: the first and the last reward, and the alarms."""
        rewards = [stats.mean_reward for stats in self.history]
        return {
            "reward_first": rewards[0] if rewards else None,
            "reward_last": rewards[-1] if rewards else None,
            "alarms": self._alarms.told,
            **({} if self._validation is None else {"validation": self._validation.summary()}),
        }

    def _on_training_start(self) -> None:
        for name, value in self._logged.items():  # of the update before the checkpoint, which the next row shows
            self.logger.record(name, value)

    def _on_rollout_start(self) -> None:
        self._tell()
        self._write_checkpoint()

    def _on_training_end(self) -> None:
        self._tell()
        self._write_checkpoint()

    def _tell(self) -> None:
        """Says what the latest validation found."""
        results = [] if self._validation is None else self._validation.results
        for row in results[self._told :]:
            wins = "too much failed for a win rate"
            if row["win_rate"] is not None:
                wins = f"wins {row['win_rate']:.1%} ({row['low']:.1%} to {row['high']:.1%}) against {row['baseline']}"
            self._line.say(f"validation after {row['timesteps']:,} turns: {wins}")
        self._told = len(results)

    def _write_checkpoint(self) -> None:
        assert isinstance(self.model, DialoguePPO)
        if self.model.num_timesteps:
            logged = {name: value for name, value in self.logger.name_to_value.items() if value is not None}
            notes = {
                "history": [asdict(stats) for stats in self.history],
                "alarms": self._alarms.told,
                "logged": logged,
            }
            kept: Mapping[str, Tensor] = {}
            if self._validation is not None:
                notes["validation"], kept = self._validation.results, self._validation.weights
            write_checkpoint(self.model, self._run.folder / CHECKPOINT, notes, kept)
            self._run.keep()

    def _on_step(self) -> bool:
        self._returns.extend(info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
        figure = f"reward {sum(self._returns) / len(self._returns):.3f}" if self._returns else ""
        self._line.update(self.num_timesteps, figure)
        return True

    def _on_rollout_end(self) -> None:
        self._run.keep()
        stats = rollout_stats(len(self.history), self.num_timesteps, self.locals["played"], self.locals["failures"])
        stats = self._alarms.after(self.history, stats, self._line.say)
        self.history.append(stats)
        for name, value in {**stats.replies, "alarms": len(stats.alarms)}.items():
            self.logger.record(f"rollout/{name}", value)
        plugins().hook.duologue_rollout_end(run=self._run.info, stats=stats)


def rollout_stats(index: int, timesteps: int, played: Sequence[Played], failures: Mapping[str, int]) -> RolloutStats:
    """One rollout in figures.

    Args:
        index: Number of the rollout, from 0.
        timesteps: Transitions collected so far in the run.
        played: Its episodes, at least one.
        failures: Failed attempts, by cause.
    """
    infos = [transition.info for episode in played for transition in episode.transitions]
    log_probs = [log_prob for episode in played for log_prob in episode.log_probs]
    return RolloutStats(
        index=index,
        timesteps=timesteps,
        episodes=len(played) + sum(failures.values()),
        mean_reward=round(sum(episode.episode_return for episode in played) / len(played), 6),
        scores=mean_scores(infos),
        failures=dict(failures),
        replies={**describe_replies([info["reply"] for info in infos]), "action_entropy": -float(np.mean(log_probs))},
        shares=variance_shares(infos),
    )
