"""What the lifecycle hooks are told of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunInfo:
    """One run: its command (``train``, ``evaluate``, ``run``), folder and resolved configuration."""

    command: str
    folder: Path
    config: Mapping[str, Any]


@dataclass(frozen=True)
class RolloutStats:
    """One rollout in figures.

    Attributes:
        index: Number of the rollout, from 0.
        timesteps: Transitions collected so far in the run.
        episodes: Attempts at episodes in this rollout, failed ones included.
        mean_reward: Mean reward per episode; None if all of them failed.
        scores: Mean of every judge's raw score.
        failures: Failed attempts in this rollout, by cause.
        replies: What the replies were like: mean ``words``, share of ``refusals``, mean ``repetition`` (share of word trigrams
            that occurred before in the reply), and ``action_entropy`` of the policy in nats.
        shares: By judge, which share of the reward's variance from turn to turn its term makes.
        alarms: Names of the alarms that were on after it, see `plugins.alarms`.
    """

    index: int
    timesteps: int
    episodes: int
    mean_reward: float | None
    scores: Mapping[str, float]
    failures: Mapping[str, int]
    replies: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    alarms: tuple[str, ...] = ()
