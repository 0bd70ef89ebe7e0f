"""What MkDocs does not know by itself: pages made from the configuration and the code, and links to files outside of docs/.

MkDocs calls the functions that begin with ``on_``; see `hooks` in mkdocs.yml.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = ("envs", "plugins", "agents", "evaluation", "serving", "inference")
"""The rooms with public names, each a page of the reference."""
ROOMS = (*PAGES, "core", "run", "commands")
COPIES = {"benchmarks.md": ROOT / "benchmarks" / "README.md", "changelog.md": ROOT / "CHANGELOG.md"}
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(#[^)]*)?\)")


def on_startup(**_: Any) -> None:
    """Lets the reference find the package under its name, before it looks.

    By links, since the checkout also holds what is no module.
    """
    package = ROOT / ".cache" / "site" / "duologue"
    package.mkdir(parents=True, exist_ok=True)
    for path in (*ROOT.glob("*.py"), *(ROOT / room for room in ROOMS)):
        link = package / path.name
        if link.resolve() != path:
            link.unlink(missing_ok=True)
            link.symlink_to(path)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages that the navigation lacks."""
    listed = str(config.nav)
    guides = next(entry["How to"] for entry in config.nav or [] if "How to" in entry)
    guides += [path.name for path in sorted((ROOT / "docs").glob("*.md")) if f"'{path.name}'" not in listed]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made here."""
    made = {
        "reference/configuration.md": configuration(),
        "reference/judges.md": judges(),
        "reference/hooks.md": hooks(),
        **{f"reference/python/{room}.md": python(room) for room in PAGES},
        **{name: path.read_text(encoding="utf-8") for name, path in COPIES.items()},
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Names files outside of docs/ instead of linking to them, but for those that are pages here."""
    if page.file.generated_by:
        return markdown
    places = {str(path.relative_to(ROOT)): name for name, path in COPIES.items()}

    def replaced(found: re.Match[str]) -> str:
        page = places.get(found[2])
        return f"[{found[1]}]({page}{found[3] or ''})" if page else f"`{found[2]}`"

    return OUTSIDE.sub(replaced, markdown)


def configuration() -> str:
    """Every file of conf/ as it stands: its comments are the documentation."""
    return "\n".join(_configuration())


def _configuration() -> Iterator[str]:
    from duologue.commands.table import COMMANDS

    conf = ROOT / "conf"
    yield (
        "# Configuration\n\nEvery command composes its configuration of these files, by [Hydra](https://hydra.cc). "
        "`name=value` on the command line sets a value, `group=option` chooses a file of a group, and "
        "`duologue COMMAND --cfg job` prints the whole. Judges are options of the group `judge`: [Judges](judges.md).\n"
    )
    yield "## Commands\n"
    for path in sorted(conf.glob("*.yaml")):
        summary = COMMANDS[path.stem].summary if path.stem in COMMANDS else "what the commands share"
        yield f"### {path.stem}\n\n`conf/{path.name}`: {summary}.\n\n```yaml\n{_shown(path)}\n```\n"
    for group in sorted(path for path in conf.iterdir() if path.is_dir() and any(path.rglob("*.yaml"))):
        yield f"## {group.name}\n"
        for path in sorted(group.rglob("*.yaml")):
            option = path.relative_to(group).with_suffix("")
            yield f"### {group.name}={option}\n\n```yaml\n{_shown(path)}\n```\n"


def _shown(path: Path) -> str:
    """A file without the line that names its job for Hydra."""
    text = re.sub(r"\nhydra: .*\n", "\n", path.read_text(encoding="utf-8"))
    return text.strip()


def judges() -> str:
    """The built-in judges and their settings."""
    from duologue.plugins.manager import Plugins
    from duologue.plugins.publish import defaults

    lines = [
        (
            "# Judges\n\n`+judge@judges.NAME=JUDGE` adds one to the reward, `judge@evaluation.judge=JUDGE` makes it the report's. All have, besides "
            "their own settings, those of [every judge](../judges.md#how-judges-become-the-reward).\n"
        )
    ]
    for spec in sorted(Plugins(discover=False).judges.values(), key=lambda spec: spec.name):
        lines.append(
            f"## {spec.name}\n\n{spec.summary[:1].upper()}{spec.summary[1:]}. Kind: {spec.kind}; cost: {spec.cost}.\n"
        )
        if settings := defaults(spec):
            types = {entry.name: entry.type for entry in fields(spec.config)} if spec.config else {}
            meanings = _arguments(inspect.getdoc(spec.maker) or "")
            rows = [
                f"| `{name}` | `{_cell(types[name])}` | `{_cell(value)}` | {_cell(meanings[name])} |"
                for name, value in settings.items()
            ]
            lines += ["| setting | type | default | meaning |\n|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _arguments(docstring: str) -> dict[str, str]:
    """The arguments of a docstring in Google's form, with their descriptions."""
    found: dict[str, str] = {}
    for line in docstring.partition("Args:\n")[2].partition("\n\n")[0].splitlines():
        name, colon, text = line.strip().partition(": ")
        if colon and line.startswith("    ") and not line.startswith("     "):
            found[name] = text
        elif found:
            found[[*found][-1]] += " " + line.strip()
    return found


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else "null" if value is None else getattr(value, "__name__", str(value))
    return " ".join(text.replace("|", "\\|").split()) or " "


def hooks() -> str:
    """The hooks of plugins, from `plugins.hookspecs`, and what they are handed."""
    return """\
# Hooks

A plugin is a module, or an object, with some of these functions, each marked by `duologue.plugins.hookimpl`. It is found by the entry-point
group `duologue`: [a judge of your own](../judges.md) shows all steps.

::: duologue.plugins.hookspecs
    options: {show_root_heading: false, heading_level: 2}

## What they are handed

::: duologue.plugins.RunInfo
::: duologue.plugins.RolloutStats
::: duologue.plugins.JudgeRegistrar
"""


def python(room: str) -> str:
    """A room's public names with their docstrings."""
    return f"# duologue.{room}\n\n::: duologue.{room}\n    options: {{show_root_heading: false, heading_level: 2}}\n"
