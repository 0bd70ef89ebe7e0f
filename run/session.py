"""The frame of a run that makes requests: its usage ledger, and the reaction to signals and spent budgets."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ..core.errors import Interrupted, RunStopped
from ..inference.client import InferenceClient
from .run_folder import Run

LEDGER = "ledger.json"
"""Its place in the run folder."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_SECOND_SIGNAL_S = 5.0
"""After the second signal the process has so long to write its summary."""


class SecondSignal(KeyboardInterrupt):
    """A second signal: the process ends now.

    Attributes:
        signal: Its number.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


@contextmanager
def session(run: Run, client: InferenceClient) -> Iterator[None]:
    """Records usage in the run folder, and ends the run without losing an answer when a budget is spent or a signal comes.

    When a budget is spent or a first signal comes, the calls under way are waited for. What was spent, also by earlier
    parts of a resumed run, is in the summary under ``spent``.

    Args:
        run: Inside its ``with`` block.
        client: The run's client.

    Yields:
        Nothing.
    """
    with client.ledger(run.folder / LEDGER), graceful(client):
        try:
            yield
        except RunStopped as reason:
            client.stop(reason)
            client.run(client.idle())
            raise
        finally:
            run.summary["spent"] = client.spent()


@contextmanager
def graceful(client: InferenceClient) -> Iterator[None]:
    """Stops the client at the first signal: calls under way end and are kept, no new one begins.

    The second one raises `SecondSignal`, and a few seconds later ends the process wherever it hangs; a third one does so at
    once. Outside the main thread, where Python delivers no signals, nothing changes.

    Args:
        client: The run's client.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    came: list[int] = []
    ending: list[threading.Timer] = []

    def handle(number: int, frame: FrameType | None) -> None:
        came.append(number)
        name = signal.Signals(number).name
        if len(came) > 2:
            os._exit(128 + number)
        if len(came) == 2:
            ending.append(threading.Timer(_SECOND_SIGNAL_S, os._exit, (128 + number,)))
            ending[0].daemon = True
            ending[0].start()
            raise SecondSignal(f"{name}, the second signal", number)
        client.stop(Interrupted(f"stopped by {name}", number))
        with suppress(OSError):  # nobody may read it any more
            print(  # noqa: T201  (nothing else reaches the terminal at once)
                f"{name}: ending when the requests under way have been answered; once more to end now", file=sys.stderr
            )

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for timer in ending:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
