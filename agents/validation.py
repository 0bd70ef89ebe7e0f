"""Looks at the policy every so many turns of its training, and remembers the best one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy

from ..envs.policies import Policy
from ..plugins.progress import STEP
from .policies import TorchPolicy

Keep = Literal["best", "last"]
_NONE: Mapping[str, th.Tensor] = MappingProxyType({})


class Validator(Protocol):
    """Says how good a policy is on scenarios that it is not trained on.

    Attributes:
        every: Turns of training between two looks.
        keep: Which of the policies that were looked at becomes the bundle.
    """

    every: int
    keep: Keep

    def validate(self, policy: Policy, timesteps: int) -> Mapping[str, Any]:
        """Returns a row as ``summary.json`` has it in ``results``: at least ``win_rate``, ``low`` and ``high``.

        ``win_rate`` is None where too much failed for a figure.
        """
        ...

    async def aclose(self) -> None:
        """Frees what it holds; called once, on the client's loop."""
        ...


class Validation(BaseCallback):
    """A callback of `DialoguePPO.learn`: validates at the beginning of rollouts, and at the end of the training.

    Each validation is a row of its own in ``progress.csv``, and a point of the curves ``validation/…`` in TensorBoard, at
    the number of turns that the policy has learnt from. It draws no random numbers, so the training is the same with it.

    Args:
        validator: Who judges.
        results: Those of an earlier part of a resumed run.
        weights: Those of its best policy.

    Attributes:
        results: One row for each validation so far, with ``timesteps``.
        weights: Of the best policy so far; empty before there is any.
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
        """What ``summary.json`` says of the validations: their rows, and the turns after which the kept policy stood."""
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
