"""Docstrings say what a caller must know: one line, or the whole of Args, Returns and Raises."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("agents", "commands", "core", "envs", "evaluation", "inference", "plugins", "run", "serving")
MODULES = [*sorted(ROOT.glob("*.py")), *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(body: list[ast.stmt], name: str = "") -> Iterator[tuple[str, Function]]:
    """The public functions of a module and the public methods of its public classes, properties left out."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{name}{node.name}.")
        elif isinstance(node, Function) and not node.name.startswith("_"):
            decorators = {getattr(one, "attr", getattr(one, "id", "")) for one in node.decorator_list}
            if not decorators & {"property", "cached_property", "setter", "overload"}:
                yield f"{name}{node.name}", node


def missing(node: Function) -> list[str]:
    """The sections and arguments that a docstring of several lines lacks."""
    text = ast.get_docstring(node) or ""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    names = [argument.arg for argument in arguments if argument.arg not in ("self", "cls")]
    if "\n" not in text or not names:
        return []
    found = [name for name in names if f"{name}: " not in text]
    nothing = node.returns is None or (isinstance(node.returns, ast.Constant) and node.returns.value is None)
    if not nothing and "Returns:" not in text and "Yields:" not in text:
        found.append("Returns")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_docstring_of_several_lines_names_every_argument_and_what_is_returned(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lacking = {name: lack for name, node in public_functions(tree.body) if (lack := missing(node))}
    assert not lacking
    assert ast.get_docstring(tree), "a module says what it is for"
