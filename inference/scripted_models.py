"""The names of models that answer by a rule, and the process's one server of each.

A name is an address ``embedded://<name>``; the server is only imported when it is first asked, see `inference.scripted`.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.settings import load

if TYPE_CHECKING:
    from .scripted import ScriptedServer

_makers: dict[str, str] = {}
_servers: dict[str, ScriptedServer] = {}
_guard = threading.Lock()


def register_scripted(maker: str, names: Sequence[str]) -> None:
    """Makes ``embedded://<name>`` known for every name.

    Args:
        maker: The dotted path of a function from a name to an `Answer`; imported at the first request.
        names: Names of the models.
    """
    _makers.update(dict.fromkeys(names, maker))


def scripted_names() -> list[str]:
    """The registered names."""
    return sorted(_makers)


def scripted_server(name: str) -> ScriptedServer:
    """The process's one server of a registered name, started at the first call and stopped at exit."""
    with _guard:
        if name not in _servers:
            from .scripted import ScriptedServer

            _servers[name] = ScriptedServer(load(_makers[name], f"embedded://{name}")(name))
            atexit.register(_servers[name].stop)
        return _servers[name]
