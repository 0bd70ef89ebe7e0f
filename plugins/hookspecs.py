"""The hooks that a plugin may implement, and the data of the lifecycle hooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy


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
        shares: Share of the reward's variance between turns, by judge.
        alarms: Names of the alarms that were on after it, see `plugins.rewards.alarms`.
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


if TYPE_CHECKING:
    from .judge import Score, Turn
    from .registrar import JudgeRegistrar

PROJECT = "duologue"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a plugin's functions that implement a hook."""


@hookspec
def duologue_register_judges(register: JudgeRegistrar) -> None:
    """Offers judges by name. Called once per process, before any configuration is composed, in the main thread.

    Call ``register.judge(name, "package.module:Class", config=Dataclass, summary="…")`` once per judge. Do no I/O and
    import nothing heavy: the class is imported only when a run selects the judge. A name that is taken is an error
    that names both plugins.

    Args:
        register: Registers judges for the calling plugin.
    """


@hookspec(firstresult=True)
def duologue_reward(turn: Turn, verdicts: Mapping[str, Score], weights: Mapping[str, float]) -> float | None:
    """Folds the scores of one turn into its reward; the first result that is not None wins.

    Called once per judged turn, on the event loop's thread: it must not block. ``verdicts`` holds the scores of the
    weighted judges only, abstentions left out, and is never empty; turns with a failure do not come here, and gates
    multiply what this hook returns. The built-in implementation (``trylast``) is the weighted sum. None from all of
    them, or a result that is not finite, counts as a failure of the turn.

    Args:
        turn: The judged turn.
        verdicts: Scores by judge.
        weights: Weights by judge.

    Returns:
        The reward, or None to leave it to the next plugin.
    """


@hookspec
def duologue_run_start(run: RunInfo) -> None:
    """The run's folder exists and its configuration is fixed; nothing was asked yet. Called once, main thread."""


@hookspec
def duologue_rollout_end(run: RunInfo, stats: RolloutStats) -> None:
    """One rollout was collected and judged, the update has not begun. Main thread; must not block for long."""


@hookspec
def duologue_run_end(run: RunInfo, error: BaseException | None) -> None:
    """Called once for every ``duologue_run_start``, with what ended the run if it did not end well. Main thread.

    All that the run leaves is in its folder by then, with ``summary.json`` and the report. Of a run whose configuration was
    refused before it had results the folder is gone.

    Args:
        run: The run.
        error: What ended the run early
        None if it ended well.:
    """
