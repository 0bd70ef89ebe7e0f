"""Lines of text in the terminal."""

from __future__ import annotations

from rich.console import Console


def say(text: str, console: Console | None = None) -> None:
    """Prints a text as it is: not broken into lines, and no bracket in it is taken for markup.

    Args:
        text: A line.
        console: Where; standard output by default.
    """
    (console or Console()).print(text, soft_wrap=True, highlight=False, markup=False)
