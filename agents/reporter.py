"""Reports a training while it runs: progress line, learning curves, validations, checkpoints, alarms, plugins' hooks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from ..core.run_files import PROGRESS, STEP, read_progress
from ..envs.policies import Policy
from ..inference.progress import ProgressLine
from ..plugins.hookspecs import RolloutStats
from ..plugins.manager import plugins
from ..plugins.rewards.alarms import AlarmWatch, describe_replies, mean_scores, variance_shares
from ..plugins.rewards.reward import Reward
from ..run.run_folder import Run
from .buffer import Trajectory
from .checkpoint import write_checkpoint
from .policies import TorchPolicy
from .ppo import DialoguePPO


def open_curves(folder: Path, timesteps: int) -> Logger:
    """Opens the logger of the learning curves; rows beyond ``timesteps`` are dropped, since they will be written again.

    Args:
        folder: The run folder.
        timesteps: Timesteps at which the run continues; 0 for a new run.

    Returns:
        The logger.
    """
    path, part = folder / PROGRESS, folder / f"{PROGRESS}.part"
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_progress(path) if timesteps else []
    table = CSVOutputFormat(str(part))
    for row in rows:
        if row.get(STEP, math.inf) <= timesteps:
            table.write(row, dict.fromkeys(row, ()))
    part.replace(path)  # at once, so that the rows are there at every moment; the open file goes along
    return Logger(str(folder), [table, TensorBoardOutputFormat(str(folder))])


Keep = Literal["best", "last"]
_NONE: Mapping[str, th.Tensor] = MappingProxyType({})


class Validator(Protocol):
    """Says how good a policy is on scenarios that it is not trained on.

    Attributes:
        every: Turns of training between two looks.
        keep: Which validated policy becomes the bundle.
    """

    every: int
    keep: Keep

    def validate(self, policy: Policy, timesteps: int) -> Mapping[str, Any]:
        """Validates a policy.

        ``win_rate`` is None where too much failed for a figure.

        Args:
            policy: The policy so far.
            timesteps: Turns it has learnt from.

        Returns:
            A row as in ``results`` of ``summary.json``, at least ``win_rate``, ``low`` and ``high``.
        """
        ...

    async def aclose(self) -> None:
        """Closes the validator; called once, on the client's loop."""
        ...


class Validation(BaseCallback):
    """A callback of `DialoguePPO.learn`: validates at the beginning of rollouts, and at the end of the training.

    Each validation is a row of its own in ``progress.csv``, and a point of the curves ``validation/…`` in TensorBoard, at
    the number of turns that the policy has learnt from. It draws no random numbers, so the training is the same with it.

    Args:
        validator: The validator.
        results: Results of an earlier part of a resumed run.
        weights: Weights of the best policy.

    Attributes:
        results: One row for each validation so far, with ``timesteps``.
        weights: Weights of the best policy so far; empty before the first validation.
    """

    def __init__(
        self, validator: Validator, results: Sequence[Mapping[str, Any]] = (), weights: Mapping[str, th.Tensor] = _NONE
    ) -> None:
        super().__init__()
        self._validator = validator
        self.results: list[dict[str, Any]] = [dict(row) for row in results]
        self.weights = weights

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the highest win rate, the earlier of equals; None before there is any."""
        decided = [row for row in self.results if row["win_rate"] is not None]
        return max(decided, key=lambda row: row["win_rate"], default=None)

    def summary(self) -> dict[str, Any]:
        """The validations' part of ``summary.json``: their rows, and the timesteps of the kept policy."""
        kept = self.best if self._validator.keep == "best" else None
        last = self.results[-1] if self.results else None
        return {"results": self.results, "kept": (kept or last or {}).get("timesteps")}

    def chosen(self, last: Mapping[str, th.Tensor]) -> Mapping[str, th.Tensor]:
        """The weights that are kept: those of the best policy, or else the last ones."""
        return self.weights if self._validator.keep == "best" and self.weights else last

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        seen = self.results[-1]["timesteps"] if self.results else 0
        if self.num_timesteps // self._validator.every > seen // self._validator.every:
            self._validate()

    def _on_training_end(self) -> None:
        if not self.results or self.results[-1]["timesteps"] < self.num_timesteps:
            self._validate()

    def _validate(self) -> None:
        policy = self.model.policy
        assert isinstance(policy, ActorCriticPolicy)
        before = self.best
        row = {"timesteps": self.num_timesteps, **self._validator.validate(TorchPolicy(policy), self.num_timesteps)}
        self.results.append(row)
        if self.best is not before:
            self.weights = {name: value.detach().cpu().clone() for name, value in policy.state_dict().items()}
        figures = {f"validation/{name}": row[name] for name in ("win_rate", "low", "high") if row[name] is not None}
        written = {STEP: self.num_timesteps, **figures}
        apart: dict[str, tuple[str, ...]] = {STEP: ("tensorboard",)}
        for output in self.logger.output_formats:  # apart from the logger's own row, which a rollout is still to fill
            output.write(written, {name: apart.get(name, ()) for name in written}, self.num_timesteps)


CHECKPOINT = "checkpoint.pt"
"""Its place in the run folder."""


class Reporter(BaseCallback):
    """A callback of `DialoguePPO.learn`.

    Args:
        run: The run, for its folder and summary.
        line: The progress line.
        reward: Reward whose judges are watched.
        notes: Notes in the checkpoint of a resumed run.
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
        """The rollouts' part of ``summary.json``: first and last reward, and alarms."""
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
        """Prints the latest validation."""
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


def rollout_stats(
    index: int, timesteps: int, played: Sequence[Trajectory], failures: Mapping[str, int]
) -> RolloutStats:
    """Summarises one rollout.

    Args:
        index: Number of the rollout, from 0.
        timesteps: Transitions collected so far in the run.
        played: Its episodes, at least one.
        failures: Failed attempts, by cause.

    Returns:
        The statistics.
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
