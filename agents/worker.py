"""What all processes are that share the work of another one: a client with its part of the limits, and books."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..inference.client import InferenceClient
from ..inference.errors import RunStopped
from .books import Books, divided


class Worker:
    """One of several processes; what it does is its subclass's business.

    Args:
        config: The resolved configuration of the whole.
        workers: How many share its limits.
        folder: Where relative paths begin, if it is there.
    """

    def __init__(self, config: Mapping[str, Any], workers: int, folder: str) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)
            sys.path.append(folder)  # for functions and classes of the user's own
        self.config = divided(config, workers)
        self.client = InferenceClient.from_settings(self.config["inference"])
        self.books = Books(self.client)

    def ready(self) -> bool:
        """True, once the worker could be built."""
        return True

    def stop(self, reason: RunStopped) -> None:
        """Lets the turns under way end and begins no other; from another thread."""
        self.client.stop(reason)

    def close(self) -> None:
        """Ends the client."""
        self.client.close()
