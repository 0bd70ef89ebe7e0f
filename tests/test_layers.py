"""A room imports only rooms on lower floors, relatively, and `__init__` files only re-export."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "core": 0,
    "conf": 0,
    "inference": 1,
    "plugins": 2,
    "run": 3,
    "envs": 4,
    "agents": 5,
    "evaluation": 6,
    "serving": 6,
    "commands": 7,
}
LONGEST = 450
MODULES = [path for room in FLOORS for path in sorted((ROOT / room).rglob("*.py"))]
PRODUCT = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in [*MODULES, *sorted(ROOT.glob("*.py"))]
    if path.name != "__init__.py"
}
BANNED = {"utils", "helpers", "misc", "common"}


def imported_modules(path: Path) -> set[str]:
    """The modules of the project that a module needs, also those that it imports in functions or for its types."""
    module = path.relative_to(ROOT).with_suffix("").parts
    package = module[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - (node.level - 1)], *(node.module or "").split("."))
            target = ".".join(part for part in base if part)
            for name in node.names:
                full = f"{target}.{name.name}" if target else name.name
                found.add(full if full in PRODUCT else target)
    return {name for name in found if name in PRODUCT} - {".".join(module)}


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


def test_no_import_makes_a_circle():
    """A circle is reported as the path of modules that leads back to its first one."""
    needs = {name: sorted(imported_modules(path)) for name, path in PRODUCT.items()}
    clear: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in clear:
            for other in needs[name]:
                visit(other, (*above, name))
            clear.add(name)

    for name in needs:
        visit(name, ())


def test_no_file_is_too_long_and_no_room_too_full():
    assert not [path for path in PRODUCT.values() if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST]
    rooms = {path.parent for path in MODULES}
    full = {str(room.relative_to(ROOT)): len([*room.iterdir()]) for room in rooms}
    assert not {room: count for room, count in full.items() if count > 24 and room != "conf"}


def test_hydra_is_known_to_the_doors_only():
    """Rooms take plain values; only the command, the judges' config group and the scripts compose configurations."""
    allowed = {"plugins/publish.py"}
    for path in MODULES:
        text = path.read_text()
        if "import hydra" in text or "from hydra" in text or "omegaconf" in text:
            assert str(path.relative_to(ROOT)) in allowed, path
