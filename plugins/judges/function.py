"""A user's function as a judge."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from ...core.settings import load
from ..judge import Abstain, Failure, Score, Turn, TurnJudge, Verdict


class FunctionJudge(TurnJudge):
    """Calls a function with each `Turn`.

    It returns a number, a verdict, or None to abstain. It may be asynchronous. What it raises is a failure.

    Args:
        function: Dotted path, ``package.module:function``.
        threaded: Whether it is called on another thread: for functions that compute or wait for long. The function must
            then be safe to call from several threads.

    Raises:
        ConfigError: If it cannot be imported.
    """

    name = "python"
    summary = "a function of your own, by its dotted path"
    concurrent = True  # each turn is a call of its own

    def __init__(self, function: str = "", threaded: bool = False) -> None:
        if not function:
            raise ValueError("`function` is empty: name one as `package.module:function`")
        self._function: Any = load(function, "function")
        self._threaded = threaded
        self.needs_last = bool(getattr(self._function, "needs_last", False))
        if threaded and inspect.iscoroutinefunction(self._function):
            raise ValueError(f"`{function}` is asynchronous: leave `threaded` at false")

    async def judge(self, turn: Turn) -> Verdict:
        """Judges one turn."""
        try:
            found = await asyncio.to_thread(self._function, turn) if self._threaded else self._function(turn)
            if inspect.isawaitable(found):
                found = await found
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001  (whatever a stranger's function does, `sys.exit` too)
            return Failure.raised(error)
        if found is None:
            return Abstain("the function returned None")
        if isinstance(found, Score | Abstain | Failure):
            return found
        if isinstance(found, bool) or not isinstance(found, int | float):
            try:
                found = float(found)  # NumPy's and torch's scalars, and booleans
            except (TypeError, ValueError):
                return Failure(f"the function returned {type(found).__name__}, not a number, a verdict or None")
        return Score(float(found))
