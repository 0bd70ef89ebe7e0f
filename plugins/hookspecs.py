"""The hooks that a plugin may implement. pluggy's project name, the entry-point group and the prefix: ``duologue``.

All hooks are synchronous and fast; what takes time is done by the judges that they hand out, which are asynchronous.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from .lifecycle import RolloutStats, RunInfo
    from .registrar import JudgeRegistrar
    from .verdict import Score, Turn

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
    """


@hookspec(firstresult=True)
def duologue_reward(turn: Turn, verdicts: Mapping[str, Score], weights: Mapping[str, float]) -> float | None:
    """Folds the scores of one turn into its reward; the first result that is not None wins.

    Called once per judged turn, on the event loop's thread: it must not block. ``verdicts`` holds the scores of the
    weighted judges only, abstentions left out, and is never empty; turns with a failure do not come here, and gates
    multiply what this hook returns. The built-in implementation (``trylast``) is the weighted sum. None from all of
    them, or a result that is not finite, counts as a failure of the turn.
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
    """
