"""A trained adapter as a folder in PEFT's format, which any of its users can load; no pickle is ever loaded from it.

adapter_model.safetensors, adapter_config.json   PEFT's
writer.json                                      the local model, the task and the sampling that it was trained with
README.md                                        the card

An adapter may come from a stranger: it may only be a LoRA of finite numbers, no code beside it or beside the model that it names is run,
and nothing is downloaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch as th
from peft import PeftModel, get_peft_model_state_dict

from ...core.errors import ConfigError
from ...core.files import MOST_BYTES, read_json
from ...core.settings import construct
from .local_model import EMBEDDED, ORIGINS, LocalModel, load_local_model, quiet
from .writer import Decoding, LocalWriter

FORMAT = 1
WEIGHTS = "adapter_model.safetensors"


class _Adapter(msgspec.Struct):
    """The fields of ``adapter_config.json`` that are used; other kinds of adapters are refused."""

    peft_type: Literal["LORA"]
    base_model_name_or_path: str | None = None


class _Task(msgspec.Struct):
    system: str | None = None


class _Writer(msgspec.Struct):
    """The fields of ``writer.json`` that are used."""

    model: str
    decoding: dict[str, Any] = {}
    task: _Task | None = None


def save_adapter(folder: Path, model: Any, local: LocalModel, decoding: Decoding, settings: Mapping[str, Any]) -> None:
    """Writes an adapter; the folder appears complete or not at all.

    Args:
        folder: Folder to write; replaced if it exists.
        model: PEFT's.
        local: The model beneath.
        decoding: How it was sampled.
        settings: Further plain values for ``writer.json``: agent, task, judges, steps, versions, digest.
    """
    half = folder.with_name(folder.name + ".partial")
    shutil.rmtree(half, ignore_errors=True)
    model.save_pretrained(str(half), save_embedding_layers=False)
    shutil.copymode(half / "adapter_config.json", half / WEIGHTS)  # safetensors makes its files the owner's alone
    record = {"format": FORMAT, "model": local.name, "decoding": asdict(decoding), **settings}
    (half / "writer.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (half / "README.md").write_text(_card(record), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    half.rename(folder)


def find_adapter(folder: str | Path) -> Path:
    """Finds the adapter's folder.

    Args:
        folder: The adapter, or the run folder that holds it.

    Returns:
        The folder with the adapter's files.

    Raises:
        ConfigError: If there is no adapter as safetensors.
    """
    folder = Path(folder).expanduser()
    found = folder / "adapter" if (folder / "adapter").is_dir() else folder
    if not (found / WEIGHTS).is_file() or not (found / "adapter_config.json").is_file():
        raise ConfigError(
            f"{folder} is no adapter in PEFT's format, as safetensors: give the folder that `duologue train agent=grpo` wrote"
        )
    return found


def read_record(folder: Path) -> dict[str, Any]:
    """Reads ``writer.json``; an adapter made elsewhere has only its model's name.

    Args:
        folder: The adapter's folder.

    Returns:
        The record.

    Raises:
        ConfigError: If it cannot be read, or is of a later format.
    """
    try:
        config = msgspec.convert(read_json(folder / "adapter_config.json", dict, MOST_BYTES), _Adapter)
        if (folder / "writer.json").exists():
            record: dict[str, Any] = read_json(folder / "writer.json", dict, MOST_BYTES)
        else:
            own = {origin: EMBEDDED + name for name, origin in ORIGINS.items()}
            base = config.base_model_name_or_path
            record = {"format": FORMAT, "model": own.get(str(base), base)}
        if record.get("format") != FORMAT:
            raise ValueError(f"its format is {str(record.get('format'))[:80]}, and this version reads {FORMAT}")
        msgspec.convert(record, _Writer)
    except (ConfigError, ValueError, OverflowError, msgspec.ValidationError) as error:
        raise ConfigError(f"{folder} cannot be read as an adapter: {error}") from error
    return record


def with_adapter(local: LocalModel, folder: Path, *, trainable: bool = False) -> LocalModel:
    """Adds an adapter to a model, in place.

    Args:
        local: The model.
        folder: The adapter's folder.
        trainable: Whether the adapter is trained further.

    Returns:
        The model with its adapter.

    Raises:
        ConfigError: If the adapter does not fit the model.
    """
    read_record(folder)
    try:
        with quiet():
            # without low_cpu_mem_usage a small file that names a high rank would take any amount of memory
            model = PeftModel.from_pretrained(local.model, str(folder), is_trainable=trainable, low_cpu_mem_usage=True)
            weights = get_peft_model_state_dict(model)
        if missing := [name for name, value in weights.items() if value.is_meta]:
            raise ValueError(f"it has no weights for {len(missing)} of {len(weights)} matrices, such as {missing[0]}")
    except Exception as error:  # PEFT and torch raise many kinds at a description that does not fit
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"{folder}: the adapter does not fit `{local.name}` ({said})") from error
    if not all(bool(th.isfinite(value).all()) for value in weights.values()):
        raise ConfigError(f"{folder}: its weights hold NaN or infinity, so that it cannot write: train it again")
    return LocalModel(local.name, model, local.tokenizer)


def load_writer(
    folder: str | Path | None, model: str | None = None, device: str = "auto", decoding: Mapping[str, Any] | None = None
) -> tuple[LocalWriter, dict[str, Any]]:
    """A local model that writes, with an adapter or without.

    Args:
        folder: The adapter, or the run folder that holds it; None for the model alone.
        model: The model, if not the one that the adapter was trained on.
        device: See `load_local_model`.
        decoding: Fields of `Decoding` that are to be otherwise than in training.

    Returns:
        The writer, and what ``writer.json`` says.

    Raises:
        ConfigError: If something cannot be loaded or is refused.
    """
    record = {} if folder is None else read_record(find_adapter(folder))
    name = model or record.get("model")
    if not isinstance(name, str):
        raise ConfigError("neither an adapter nor a local model is named: give one of them")
    local = load_local_model(name, device)
    if folder is not None:
        local = with_adapter(local, find_adapter(folder))
    local.model.eval()
    known = {entry.name for entry in fields(Decoding)}
    learnt = {key: value for key, value in record.get("decoding", {}).items() if key in known}
    return LocalWriter(local, construct(Decoding, {**learnt, **(decoding or {})}, "decoding")), record


def _card(record: Mapping[str, Any]) -> str:
    """A page for people, with the header that the Hugging Face hub reads."""
    model = str(record["model"])
    base = ORIGINS.get(model.removeprefix(EMBEDDED), model)
    judges = ", ".join(f"`{name}`" for name in record.get("judges", [])) or "the preference pairs' judges"
    task = record.get("task", {})
    return f"""\
---
base_model: {base}
library_name: peft
tags: [duologue, lora, {record.get("agent", "")}]
---

# A LoRA adapter for `{base}`

Made by Duologue {record.get("versions", {}).get("duologue", "?")}, by TRL's {str(record.get("agent", "?")).upper()} in
{record.get("steps", "?")} steps with seed {record.get("seed", "?")}. Judges: {judges}. System prompt: {task.get("system") or "none"!r}.

```python
from duologue.agents.lora import load_writer

writer, _ = load_writer("<this folder>")
print(writer.write([[{{"role": "user", "content": "What is the capital of France?"}}]], keys=[0])[0].text)
```

Or by PEFT alone: `peft.AutoPeftModelForCausalLM.from_pretrained("<this folder>")`. Compare it with the model beneath by
`duologue compare prompts=… +contestants.base.local={model} +contestants.tuned.adapter=<this folder>`.
"""
