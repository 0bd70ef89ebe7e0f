"""Progress of a run: a bar in a terminal, occasional plain lines in a log file."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from ..core.console import Console, say
from .budget.usage import Meter

_LINE_EVERY_S = 20.0


class ProgressLine:
    """Shows progress together with requests and tokens per second.

    Args:
        title: Title of the progress line.
        total: Steps until it is done.
        meter: Counts requests.
        console: Where it is shown; standard error by default.
    """

    def __init__(self, title: str, total: int, meter: Meter, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._title, self._total, self._meter = title, total, meter
        self._done = 0
        self._figure = ""
        self._paid_before = meter.total.paid
        self._printed = self._started = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24 if self._console.width >= 100 else 10),
            MofNCompleteColumn(),
            # the only column that gives way where a terminal is narrow
            TextColumn("{task.fields[figures]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._live,
            expand=True,
        )
        self._task = self._bar.add_task(title, total=total, figures="")

    def update(self, done: int, figure: str = "") -> None:
        """Shows how many steps are done, and one figure of the caller's choice such as ``reward 0.52``."""
        self._done = min(done, self._total)
        self._figure = figure or self._figure
        self._bar.update(self._task, completed=self._done, figures=self._figures())
        now = time.monotonic()
        if not self._live and now - self._printed >= _LINE_EVERY_S:
            self._printed = now
            self._print()

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        say(text, self._console)

    def _figures(self) -> str:
        requests = self._meter.total.paid - self._paid_before
        parts = [self._figure, f"{requests:,} requests", f"{self._meter.tokens_per_s:,.0f} tokens/s"]
        return " · ".join(part for part in parts if part)

    def _print(self) -> None:
        seconds = time.monotonic() - self._started
        say(f"{self._title} {self._done}/{self._total} · {self._figures()} · {seconds:.0f} s", self._console)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.update(self._task, figures=self._figures())
        self._bar.stop()
        if not self._live and error is None:
            self._print()
