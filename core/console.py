"""Text in the terminal. What comes from outside (replies, errors, names in files) cannot steer it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import rich.console
from rich.segment import Segment

_STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tab and line feed; those that turn the direction of writing; and halves of characters."""


def printable(text: str) -> str:
    """A text with every character that steers a terminal written out as Python would."""
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Console(rich.console.Console):  # noqa: TID251  (here it is made safe)
    """A terminal to which every text is `printable`; only rich's own styles steer it."""

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Renders as rich does, and makes each text printable."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control or not _STEERS.search(text) else Segment(printable(text), style)


def say(text: str, console: Console | None = None) -> None:
    """Prints a text unchanged: without line breaks and without markup.

    Args:
        text: A line.
        console: Where; standard output by default.
    """
    (console or Console()).print(text, soft_wrap=True, highlight=False, markup=False)
