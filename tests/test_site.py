"""The documentation's site builds without a warning, has every page, and fetches nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material")
pytest.importorskip("mkdocstrings")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_every_page_is_there_and_in_the_navigation(site):
    home = text(site / "index.html")
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert (site / f"{page.stem}.html").exists()
        assert f'href="{page.stem}.html"' in home or page.stem == "index"


def test_the_reference_has_every_hook_every_configuration_and_every_judge(site):
    from duologue.plugins import Plugins, hookspecs

    hooks = text(site / "reference" / "hooks.html")
    assert all(f"hookspecs.{name}" in hooks for name in vars(hookspecs) if name.startswith("duologue_"))
    settings = text(site / "reference" / "configuration.html")
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert path.stem in settings
    judges = text(site / "reference" / "judges.html")
    assert all(f'id="{name}"' in judges for name in Plugins(discover=False).judges)


@pytest.mark.parametrize("room", ["inference", "plugins", "envs", "agents", "evaluation", "serving"])
def test_the_reference_has_every_public_name(site, room):
    from importlib import import_module

    page = text(site / "reference" / "python" / f"{room}.html")
    for name in import_module(f"duologue.{room}").__all__:
        assert f'id="duologue.{room}.{name}"' in page, name


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assert not re.findall(r"<(?:script|img)[^>]+src=\"(?:https?:)?//", text(page))
        assert not re.findall(r"<link[^>]+rel=\"(?:stylesheet|preconnect)\"[^>]+href=\"(?:https?:)?//", text(page))
