"""Every block of code in the pages is tried: commands compose, Python compiles and imports, data parses."""

import ast
import inspect
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import OmegaConf

from duologue.commands import cassette as cassette_command
from duologue.commands import init as new_project
from duologue.commands.exchange import ExportOptions, ImportOptions, PairExportOptions
from duologue.commands.table import COMMANDS, WITHOUT_CONFIGURATION
from duologue.composed import task_overrides
from duologue.core.settings import construct, read_arguments
from duologue.envs.scenarios import IMPORTERS, DataOptions
from duologue.plugins import Plugins
from duologue.plugins.publish import publish

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = {"--cfg": 1, "--config-dir": 1, "--workers": 1, "-m": 0, "--multirun": 0, "--json": 0}
"""Of the commands, with how many values follow."""


class Block(NamedTuple):
    language: str
    text: str
    place: str


def blocks(page: Path) -> Iterator[Block]:
    found = re.finditer(r"^```([\w-]*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for block in found:
        line = page.read_text(encoding="utf-8")[: block.start()].count("\n") + 1
        yield Block(block[1], block[2], f"{page.name}:{line}")


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(*languages: str) -> list[object]:
    return [pytest.param(block, id=block.place) for block in BLOCKS if block.language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """The lines that call Duologue, as words; what is elided by `…` as a whole is left out."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"(?:;|\||\$\()\s*(?=duologue )", line):
            if part.startswith("duologue "):
                words = shlex.split(re.sub(r'\)".*', "", part), comments=True)
                if "…" not in words:
                    yield words[1:]


COMMAND_LINES = [
    pytest.param(words, id=f"{block.place} {' '.join(words)}"[:100])
    for block in BLOCKS
    if block.language in ("", "bash")
    for words in commands(block.text)
]


def test_every_language_of_a_block_is_one_that_is_tried():
    assert {block.language for block in BLOCKS} <= {"", "bash", "text", "python", "json", "yaml", "toml"}


def test_shell_blocks_are_found():
    assert len(COMMAND_LINES) > 60


@pytest.fixture(scope="module")
def politeness() -> Iterator[None]:
    """The judge that docs/judges.md writes is known, as if it were installed."""
    spec = spec_from_file_location("duologue_politeness", ROOT / "examples" / "judge_plugin" / "duologue_politeness.py")
    sys.modules[spec.name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    registry = Plugins()
    registry.register(module, "politeness")
    publish(registry)
    yield
    del sys.modules[spec.name], ConfigStore.instance().repo["judge"]["politeness.yaml"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """What `duologue init` writes, for commands with `experiment=mine`."""
    folder = tmp_path_factory.mktemp("project")
    for name, text in new_project.files("project").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("words", COMMAND_LINES)
def test_a_command_is_one_that_works(words, project, politeness):
    name, *rest = words
    if name in WITHOUT_CONFIGURATION:
        keeps_its_contract(name, rest)
    else:
        composes(name, rest, project)


def composes(name: str, words: list[str], project: Path) -> None:
    """Whether Hydra composes the configuration and nothing is missing; of a multirun, the first combination."""
    assert name in COMMANDS
    overrides, rest, searched = [], iter(words), []
    for word in rest:
        if word in FLAGS:
            values = [next(rest) for _ in range(FLAGS[word])]
            searched += [f"hydra.searchpath=[file://{project / value}]" for value in values if word == "--config-dir"]
        elif not word.startswith("resume="):
            assert not word.startswith("-"), f"{word} is no flag that the commands take"
            overrides.append(word)
    if len(overrides) + len(searched) < len(words) and any(word.startswith("resume=") for word in words):
        assert all(word.startswith("inference.") for word in overrides)
        return
    if name == "bench":
        overrides = task_overrides(overrides)
    first = [first_of(override) for override in OverridesParser.create().parse_overrides(overrides)]
    with initialize_config_module("duologue.conf", version_base="1.3"):
        config = compose(name, [*first, *searched])
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def first_of(override: Override) -> str:
    """An override with the first of its values, if it has several."""
    if not override.is_sweep_override():
        return override.input_line
    value = override.value()
    first = value.start if isinstance(value, IntervalSweep) else next(override.sweep_string_iterator())
    return f"{override.input_line.partition('=')[0]}={first}"


def keeps_its_contract(name: str, words: list[str]) -> None:
    given, values = read_arguments(words)
    options = [word for word in WITHOUT_CONFIGURATION[name].words if word.isidentifier()]
    if options:
        assert not given or given[0] in options
    if name == "import" and given:
        kind = DataOptions if given[0] in IMPORTERS else ImportOptions
        construct(kind, {key: value for key, value in values.items() if key != "to" or kind is ImportOptions}, name)
        assert "to" in values
        assert len(given) > 1
    elif name == "export" and given:
        construct(PairExportOptions if given[0] == "pairs" else ExportOptions, values, name)
        assert len(given) == 2
    elif name == "cassette":
        inspect.signature(getattr(cassette_command, given[0].replace("import", "import_"))).bind(**values)
    elif name == "sweep-report":
        assert set(values) <= {"metric"}
    elif name in ("init", "new-judge", "completion", "judges", "report"):
        assert not values


@pytest.mark.parametrize("block", of("python"))
def test_python_compiles_and_imports_what_is_there(block):
    tree = ast.parse(block.text)
    compile(tree, block.place, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                imported(alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert all(hasattr(imported(node.module), alias.name) for alias in node.names)


def imported(name: str) -> ModuleType:
    """A module of ours, or of a package that may be missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "duologue":
            raise
        pytest.skip(f"needs {error.name}")


@pytest.mark.parametrize("page", ["report.md", "statistics.md"])
def test_examples_of_arithmetic_run_as_they_stand(page, capsys):
    for block in blocks(ROOT / "docs" / page):
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("block", of("json"))
def test_json_is_lines_of_objects(block):
    for line in block.text.splitlines():
        assert isinstance(json.loads(line), dict)


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_parses(block):
    assert isinstance(yaml.safe_load(block.text), dict)


@pytest.mark.parametrize("block", of("toml"))
def test_toml_parses(block):
    assert tomllib.loads(block.text)
