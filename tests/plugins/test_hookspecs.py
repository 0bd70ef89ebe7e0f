import inspect
import re
from pathlib import Path

import pytest

import duologue
from duologue.plugins import Plugins, hookspecs

HOOKS = {name: value for name, value in vars(hookspecs).items() if name.startswith("duologue_")}
ROOMS = ("agents", "commands", "conf", "core", "envs", "evaluation", "inference", "plugins", "run", "serving")


def test_there_are_hooks_and_the_manager_knows_each_of_them():
    assert len(HOOKS) >= 5
    relay = Plugins(discover=False).hook
    assert all(getattr(relay, name).has_spec() for name in HOOKS)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_says_in_its_docstring_when_it_fires_and_in_which_thread(name):
    text = inspect.getdoc(HOOKS[name]) or ""
    assert len(text.split()) >= 10
    assert re.search(r"once|per|for every|collected", text)


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_typed_and_empty(name):
    signature = inspect.signature(HOOKS[name])
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
    assert signature.return_annotation is not signature.empty
    assert HOOKS[name](*signature.parameters) is None


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_called_somewhere(name):
    root = Path(duologue.__file__).parent
    sources = [path for room in ROOMS for path in (root / room).rglob("*.py")]
    assert any(re.search(rf"hook\.{name}\b", path.read_text(encoding="utf-8")) for path in sources)
