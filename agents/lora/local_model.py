"""Loads local models: SmolLM2 from its package, or any causal language model that transformers can load."""

from __future__ import annotations

import copy
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch as th
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from ...core.concurrency import available_cores
from ...core.errors import ConfigError
from ...inference.embedded import weights_path


@contextmanager
def quiet() -> Iterator[None]:
    """While it is open: no deprecations between TRL, PEFT and transformers, no bars, no word of completions without a reward."""
    logger = logging.getLogger("trl")
    before, silence = logger.level, os.environ.get("TRL_EXPERIMENTAL_SILENCE")
    bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    logger.setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    try:
        with warnings.catch_warnings():
            for kind in (FutureWarning, DeprecationWarning, UserWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        logger.setLevel(before)
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        os.environ.pop("TRL_EXPERIMENTAL_SILENCE")
        if silence is not None:
            os.environ["TRL_EXPERIMENTAL_SILENCE"] = silence


EMBEDDED = "embedded://"
ORIGINS = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""What the embedded models are called elsewhere: adapters that were trained on them name this as their base."""


@dataclass(frozen=True)
class LocalModel:
    """A causal language model with its tokenizer.

    Attributes:
        name: Requested name.
        model: From transformers, or from PEFT if it has an adapter.
        tokenizer: Tokenizer with a chat template.
    """

    name: str
    model: Any
    tokenizer: Any

    @property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end a turn."""
        own = self.model.generation_config.eos_token_id
        ids = own if isinstance(own, list) else [own]
        return frozenset({self.tokenizer.eos_token_id, *ids} - {None})


def load_local_model(name: str, device: str = "cpu") -> LocalModel:
    """Loads a model and its tokenizer; nothing is downloaded, no pickle is read, and no code in the folder is run.

    Args:
        name: ``embedded://smollm2``, the folder of a model in transformers' format, or the name of one that the Hugging Face
            hub's own cache on this machine holds.
        device: ``cpu``, ``cuda``, or ``auto`` for the GPU if there is one.

    Returns:
        The model with its tokenizer.

    Raises:
        ConfigError: If it cannot be loaded, or has no chat template.
    """
    source = _converted(name.removeprefix(EMBEDDED)) if name.startswith(EMBEDDED) else name
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                source, dtype=th.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
    except Exception as error:  # transformers, tokenizers and safetensors have their own kinds
        raise ConfigError(
            f"the local model `{name}` cannot be loaded: give `embedded://smollm2`, the folder of a model in transformers' "
            f"format, or the name of one that `hf download` has fetched ({' '.join(str(error).split())[:200]})"
        ) from error
    if not tokenizer.chat_template:
        raise ConfigError(f"the local model `{name}` has no chat template: take one that was trained for dialogues")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.name_or_path = ORIGINS.get(name.removeprefix(EMBEDDED), str(source))  # adapters name it as their base
    place = chosen_device(device)
    # torch's threads spin while they wait for each other: with one for each core, all suffer from whatever else runs
    if place == "cpu":
        th.set_num_threads(max(1, min(th.get_num_threads(), available_cores() - 1)))
    return LocalModel(name, model.to(place), tokenizer)


def chosen_device(device: str) -> str:
    """The GPU for ``auto`` where torch has one, else the CPU."""
    return ("cuda" if th.cuda.is_available() else "cpu") if device == "auto" else device


def _converted(name: str) -> Path:
    """An embedded model in transformers' format; kept, because undoing the quantisation takes 20 seconds."""
    file = weights_path(name, "gguf")
    root = Path(os.environ.get("DUOLOGUE_MODELS", ".cache/models"))
    folder = root / f"{name}-{file.stat().st_size}"
    if not folder.exists():
        half = root / f".{folder.name}-{os.getpid()}"
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
            read = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=th.float32, trust_remote_code=False
            )
            tokenizer.save_pretrained(half)
            _plain(read).save_pretrained(half)
        try:
            half.rename(folder)
        except OSError:  # another process was quicker
            shutil.rmtree(half)
    return folder


def _plain(read: Any) -> Any:
    """Copies the weights into a model not marked as quantised: transformers neither saves nor trains quantised ones."""
    config = copy.deepcopy(read.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=th.float32)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    return model
