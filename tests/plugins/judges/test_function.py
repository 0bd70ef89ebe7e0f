"""A function of one's own as a judge."""

import asyncio
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from duologue.inference import ConfigError
from duologue.plugins import Abstain, Failure, Plugins, Score, Turn


def words(turn):
    return len(turn.reply.split())


def scalar(turn):
    return np.float32(0.5)


def boolean(turn):
    return True


def nothing(turn):
    return None


def verdict(turn):
    return Score(0.25, {"part": 1.0})


def text(turn):
    return "good"


def broken(turn):
    raise KeyError("key")


def place_of_broken():
    code = broken.__code__
    path = Path(code.co_filename)
    return (
        f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}, line {code.co_firstlineno + 1}"
    )


async def slow(turn):
    await asyncio.sleep(0.01)
    return 0.75


def thread(turn):
    time.sleep(0.01)
    return float(threading.current_thread() is not threading.main_thread())


NO_FUNCTION = 5


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


def judge(name, **settings):
    made = Plugins(discover=False).build(
        {"name": "python", "function": f"{__name__}:{name}", **settings}, "judges.x", None
    )
    return asyncio.run(made.score([Turn((), "one two three")]))[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("words", Score(3.0)),
        ("scalar", Score(0.5)),
        ("boolean", Score(1.0)),
        ("nothing", Abstain("the function returned None")),
        ("verdict", Score(0.25, {"part": 1.0})),
        ("text", Failure("the function returned str, not a number, a verdict or None")),
        ("broken", Failure(f"KeyError: 'key' ({place_of_broken()})")),
        ("slow", Score(0.75)),
    ],
)
def test_what_a_function_returns_becomes_a_verdict(name, expected):
    assert judge(name) == expected


def test_a_function_that_takes_long_may_run_on_another_thread():
    assert judge("thread", threaded=True) == Score(1.0)
    with pytest.raises(ConfigError, match="is asynchronous: leave `threaded` at false"):
        judge("slow", threaded=True)


@pytest.mark.parametrize(("name", "said"), [("missing", "cannot import"), ("NO_FUNCTION", "is no class or function")])
def test_a_path_that_leads_nowhere_is_named(name, said):
    with pytest.raises(ConfigError, match=said):
        judge(name)
