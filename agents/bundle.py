"""A trained policy as a folder: weights as safetensors, everything else as JSON. No pickle is ever loaded from it.

policy.safetensors   the network's weights
policy.json          interface, encoder, network, spaces, task, versions, digest of the configuration
README.md            the card: what it is and what was measured
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch as th
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from stable_baselines3.common.policies import BasePolicy

from ..envs.interfaces import ActionInterface, make_interface
from ..envs.observation import Observer
from ..inference.client import InferenceClient
from ..inference.encoders import Encoder, make_encoder
from ..inference.errors import ConfigError, near_miss
from .networks import NETWORKS
from .policies import TorchPolicy

FORMAT = 1


@dataclass(frozen=True)
class Bundle:
    """A policy with what it needs to act.

    Attributes:
        policy: What acts.
        interface: What its actions mean.
        encoder: What its observations are made with.
        settings: The rest of ``policy.json``.
        folder: Where it was loaded from.
    """

    policy: TorchPolicy
    interface: ActionInterface
    encoder: Encoder
    settings: Mapping[str, Any]
    folder: Path


def save_bundle(
    folder: Path,
    network: BasePolicy,
    name: str,
    network_arguments: Mapping[str, Any],
    interface: ActionInterface,
    encoder: Encoder,
    settings: Mapping[str, Any],
) -> None:
    """Writes a bundle; the folder appears complete or not at all.

    Args:
        folder: Where; replaced if it exists.
        network: The trained network.
        name: Its key in `NETWORKS`.
        network_arguments: What the network was built with besides its spaces.
        interface: What its actions mean.
        encoder: What its observations are made with.
        settings: Further plain values for ``policy.json``: task, model, versions, digest, results.
    """
    record = {
        "format": FORMAT,
        "network": {"name": name, "arguments": dict(network_arguments)},
        "interface": dict(interface.settings),
        "encoder": encoder.settings,
        "observation_space": _shapes(network.observation_space),
        "action_space": str(network.action_space),
        **settings,
    }
    half = folder.with_name(folder.name + ".partial")
    half.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(weights, half / "policy.safetensors")
    (half / "policy.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (half / "README.md").write_text(_card(record), encoding="utf-8")
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    half.rename(folder)


def load_bundle(
    folder: str | Path, client: InferenceClient | None = None, device: str = "cpu", *, trusted: bool = False
) -> Bundle:
    """Reads a bundle.

    Args:
        folder: The bundle, or the run folder that holds it.
        client: For encoders that call an endpoint.
        device: Where the network acts.
        trusted: Whether the bundle may name interfaces and encoders outside this package, which imports their code.

    Raises:
        ConfigError: If the folder is no bundle, is of a later format, or does not fit its own description.
    """
    folder = Path(folder)
    if (folder / "bundle").is_dir():
        folder = folder / "bundle"
    try:
        record = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "policy.safetensors", device=device)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"{folder} is no bundle ({error}): give the folder that `duologue train` wrote") from error
    if record.get("format") != FORMAT:
        raise ConfigError(f"{folder} has bundle format {record.get('format')}, and this version reads {FORMAT}")
    interface = make_interface(record["interface"], custom=trusted)
    encoder = make_encoder(record["encoder"], client, custom=trusted)
    space = Observer(encoder, interface).space
    if _shapes(space) != record["observation_space"]:
        raise ConfigError(f"{folder} was made with other observations than this version builds: train it again")
    network = build_network(record["network"]["name"], record["network"]["arguments"], space, interface)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(f"{folder}: the weights do not fit the network that `policy.json` names") from error
    return Bundle(TorchPolicy(network.to(th.device(device)), interface.mask), interface, encoder, record, folder)


def build_network(
    name: str, arguments: Mapping[str, Any], space: spaces.Dict, interface: ActionInterface
) -> BasePolicy:
    """Builds an untrained network.

    Raises:
        ConfigError: If there is no such network, or it refuses the arguments.
    """
    if name not in NETWORKS:
        raise ConfigError(f"there is no network `{name}`: {near_miss(name, NETWORKS)}")
    try:
        return NETWORKS[name](space, interface.action_space, lambda _: 0.0, **arguments)
    except TypeError as error:
        raise ConfigError(f"`agent.policy_kwargs` was refused: {error}") from error


def _shapes(space: spaces.Space[Any]) -> dict[str, list[int]]:
    assert isinstance(space, spaces.Dict)
    return {name: list(box.shape or ()) for name, box in sorted(space.items())}


def _card(record: Mapping[str, Any]) -> str:
    """A page for people."""
    judges = ", ".join(f"`{name}`" for name in record.get("judges", []))
    return f"""\
# A `{record["interface"]["name"]}` policy for `{record.get("model", "unknown")}`

Made by Duologue {record.get("versions", {}).get("duologue", "?")}. Compare it with its baselines by
`duologue evaluate bundle=<this folder>`, or load it with `duologue.agents.load_bundle(folder)`.

* Encoder: `{record["encoder"]["name"]}`; network: `{record["network"]["name"]}`.
* Trained for {record.get("timesteps", "?")} turns with seed {record.get("seed", "?")} on the judges {judges}.
"""
