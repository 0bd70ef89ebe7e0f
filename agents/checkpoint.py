"""Checkpoints of a training: one file per run, written atomically, read without pickle.

A checkpoint holds the state between two rollouts. What was played since then is played again, and the cassette has the
answers.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch as th

from ..core.errors import ConfigError

VERSION = 1
_TENSORS = ("torch", "cuda")
"""The random states that are tensors."""

_NONE: Mapping[str, th.Tensor] = MappingProxyType({})


class Resumable(Protocol):
    """An agent whose training can go on from a file."""

    device: th.device

    def state(self) -> dict[str, Any]:
        """Everything that the training needs to go on: plain values, and tensors under ``policy`` and ``optimizer``."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Sets the agent to what `state` returned."""
        ...


def write_checkpoint(
    agent: Resumable, path: Path, notes: Mapping[str, Any], kept: Mapping[str, th.Tensor] = _NONE
) -> None:
    """Replaces the file at once; after a power loss there is the old one or the new one.

    Args:
        agent: Between two rollouts, or at the beginning of one.
        path: File to write.
        notes: Plain values of the caller's.
        kept: Tensors of the caller's.
    """
    state = agent.state()
    tensors = {name: state.pop(name) for name in ("policy", "optimizer")}
    tensors["torch"] = {name: value for name, value in state["progress"]["random"].items() if name in _TENSORS}
    tensors["kept"] = dict(kept)
    plain = json.dumps({"version": VERSION, "notes": notes, **state}, default=_plain)
    content = io.BytesIO()
    th.save({"tensors": tensors, "plain": plain}, content)
    half = path.with_name(path.name + ".partial")
    with half.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_checkpoint(agent: Resumable, path: Path) -> dict[str, Any]:
    """Restores an agent from a checkpoint.

    Args:
        agent: Agent built from the same configuration.
        path: The checkpoint.

    Returns:
        The caller's notes, with its tensors, if there are any, as ``kept``.

    Raises:
        ConfigError: If the file is damaged, or of another agent.
    """
    try:
        loaded = th.load(path, map_location=agent.device, weights_only=True)
        plain = json.loads(loaded["plain"])
        if plain["version"] != VERSION:
            raise ValueError(f"its version is {plain['version']}, not {VERSION}")
        states = plain["progress"]["random"]
        states |= {name: _on_cpu(value) for name, value in loaded["tensors"].pop("torch").items()}
        kept = loaded["tensors"].pop("kept", {})
        agent.restore({**plain, **loaded["tensors"]})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{path} cannot be used: {reason}. Remove it to train from the beginning: the answers are in the cassette"
        ) from error
    return {**plain["notes"], "kept": kept} if kept else dict(plain["notes"])


def _on_cpu(value: Any) -> Any:
    return [_on_cpu(entry) for entry in value] if isinstance(value, list) else value.cpu()


def _plain(value: Any) -> Any:
    """Converts NumPy's scalars and arrays for JSON; tensors become null, because they are stored apart."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, th.Tensor):
        return None
    raise TypeError(f"a {type(value).__name__} cannot be part of a checkpoint")


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's global generators, those of the GPUs included."""
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": th.get_rng_state()}
    if th.cuda.is_available() and th.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = th.cuda.get_rng_state_all()
    return states


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Restores the states that `random_states` returned, directly or through JSON.

    The states of GPUs are left out where their number differs.

    Args:
        states: The states by generator.
    """
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.asarray(keys, np.uint32), *rest))
    th.set_rng_state(states["torch"])
    if "cuda" in states and th.cuda.is_available() and th.cuda.device_count() == len(states["cuda"]):
        th.cuda.set_rng_state_all(states["cuda"])
