"""Hands work to a tracker in a thread of its own, so that a slow or broken one costs a run neither time nor its end."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable

from ...inference.saying import printable


class Courier:
    """One tracker's thread. The first failure ends its work, with one line on standard error.

    Args:
        name: The tracker's, for that line.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._deliver, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def hand(self, work: Callable[[], object]) -> None:
        """Adds work; it is done after what was handed before, or never if something failed."""
        self._work.put(work)

    def close(self, timeout_s: float) -> None:
        """Waits for the work, so long at most."""
        self._work.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._say(f"it was still busy after {timeout_s:g} s, and is left behind")

    def _deliver(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except ModuleNotFoundError as error:
                self._say(f"it needs the package `{error.name}`: run `pip install 'duologue[trackers]'`")
                return
            except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a stranger's client raises)
                self._say(f"{type(error).__name__}: {error}")
                return

    def _say(self, reason: str) -> None:
        line = f"tracker {self._name} was given up, and the run goes on without it: {reason}"
        print(printable(" ".join(line.split())[:600]), file=sys.stderr)  # noqa: T201
