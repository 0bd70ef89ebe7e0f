"""The conformance check finds what is wrong with a judge, and passes those that ship."""

import time
from dataclasses import dataclass

import pytest

from duologue.inference import ConfigError
from duologue.plugins import Abstain, Plugins, Preference, Score, hookimpl
from duologue.plugins.testing import TURNS, check_judge, turn

HERE = __name__


@dataclass
class Settings:
    how: str = "well"


class Judge:
    """Scores the length, or breaks the contract in the way that its setting names."""

    def __init__(self, how: str) -> None:
        self.how, self.count, self.closed = how, 0, 0

    async def score(self, batch):
        self.count += 1
        values = [len(turn.reply) for turn in batch]
        match self.how:
            case "one too few":
                values = values[1:]
            case "disorder":
                values = sorted(values)
            case "numbers":
                return values
            case "nan":
                values = [float("nan")] * len(values)
            case "text":
                values = ["good"] * len(values)
            case "mood":
                values = [self.count] * len(values)
            case "sleep":
                time.sleep(0.6)  # noqa: ASYNC251
        return [Score(value) for value in values]

    async def aclose(self) -> None:
        self.closed += 1
        if self.how == "closes once":
            assert self.closed == 1, "closed twice"


class Pairs:
    """Prefers the longer reply."""

    async def compare(self, batch):
        return [Preference("first" if len(a.reply) > len(b.reply) else "second") for a, b in batch]

    async def aclose(self) -> None:
        pass


class Offer:
    @hookimpl
    def duologue_register_judges(self, register) -> None:
        target = f"{HERE}:Judge"
        register.judge("mine", target, config=Settings, summary="the length")
        register.judge("pairs", f"{HERE}:Pairs", summary="the longer one", kind="compare")
        register.judge("silent", f"{HERE}:Pairs")
        register.judge("a-b", f"{HERE}:Pairs", summary="a name that Hydra cannot read")


@pytest.fixture
def registry(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])
    found = Plugins(discover=False)
    found.register(Offer())
    return found


@pytest.mark.parametrize("name", ["rules", "length", "chrf", pytest.param("reference", marks=pytest.mark.model)])
def test_the_judges_that_ship_keep_the_contract(name):
    check_judge(name)


def test_a_sound_judge_passes_and_its_verdicts_come_back(registry):
    verdicts = check_judge("mine", registry=registry)
    assert [verdict.value for verdict in verdicts] == [len(turn.reply) for turn in TURNS]
    assert check_judge("pairs", registry=registry, turns=[turn("a"), turn("bb")]) == [
        Preference("second"),
        Preference("first"),
    ]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("one too few", "verdicts for"),
        ("disorder", "alone|reversed"),
        ("numbers", "a verdict must be Score or Abstain or Failure, not"),
        ("nan", "the score is nan"),
        ("text", "a score must be a number, not 'good'"),
        ("mood", "among others"),
        ("sleep", "the event loop stood still"),
        ("closes once", "closed twice"),
    ],
)
def test_what_is_wrong_is_named(registry, how, said):
    with pytest.raises(AssertionError, match=said):
        check_judge("mine", registry=registry, how=how)


def test_a_judge_of_changing_mood_may_say_so(registry):
    check_judge("mine", registry=registry, how="mood", deterministic=False)


def test_its_registration_is_checked(registry):
    with pytest.raises(AssertionError, match="without a `summary`"):
        check_judge("silent", registry=registry)
    with pytest.raises(AssertionError, match="'a-b' cannot be used"):
        check_judge("a-b", registry=registry)
    with pytest.raises(ConfigError, match="there is no judge `nobody`"):
        check_judge("nobody", registry=registry)
    with pytest.raises(ConfigError, match="did you mean `how`"):
        check_judge("mine", registry=registry, hwo="well")


def test_a_judge_without_anything_to_say_passes():
    assert all(isinstance(verdict, Abstain) for verdict in check_judge("chrf", turns=[turn("Paris.")]))
