"""The states of all random generators that training draws from, for agents that go on where they were saved."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's global generators, those of the GPUs included."""
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": th.get_rng_state()}
    if th.cuda.is_available() and th.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = th.cuda.get_rng_state_all()
    return states


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Sets the generators to what `random_states` returned.

    The states of GPUs are left out where their number differs.
    """
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    th.set_rng_state(states["torch"])
    if "cuda" in states and th.cuda.is_available() and th.cuda.device_count() == len(states["cuda"]):
        th.cuda.set_rng_state_all(states["cuda"])
