"""A room imports only rooms on lower floors, relatively, and `__init__` files only re-export."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {"inference": 0, "conf": 0, "plugins": 1, "envs": 2, "agents": 3, "evaluation": 4, "serving": 4}
MODULES = [path for room in FLOORS for path in sorted((ROOT / room).rglob("*.py"))]
BANNED = {"utils", "helpers", "misc", "common"}


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a module imports, at any depth of its code."""
    package = path.relative_to(ROOT).parent.parts
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)] if node.level > 1 else package
            target = (*base, *(node.module or "").split("."))
            rooms.add(next((part for part in target if part), ""))
    return rooms - {""}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    room = path.relative_to(ROOT).parts[0]
    for other in imported_rooms(path):
        if other in FLOORS and other != room:
            assert FLOORS[other] < FLOORS[room], f"{room} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_are_relative(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert not [name for name in names if name.split(".")[0] == "duologue"]


def test_no_room_is_a_drawer_for_everything():
    assert not [path for path in [*MODULES, *ROOT.glob("*.py")] if path.stem in BANNED]


@pytest.mark.parametrize("path", sorted(p for room in FLOORS for p in (ROOT / room).rglob("__init__.py")), ids=str)
def test_init_files_say_what_they_export(path):
    """Ruff (RUF022) keeps the names sorted."""
    targets = [
        node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
    ]
    assert "__all__" in [getattr(target, "id", "") for target in targets]


def test_hydra_is_known_to_the_doors_only():
    """Rooms take plain values; only the command, the judges' config group and the scripts compose configurations."""
    allowed = {"plugins/publish.py"}
    for path in MODULES:
        text = path.read_text()
        if "import hydra" in text or "from hydra" in text or "omegaconf" in text:
            assert str(path.relative_to(ROOT)) in allowed, path
