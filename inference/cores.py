"""How many cores this process may use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """The cores that the process is allowed to run on; where the system does not say, all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
