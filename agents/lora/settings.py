"""The part ``agent`` of the configuration for `grpo` and `dpo`: our own settings, PEFT's under ``lora``, and else TRL's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ...core.errors import ConfigError, near_miss
from ...core.settings import construct

OURS = (
    "output_dir",
    "seed",
    "data_seed",
    "report_to",
    "logging_steps",
    "disable_tqdm",
    "run_name",
    "remove_unused_columns",
)
"""Settings of TRL that the run decides."""


@dataclass(frozen=True)
class LoraSettings:
    """Our own settings of a LoRA training.

    Attributes:
        model: The local model that learns to write, see `load_local_model`.
        adapter: The folder of an adapter with which it begins; None for a new one.
        lora: Arguments of `peft.LoraConfig`, for a new one.
        pairs: Of `dpo`: a file of preference pairs, as `duologue export pairs` writes them.
        gamma: Of `grpo`: discount of a dialogue's later turns.
        max_failure_fraction: Of `grpo`: share of failed dialogues, over the last 50, above which the run stops.
    """

    model: str = "embedded://smollm2"
    adapter: str | None = None
    lora: Mapping[str, Any] = field(default_factory=dict)
    pairs: str | None = None
    gamma: float = 1.0
    max_failure_fraction: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"`gamma` must be from 0 to 1, not {self.gamma}")


def read_settings(agent: Mapping[str, Any]) -> tuple[LoraSettings, dict[str, Any]]:
    """Separates our own settings from TRL's.

    Args:
        agent: The configuration's part ``agent``.

    Returns:
        Our settings, and TRL's by name.

    Raises:
        ConfigError: If a value is refused, or is not for the user to set.
    """
    values = {name: value for name, value in agent.items() if name != "name"}
    names = {entry.name for entry in fields(LoraSettings)}
    own = construct(LoraSettings, {name: values.pop(name) for name in names & set(values)}, "agent")
    if fixed := [name for name in values if name in OURS]:
        raise ConfigError(f"`agent.{fixed[0]}` is decided by the run itself: leave it out")
    return own, values


def trl_arguments(kind: type, settings: Mapping[str, Any], **own: Any) -> Any:
    """Builds the arguments of one of TRL's trainers.

    Args:
        kind: Its configuration class, such as `GRPOConfig`.
        settings: Settings with TRL's names.
        **own: Those that the run decides.

    Returns:
        An instance of ``kind``.

    Raises:
        ConfigError: If TRL has no such setting, or refuses a value.
    """
    known = [entry.name for entry in fields(kind) if entry.init]
    for name in settings:
        if name not in known:
            trainer = kind.__name__.removesuffix("Config")
            raise ConfigError(f"`agent.{name}` is not a setting of TRL's {trainer}: {near_miss(name, known)}")
    try:
        return kind(**settings, **own)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`agent` was refused: {' '.join(str(error).split())}") from error
