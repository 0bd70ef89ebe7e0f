"""Strangers' plugins as users install them: a module and a dist-info folder on the path."""

import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from duologue.plugins import plugins
from duologue.plugins.manager import BLOCK

INSTALLED = sorted({point.name for point in metadata.entry_points(group="duologue")})
"""Plugins that this environment happens to have, such as the example that docs/judges.md lets one install."""


@pytest.fixture(autouse=True)
def only_our_plugins(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv(BLOCK, ",".join(INSTALLED))
    if INSTALLED:
        plugins.cache_clear()
    yield
    if INSTALLED:
        plugins.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch) -> Iterator[Callable[..., None]]:
    """Installs a distribution: `install("tox-judge", "1.2", {"tox": "tox_plugin"}, tox_plugin="source")`."""
    site = tmp_path / "site"
    site.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(site))
    plugins.cache_clear()

    def add(name: str, version: str, points: dict[str, str], **modules: str) -> None:
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = "".join(f"{point} = {target}\n" for point, target in points.items())
        (info / "entry_points.txt").write_text(f"[duologue]\n{lines}")
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)

    yield add
    plugins.cache_clear()
    for module in set(sys.modules) - before:
        if str(site) in (getattr(sys.modules[module], "__file__", None) or ""):
            del sys.modules[module]
