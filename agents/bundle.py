"""A trained policy as a folder: weights as safetensors, everything else as JSON. No pickle is ever loaded from it.

policy.safetensors   the network's weights
policy.json          interface, encoder, network, spaces, task, versions, digest of the configuration
README.md            the card: what it is and what was measured

A bundle may come from a stranger. Unless the user trusts it, it names no code, no address and no environment variable, its
sizes are bounded before memory is allocated, and whatever is wrong with it is a `ConfigError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch as th
from gymnasium import spaces
from safetensors.torch import load_file
from safetensors.torch import save as as_safetensors
from stable_baselines3.common.policies import BasePolicy

from ..core.errors import ConfigError, near_miss
from ..core.files import MOST_BYTES, read_json
from ..envs.interfaces import ActionInterface, make_interface
from ..envs.observation import Observer
from ..inference.client import InferenceClient
from ..inference.encoders import Encoder, make_encoder
from ..inference.endpoint import Endpoint
from .policies import NETWORKS, TorchPolicy

FORMAT = 1

_MOST_REQUESTS = 64
"""Requests of one turn that an untrusted bundle may ask for."""

_MOST_DIM = 2**16
"""Length of an embedding that an untrusted bundle may ask for."""

_PROBE = Endpoint("https://assistant.invalid/v1", "assistant")
"""Shows which settings of an endpoint an interface changes."""


class _Network(msgspec.Struct):
    name: str
    arguments: dict[str, Any] = {}


class _Task(msgspec.Struct):
    system: str = ""
    max_turns: Annotated[int, msgspec.Meta(ge=1)] = 8


class _Record(msgspec.Struct):
    """The parts of ``policy.json`` that decide how the policy acts."""

    network: _Network
    interface: dict[str, Any]
    encoder: dict[str, Any]
    observation_space: dict[str, list[int]]
    assistant: dict[str, Any] = {}
    task: _Task = msgspec.field(default_factory=_Task)


@dataclass(frozen=True)
class Bundle:
    """A trained policy with its interface, encoder and settings.

    Attributes:
        policy: The acting policy.
        interface: Action interface of the policy.
        encoder: Encoder of the observations.
        settings: All of ``policy.json``.
        folder: Folder of the bundle.
        system: The system prompt that it was trained with.
        max_turns: Assistant turns after which a dialogue of its training was truncated.
        trusted: See `load_bundle`.
    """

    policy: TorchPolicy
    interface: ActionInterface
    encoder: Encoder
    settings: Mapping[str, Any]
    folder: Path
    system: str = ""
    max_turns: int = 8
    trusted: bool = False

    def endpoint(self, own: Mapping[str, Any] | None = None, *, capped: bool = True) -> Endpoint:
        """The frozen model's endpoint: the training's, changed by the user's own settings.

        An untrusted bundle gives the model's name, its sampling and the address of a model embedded here. Every other setting is
        the user's or the default.

        Args:
            own: Settings of `Endpoint`, which go first; ``sampling`` field by field, null to send none.
            capped: Whether the training's ``max_tokens`` holds. It keeps episodes short; users of a served model did not ask
                for it.

        Returns:
            The endpoint.

        Raises:
            ConfigError: If the user must name the address, or a setting is refused.
        """
        learnt: dict[str, Any] = dict(self.settings.get("assistant") or {})
        given = own or {}
        if not isinstance(given, Mapping):
            raise ConfigError(f"`upstream` must hold settings by name, not {given!r}")
        if not self.trusted:
            named = f"{learnt.get('base_url')} with the key in `{learnt.get('api_key_env')}`" if learnt else "nowhere"
            here = str(learnt.get("base_url")).startswith("embedded://")
            names = ("model", "sampling", "base_url") if here else ("model", "sampling")
            learnt = {name: learnt[name] for name in names if name in learnt}
            if "base_url" not in {**learnt, **given}:
                raise ConfigError(
                    f"`upstream.base_url` is missing: the address in {self.folder} ({named}) is only used if you trust the "
                    "bundle. Set `'upstream={base_url: …, api_key_env: …}'`, or `trusted=true` if the bundle is your own"
                )
        kept, changes = learnt.get("sampling") or {}, given.get("sampling") or {}
        for values in (kept, changes):
            if not isinstance(values, Mapping) or not isinstance(values.get("extra") or {}, Mapping):
                raise ConfigError(f"`upstream.sampling` must hold settings by name, not {values!r}")
        sampling = dict(kept)
        if sampling.get("extra") and not self.trusted and "extra" not in changes:
            raise ConfigError(
                f"{self.folder} adds {', '.join(f'`{name}`' for name in sampling['extra'])} to the body of every request: set "
                "`upstream.sampling.extra` yourself, or `trusted=true` if the bundle is your own"
            )
        if not capped:
            sampling.pop("max_tokens", None)
        endpoint = Endpoint.from_settings({**learnt, **given, "sampling": {**sampling, **changes}}, "upstream")
        return endpoint


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
        folder: Folder to write; replaced if it exists.
        network: The trained network.
        name: Its key in `NETWORKS`.
        network_arguments: Arguments of the network besides its spaces.
        interface: Action interface of the policy.
        encoder: Encoder of the observations.
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
    (half / "policy.safetensors").write_bytes(as_safetensors(weights))  # its `save_file` makes it the owner's alone
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
        device: Device of the network.
        trusted: Whether the bundle may name interfaces and encoders outside this package, which imports their code, and
            addresses with the environment variables whose keys are sent there.

    Returns:
        The bundle.

    Raises:
        ConfigError: If the folder is no bundle, is of a later format, does not fit its own description, or needs trust.
    """
    folder = bundle_folder(folder)
    settings, record = _read(folder)
    try:
        interface = make_interface(record.interface, custom=trusted)
        encoder = make_encoder(record.encoder, client, custom=trusted)
        if not trusted:
            _refuse_foreign(folder, interface, encoder)
        space = Observer(encoder, interface).space
    except ConfigError:
        raise
    except Exception as error:
        if trusted:  # the code may be the user's own
            raise
        raise ConfigError(f"{folder}: its interface or encoder was refused ({_said(error)})") from error
    if _shapes(space) != record.observation_space:
        raise ConfigError(f"{folder} was made with other observations than this version builds: train it again")
    network = load_network(folder, space, interface.action_space, device)
    policy, task = TorchPolicy(network, interface.mask), record.task
    return Bundle(policy, interface, encoder, settings, folder, task.system, task.max_turns, trusted)


def bundle_folder(folder: str | Path) -> Path:
    """The bundle's own folder, given it or the run folder that holds it."""
    folder = Path(folder).expanduser()
    return folder / "bundle" if (folder / "bundle").is_dir() else folder


def load_network(
    folder: Path, space: spaces.Space[Any], action_space: spaces.Space[Any], device: str = "cpu"
) -> BasePolicy:
    """Loads only the network of a bundle, for given spaces.

    Args:
        folder: The bundle's own folder.
        space: The observations that it gets.
        action_space: The actions that it chooses from.
        device: Device of the network.

    Returns:
        The network with its weights.

    Raises:
        ConfigError: If the folder is no bundle, or the network, its weights and the spaces do not fit each other.
    """
    _, record = _read(folder)
    path = folder / "policy.safetensors"
    try:
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        weights = load_file(path, device=device)
    except Exception as error:  # safetensors, torch and the system each have their own
        raise _no_bundle(folder, error) from error
    name, arguments = record.network.name, record.network.arguments
    if _least_weights(arguments) > sum(value.numel() for value in weights.values()):
        raise _unfit(folder)  # before memory is allocated for it
    network = build_network(name, arguments, space, action_space)
    try:
        network.load_state_dict(weights)
    except Exception as error:  # torch raises several kinds
        raise _unfit(folder) from error
    if not all(bool(th.isfinite(value).all()) for value in network.state_dict().values()):
        raise ConfigError(f"{folder}: its weights hold NaN or infinity, so that it cannot act: train it again")
    return network.to(th.device(device))


def build_network(
    name: str, arguments: Mapping[str, Any], space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> BasePolicy:
    """Builds an untrained network.

    Args:
        name: A key of `NETWORKS`.
        arguments: The network's own arguments.
        space: Observation space.
        action_space: Action space.

    Returns:
        The network.

    Raises:
        ConfigError: If there is no such network, or it refuses the arguments.
    """
    if name not in NETWORKS:
        raise ConfigError(f"there is no network `{name}`: {near_miss(name, NETWORKS)}")
    try:
        return NETWORKS[name](space, action_space, lambda _: 0.0, **arguments)
    except Exception as error:  # Stable-Baselines3 and torch check few of their arguments
        raise ConfigError(f"the network `{name}` was refused: {_said(error)}") from error


def _read(folder: Path) -> tuple[dict[str, Any], _Record]:
    """All of ``policy.json``, and its parts that decide how the policy acts."""
    try:
        values = read_json(folder / "policy.json", dict, MOST_BYTES)
    except ConfigError as error:
        raise _no_bundle(folder, error) from error
    if values.get("format") != FORMAT:
        raise ConfigError(f"{folder} has bundle format {_said(values.get('format'))}, and this version reads {FORMAT}")
    try:
        return values, msgspec.convert(values, _Record)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise _no_bundle(folder, error) from error


def _refuse_foreign(folder: Path, interface: ActionInterface, encoder: Encoder) -> None:
    """Refuses what only a trusted bundle may ask for: addresses, variables of keys, prices, many requests, large arrays."""
    trust = "set `trusted=true` if the bundle is your own"
    if interface.requests_per_turn > _MOST_REQUESTS:
        raise ConfigError(
            f"{folder} makes {interface.requests_per_turn:,} requests a turn, and without trust {_MOST_REQUESTS} are allowed: {trust}"
        )
    if encoder.dim > _MOST_DIM:
        raise ConfigError(f"{folder} has embeddings of {encoder.dim:,} numbers, and {_MOST_DIM:,} are allowed: {trust}")
    if encoder.endpoint is not None:
        asked = f"{encoder.endpoint.base_url} with the key in `{encoder.endpoint.api_key_env}`"
        raise ConfigError(f"{folder} sends the dialogues to {asked} for embeddings: {trust}")
    for name, own in interface.endpoints(_PROBE).items():
        if own.sampling.extra or replace(own, model=_PROBE.model, sampling=_PROBE.sampling) != _PROBE:
            raise ConfigError(
                f"{folder} sets more of the endpoint `{name}` than its `model` and `sampling` (its address is {own.base_url}, "
                f"its key in `{own.api_key_env}`): {trust}"
            )


def _least_weights(arguments: Any) -> int:
    """A lower bound on the number of weights of a network, from the widths of its layers; nothing is allocated."""
    if isinstance(arguments, Mapping):
        return sum(map(_least_weights, arguments.values()))
    if not isinstance(arguments, list):
        return 0
    widths = [width for width in arguments if isinstance(width, int) and width > 0]
    between = sum(one * other for one, other in pairwise(widths))
    return sum(widths) + between + sum(map(_least_weights, arguments))


def _no_bundle(folder: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{folder} is no bundle ({_said(error)}): give the folder that `duologue train` wrote")


def _unfit(folder: Path) -> ConfigError:
    return ConfigError(f"{folder}: the weights do not fit the network that `policy.json` names")


def _said(found: object) -> str:
    return " ".join(str(found).split())[:200] or type(found).__name__


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
