"""Finds the line of a user's own code in a traceback or in a running thread's stack."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable
from pathlib import Path
from traceback import walk_stack, walk_tb
from types import CodeType, FrameType
from typing import NamedTuple

_OURS = __name__.removesuffix("core.user_code")
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})


class Place(NamedTuple):
    """A line of code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        path = Path(self.file)
        here = Path.cwd()
        return f"{path.relative_to(here) if path.is_relative_to(here) else path}, line {self.line}"


def place_of(error: BaseException) -> Place | None:
    """Finds the line of a user's code that raised an exception; None if there is none."""
    return _user_place((frame, line) for frame, line in walk_tb(error.__traceback__))


def place_in(frame: FrameType) -> Place | None:
    """Finds the line of a user's code that a thread is executing; None if there is none."""
    return _user_place(reversed(list(walk_stack(frame))))


def _user_place(frames: Iterable[tuple[FrameType, int]]) -> Place | None:
    """The innermost line outside installed packages; else the outermost one in a package that is not ours."""
    own: list[Place] = []
    installed: list[Place] = []
    for frame, line in frames:
        code: CodeType = frame.f_code
        file, module = code.co_filename, str(frame.f_globals.get("__name__", ""))
        if module.startswith(_OURS) or file.startswith("<frozen"):
            continue
        place = Place(file, line, code.co_name)
        if file.startswith(_INSTALLED):
            installed.append(place)
        elif not file.startswith(_STANDARD):
            own.append(place)
    return own[-1] if own else installed[0] if installed else None
