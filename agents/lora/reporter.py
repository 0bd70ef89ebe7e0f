"""Tells of a LoRA training while it goes on: the progress line, the curves, alarms, and the plugins' hook."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ...core.run_files import STEP
from ...inference.client import InferenceClient
from ...inference.progress import ProgressLine
from ...plugins.hookspecs import RolloutStats
from ...plugins.manager import plugins
from ...plugins.rewards.alarms import AlarmWatch, describe_replies, mean_scores, variance_shares
from ...plugins.rewards.reward import Reward
from ...run.run_folder import Run
from ..reporter import open_curves
from .rollouts import Play

NOTES = "duologue.json"
"""In a checkpoint's folder: what was told so far."""


class LoraReporter(TrainerCallback):  # type: ignore[misc]  # transformers is not read by the type checker
    """A callback of TRL's trainers.

    Args:
        run: The run, for its folder and summary.
        client: Whose end of a run by a signal ends the training, too, with a checkpoint.
        reward: Reward whose judges are watched; None without judges.
        resumed: The checkpoint with which the training goes on.

    Attributes:
        history: All rollouts so far.
        batches: Batches of dialogues so far, those of earlier parts of a resumed run included.
        steps: Updates so far.
    """

    def __init__(self, run: Run, client: InferenceClient, reward: Reward | None, resumed: Path | None) -> None:
        notes: dict[str, Any] = {}
        if resumed is not None and (resumed / NOTES).exists():
            notes = json.loads((resumed / NOTES).read_text(encoding="utf-8"))
        self.history = [RolloutStats(**{**stats, "alarms": (*stats["alarms"],)}) for stats in notes.get("history", [])]
        self._alarms = AlarmWatch(reward, notes.get("alarms", []))
        if reward is not None and "reward" in notes:
            reward.restore(notes["reward"])
        self.batches: int = notes.get("batches", 0)
        self._run, self._client, self._reward = run, client, reward
        self._plays: list[Play] = []
        self._turns = self.history[-1].timesteps if self.history else 0
        self._curves = open_curves(run.folder, self._turns)
        self._line: ProgressLine | None = None
        self._open = ExitStack()
        self._open.callback(self._curves.close)
        self.steps = 0
        self._losses: list[float] = notes.get("losses", [])

    def told(self, plays: Sequence[Play]) -> None:
        """Hears of the dialogues of a batch."""
        self.batches += 1
        self._plays += plays

    def close(self) -> None:
        """Ends the progress line and closes the curves' files."""
        self._open.close()

    def summary(self) -> dict[str, Any]:
        """The training's part of ``summary.json``."""
        rewards = [stats.mean_reward for stats in self.history]
        learnt: dict[str, Any] = {"steps": self.steps, "timesteps": self._turns, "alarms": self._alarms.told}
        if rewards:
            failures: Counter[str] = sum((Counter(stats.failures) for stats in self.history), Counter())
            learnt |= {"reward_first": rewards[0], "reward_last": rewards[-1], "failures": dict(failures)}
        if self._losses:
            learnt |= {"loss_first": self._losses[0], "loss_last": self._losses[-1]}
        return learnt

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Opens the progress line: the number of steps is known now."""
        self._line = self._open.enter_context(ProgressLine("training", state.max_steps, self._client.meter))

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Ends the training if the run was stopped."""
        self.steps = state.global_step
        if self._client.bounds.stopped is not None:
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Stores the reporter's state beside the checkpoint."""
        notes = {
            "history": [asdict(stats) for stats in self.history],
            "alarms": self._alarms.told,
            "losses": self._losses,
            "batches": self.batches,
            **({} if self._reward is None else {"reward": self._reward.state()}),
        }
        path = Path(args.output_dir, f"checkpoint-{state.global_step}", NOTES)
        path.write_text(json.dumps(notes), encoding="utf-8")
        self._run.keep()

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **rest: Any) -> None:
        """Writes a row of the curves, and reports the rollout if there was one."""
        row = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "train_runtime" in row:  # the sums at the end
            return
        if "loss" in row:
            self._losses.append(row["loss"])
        if self._plays:
            self._rollout(row)
        for name, value in row.items():
            if math.isfinite(value):
                self._curves.record(f"train/{name}", value)
        self._curves.record(STEP, self._turns or state.global_step)
        self._curves.dump(self._turns or state.global_step)
        if self._line is not None:
            mean = self.history[-1].mean_reward if self.history else None
            figure = f"loss {row.get('loss', math.nan):.3f}" if mean is None else f"reward {mean:.3f}"
            self._line.update(state.global_step, figure)

    def _rollout(self, row: Mapping[str, float]) -> None:
        plays, self._plays = self._plays, []
        self._run.keep()
        self._turns += sum(len(play.rewards) for play in plays)
        stats = rollout_stats(len(self.history), self._turns, plays, row.get("entropy"))
        stats = self._alarms.after(self.history, stats, self._say)
        self.history.append(stats)
        if stats.mean_reward is not None:
            self._curves.record("rollout/ep_rew_mean", stats.mean_reward)
        self._curves.record("rollout/failures", sum(stats.failures.values()))
        for name, value in {**stats.replies, "alarms": len(stats.alarms)}.items():
            self._curves.record(f"rollout/{name}", value)
        for name, value in stats.scores.items():
            self._curves.record(f"reward/{name}", value)
        plugins().hook.duologue_rollout_end(run=self._run.info, stats=stats)

    def _say(self, text: str) -> None:
        if self._line is not None:
            self._line.say(text)


def rollout_stats(index: int, timesteps: int, plays: Sequence[Play], entropy: float | None) -> RolloutStats:
    """Summarises one rollout; failed dialogues count as failures only.

    Args:
        index: Number of the rollout, from 0.
        timesteps: Assistant turns so far in the run.
        plays: Its dialogues.
        entropy: Entropy of the model's tokens, in nats.

    Returns:
        The statistics.
    """
    whole = [play for play in plays if play.failure is None]
    infos = [info for play in whole for info in play.infos]
    tokens = {} if entropy is None else {"action_entropy": entropy}
    return RolloutStats(
        index=index,
        timesteps=timesteps,
        episodes=len(plays),
        mean_reward=round(sum(sum(play.rewards) for play in whole) / len(whole), 6) if whole else None,
        scores=mean_scores(infos),
        failures=dict(Counter(play.failure.cause for play in plays if play.failure is not None)),
        replies={**describe_replies([info["reply"] for info in infos]), **tokens},
        shares=variance_shares(infos),
    )
