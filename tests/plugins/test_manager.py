import asyncio
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pytest

from duologue.core.errors import ConfigError, PluginError
from duologue.envs.task import embedded_endpoint
from duologue.plugins import Abstain, JudgeContext, JudgeRegistrar, Plugins, Score, Turn, TurnJudge, hookimpl, plugins
from duologue.plugins.judges.length import LengthJudge
from duologue.plugins.publish import defaults

BY_NAME_ALONE = {
    "rules",
    "length",
    "reference",
    "chrf",
    "llm",
    "rubric",
    "pairwise",
    "moderation",
    "readability",
    "language",
    "toxicity",
    "bargain",
    "form",
    "support",
    "tutoring",
}
BUILTIN = BY_NAME_ALONE | {"panel", "python", "reward_model"}

POLITE = """
from dataclasses import dataclass
from duologue.plugins import Score, hookimpl

@dataclass
class Settings:
    word: str = "please"

class Polite:
    def __init__(self, word="please"):
        self.word = word
    async def score(self, batch):
        return [Score(float(self.word in turn.reply)) for turn in batch]
    async def aclose(self):
        pass

@hookimpl
def duologue_register_judges(register):
    register.judge("polite", "polite_plugin:Polite", config=Settings, summary="says please")
"""

LENGTH_AGAIN = """
from duologue.plugins import hookimpl

@hookimpl
def duologue_register_judges(register):
    register.judge("length", "nowhere:Class")
"""


@pytest.fixture
def context(client, endpoint) -> JudgeContext:
    return JudgeContext(client, {"assistant": endpoint})


def offering(*judges: tuple, **keywords) -> object:
    """A plugin object that offers judges."""

    class Offer:
        @hookimpl
        def duologue_register_judges(self, register) -> None:
            for judge in judges:
                register.judge(*judge, **keywords)

    return Offer()


class Pairs:
    async def compare(self, batch):
        return []

    async def aclose(self):
        pass


class OnlyScores:
    async def score(self, batch):
        return []


class NothingToSay:
    async def aclose(self):
        pass


class Greedy:
    """Takes what the program offers to judges."""

    def __init__(self, context, word="x"):
        self.context, self.word = context, word

    async def score(self, batch):
        return [Abstain(self.word)] * len(batch)

    async def aclose(self):
        pass


HERE = {name: f"test_manager_classes:{name}" for name in ("Pairs", "OnlyScores", "NothingToSay", "Greedy")}


@pytest.fixture
def classes(monkeypatch) -> None:
    """Makes this file's classes importable by name, as a judge's target must be."""
    import sys
    from types import ModuleType

    module = ModuleType("test_manager_classes")
    for kind in (Pairs, OnlyScores, NothingToSay, Greedy):
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "test_manager_classes", module)


def test_the_built_in_judges_are_offered_by_the_plugin_duologue():
    judges = Plugins(discover=False).judges
    assert set(judges) == BUILTIN
    assert {spec.plugin for spec in judges.values()} == {"duologue"}
    assert all(spec.summary for spec in judges.values())


def test_every_built_in_judge_can_be_built_from_its_name_alone(context):
    for name in BY_NAME_ALONE:
        judge = Plugins(discover=False).build(name, "judges.x", context)
        assert callable(judge.compare if name == "pairwise" else judge.score)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("panel", "needs at least two `judges`, not 0"),
        ("python", "`function` is empty"),
        ("reward_model", "`model` is empty"),
    ],
)
def test_the_others_say_what_they_need(context, name, said):
    with pytest.raises(ConfigError, match=said):
        Plugins(discover=False).build(name, "judges.x", context)


def test_a_class_is_a_judges_whole_definition(context):
    registry = Plugins(discover=False)
    registry.register(ByClass, "stranger")
    spec = registry.judges["brief"]
    assert (spec.summary, spec.kind, spec.cost, spec.plugin) == ("few words", "score", "model", "stranger")
    assert defaults(spec) == {"most": 5, "words": ["a", "b"], "how": "mean", "extra": {}, "floor": None}
    judge = registry.build({"name": "brief", "most": 2}, "judges.b", context)
    one, other = asyncio.run(judge.score([Turn((), "Yes."), Turn((), "No, not at all.")]))
    assert (one.value, other.value) == (1.0, 0.0)
    with pytest.raises(ConfigError, match="did you mean `most`"):
        registry.build({"name": "brief", "mst": 2}, "judges.b", context)


class Brief(TurnJudge):
    """1 for a reply of few words."""

    name, summary, cost = "brief", "few words", "model"

    def __init__(
        self,
        most: int = 5,
        words: Sequence[str] = ("a", "b"),
        how: Literal["mean", "sum"] = "mean",
        extra: Mapping[str, float] | None = None,
        floor: float | None = None,
    ) -> None:
        self._most = most

    async def judge(self, turn):
        return Score(float(len(turn.reply.split()) <= self._most))


class ByClass:
    @staticmethod
    @hookimpl
    def duologue_register_judges(register):
        register.judge(Brief)


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (type("Nameless", (TurnJudge,), {}), "has no name: give the class an attribute `name`"),
        (
            type("Bare", (TurnJudge,), {"name": "bare", "__init__": lambda self, size: None}),
            "setting `size` needs a default",
        ),
        (type("Odd", (TurnJudge,), {"name": "odd", "cost": "much"}), "`much` is none of free, model, requests"),
        (type("Kept", (TurnJudge,), {"name": "kept", "__init__": lambda self, weight=1.0: None}), "called `weight`"),
    ],
)
def test_a_class_that_defines_no_judge_is_refused(definition, said):
    table = {}
    with pytest.raises(PluginError, match=re.escape(said)):
        JudgeRegistrar(table, "stranger").judge(definition)
    assert not table


def test_the_process_shares_one_registry():
    assert plugins() is plugins()


def test_an_installed_plugin_is_found_and_its_judge_scores(install, context):
    install("polite-judge", "1.0", {"polite": "polite_plugin"}, polite_plugin=POLITE)
    registry = Plugins()
    spec = registry.judges["polite"]
    assert (spec.plugin, spec.summary) == ("polite", "says please")
    judge = registry.build({"name": "polite", "word": "thanks", "weight": 2, "gate": True}, "judges.p", context)
    verdicts = asyncio.run(judge.score([Turn((), "thanks!"), Turn((), "please")]))
    assert [verdict.value for verdict in verdicts] == [1.0, 0.0]


def test_offering_a_judge_imports_nothing_of_it(install):
    lazy = POLITE.replace("polite_plugin:Polite", "module_that_does_not_exist:Polite")
    install("polite-judge", "1.0", {"polite": "polite_plugin"}, polite_plugin=lazy)
    assert "polite" in Plugins().judges


def test_a_judge_whose_class_cannot_be_imported_is_an_error_only_when_it_is_chosen(context):
    registry = Plugins(discover=False)
    registry.register(offering(("far", "module_that_does_not_exist:Judge")), "far-plugin")
    with pytest.raises(ConfigError, match=r"`judges\.f`: cannot import `module_that_does_not_exist:Judge`"):
        registry.build("far", "judges.f", context)


def test_two_plugins_with_one_judge_name_are_an_error_that_names_both(install):
    install("rival", "1.0", {"rival": "rival_plugin"}, rival_plugin=LENGTH_AGAIN)
    registry = Plugins()
    with pytest.raises(PluginError, match="judge `length` is offered by both `duologue` and `rival`") as caught:
        _ = registry.judges
    assert "DUOLOGUE_BLOCK_PLUGINS=rival" in str(caught.value)


def test_a_misspelt_hook_is_an_error_that_names_the_plugin_and_leaves_nothing_behind():
    class Misspelt:
        @hookimpl
        def duologue_register_judge(self, register):
            register.judge("never", "never:Never")

        @hookimpl
        def duologue_reward(self):
            return 99.0

    registry = Plugins(discover=False)
    with pytest.raises(PluginError, match=r"plugin `typo`.*duologue_register_judge"):
        registry.register(Misspelt(), "typo")
    assert not registry.manager.has_plugin("typo")
    assert "never" not in registry.judges
    assert registry.hook.duologue_reward(turn=None, verdicts={}, weights={}) != 99.0


def test_a_misspelt_argument_of_a_hook_is_an_error_that_names_the_plugin_and_leaves_nothing_behind():
    class Misspelt:
        @hookimpl
        def duologue_reward(self):
            return 99.0

        @hookimpl
        def duologue_run_start(self, runn):
            pass

    registry = Plugins(discover=False)
    with pytest.raises(PluginError, match=r"plugin `typo`.*runn"):
        registry.register(Misspelt(), "typo")
    assert not registry.manager.has_plugin("typo")
    assert registry.hook.duologue_reward(turn=None, verdicts={}, weights={}) != 99.0


def test_registering_under_a_name_that_is_taken_is_an_error_and_keeps_the_first():
    registry = Plugins(discover=False)
    registry.register(offering(("one", "a:A")), "twin")
    with pytest.raises(PluginError, match="`twin`"):
        registry.register(offering(("two", "b:B")), "twin")
    assert "one" in registry.judges
    assert "two" not in registry.judges


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import module_that_does_not_exist", "ModuleNotFoundError"),
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        (LENGTH_AGAIN.replace("register_judges", "register_judgez"), "PluginError"),
    ],
)
def test_a_broken_plugin_is_named_in_a_warning_and_the_others_live(install, source, reason):
    install("broken-dist", "0.3", {"broken": "broken_plugin"}, broken_plugin=source)
    install("polite-judge", "1.0", {"polite": "polite_plugin"}, polite_plugin=POLITE)
    with pytest.warns(UserWarning, match=r"plugin `broken`") as caught:
        registry = Plugins()
    (warning,) = caught
    text = str(warning.message)
    assert "broken_plugin, from broken-dist 0.3" in text
    assert reason in text
    assert "DUOLOGUE_BLOCK_PLUGINS=broken" in text
    assert set(registry.judges) == BUILTIN | {"polite"}


def test_of_two_distributions_with_one_plugin_name_the_second_is_named_not_dropped_in_silence(install):
    install("first-dist", "1.0", {"same": "first_plugin"}, first_plugin=POLITE.replace("polite", "one"))
    install("second-dist", "1.0", {"same": "second_plugin"}, second_plugin=POLITE.replace("polite", "two"))
    with pytest.warns(UserWarning, match=r"plugin `same`.*there is a plugin `same` already"):
        registry = Plugins()
    assert len(set(registry.judges) & {"one", "two"}) == 1


def test_a_plugin_cannot_take_the_place_of_the_built_in_one(install):
    install("thief", "1.0", {"duologue": "thief_plugin"}, thief_plugin=POLITE)
    with pytest.warns(UserWarning, match=r"plugin `duologue`.*thief 1.0"):
        registry = Plugins()
    assert set(registry.judges) == BUILTIN


def test_a_plugin_whose_registration_fails_is_named_with_the_cure():
    class Fails:
        @hookimpl
        def duologue_register_judges(self, register):
            raise KeyError("lost")

    registry = Plugins(discover=False)
    registry.register(Fails(), "fails")
    with pytest.raises(PluginError, match=r"plugin `fails` failed to register: 'lost'.*DUOLOGUE_BLOCK_PLUGINS=fails"):
        _ = registry.judges


@pytest.mark.parametrize("value", ["broken", " other , broken ,", "broken,polite"])
def test_blocked_plugins_are_not_even_imported(install, monkeypatch, value):
    install("broken-dist", "0.3", {"broken": "broken_plugin"}, broken_plugin="raise RuntimeError('boom')")
    install("polite-judge", "1.0", {"polite": "polite_plugin"}, polite_plugin=POLITE)
    monkeypatch.setenv("DUOLOGUE_BLOCK_PLUGINS", f"{os.environ['DUOLOGUE_BLOCK_PLUGINS']},{value}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry = Plugins()
    assert set(registry.judges) == (BUILTIN if "polite" in value else BUILTIN | {"polite"})


def test_blocking_by_argument_solves_a_name_collision(install):
    install("rival", "1.0", {"rival": "rival_plugin"}, rival_plugin=LENGTH_AGAIN)
    assert Plugins(block=("rival",)).judges["length"].plugin == "duologue"


def test_a_plugin_registered_later_adds_to_the_table():
    registry = Plugins(discover=False)
    assert "late" not in registry.judges
    registry.register(offering(("late", "a:A")), "late-plugin")
    assert registry.judges["late"].plugin == "late-plugin"


@pytest.mark.parametrize("field", ["name", "weight", "gate", "context"])
def test_a_setting_may_not_have_a_name_that_means_something_else(field):
    settings = dataclass(type("Settings", (), {"__annotations__": {field: int}, field: 0}))
    registry = Plugins(discover=False)
    registry.register(offering(("clash", "a:A"), config=settings), "clashing")
    with pytest.raises(PluginError, match=f"judge `clash` of `clashing` may not have a setting called `{field}`"):
        _ = registry.judges


def test_settings_that_are_no_dataclass_are_refused_by_name():
    registry = Plugins(discover=False)
    registry.register(offering(("odd", "a:A"), config=dict), "odd-plugin")
    with pytest.raises(PluginError, match="judge `odd` of `odd-plugin`: `config` must be a dataclass"):
        _ = registry.judges


@pytest.mark.parametrize("kind", ["OnlyScores", "NothingToSay"])
@pytest.mark.usefixtures("classes")
def test_a_class_that_is_no_judge_is_refused_by_name(context, kind):
    registry = Plugins(discover=False)
    registry.register(offering(("odd", HERE[kind])), "odd-plugin")
    with pytest.raises(PluginError, match="judge `odd` of `odd-plugin` has neither `score` nor `compare`"):
        registry.build("odd", "judges.odd", context)


@pytest.mark.usefixtures("classes")
def test_a_pairwise_judge_is_a_judge(context):
    registry = Plugins(discover=False)
    registry.register(offering(("pairs", HERE["Pairs"])), "pairs-plugin")
    assert isinstance(registry.build("pairs", "evaluation.judge", context), Pairs)


@pytest.mark.usefixtures("classes")
def test_a_judge_that_names_context_gets_it_and_a_user_cannot_set_it(context):
    registry = Plugins(discover=False)
    registry.register(offering(("greedy", HERE["Greedy"])), "greedy-plugin")
    judge = registry.build({"name": "greedy", "word": "y"}, "judges.g", context)
    assert judge.context is context
    assert judge.word == "y"
    with pytest.raises(ConfigError, match=r"`judges\.g\.context` is not a setting here"):
        registry.build({"name": "greedy", "context": 1}, "judges.g", context)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("lenght", "`judges.x`: there is no judge `lenght`: did you mean `length`?"),
        ("qqq", "`judges.x`: there is no judge `qqq`: known: `bargain`, `chrf`, `form`, `language`, "),
        ({"low": 3}, "`judges.x`: there is no judge `None`"),
        ({"name": "length", "hihg": 3}, "`judges.x.hihg` is not a setting here: did you mean `high`?"),
        ({"name": "length", "low": 9, "high": 3}, "`judges.x` was refused: `low` and `high` must satisfy"),
        ({"name": "rules", "banned": ["("]}, "`judges.x` was refused: '(' is no regular expression"),
        (5, "`judges.x` must be a judge's name or a mapping with `name`, not 5"),
    ],
)
def test_a_wrong_setting_is_named_with_its_near_miss(context, settings, message):
    with pytest.raises(ConfigError) as caught:
        Plugins(discover=False).build(settings, "judges.x", context)
    assert message in str(caught.value)


def test_a_name_and_a_mapping_build_the_same_judge(context):
    registry = Plugins(discover=False)
    by_name = registry.build("length", "judges.x", context)
    by_mapping = registry.build({"name": "length", "low": 2, "weight": 5.0, "gate": True}, "judges.x", context)
    assert isinstance(by_name, LengthJudge)
    assert (by_name.low, by_mapping.low) == (8, 2)


def test_building_does_not_change_the_configuration(context):
    settings = {"name": "length", "low": 2, "weight": 0.5}
    Plugins(discover=False).build(settings, "judges.x", context)
    assert settings == {"name": "length", "low": 2, "weight": 0.5}


def test_the_judge_role_falls_back_to_the_assistant(client, endpoint):
    from dataclasses import replace

    other = replace(endpoint, model="other")
    assert JudgeContext(client, {"assistant": endpoint}).endpoint("judge") is endpoint
    assert JudgeContext(client, {"assistant": endpoint, "judge": other}).endpoint("judge") is other


def test_the_model_on_this_machine_judges_only_where_it_is_named(client):
    embedded = embedded_endpoint()
    with pytest.raises(ConfigError, match=r"`inference.judge` names none: set `inference.judge=\{base_url"):
        plugins().build("pairwise", "judge", JudgeContext(client, {"assistant": embedded}))
    assert JudgeContext(client, {"assistant": embedded, "judge": embedded}).endpoint("judge") is embedded
    assert JudgeContext(client, {"assistant": embedded}).endpoint("user") is embedded


def test_judges_of_a_wrapper_are_refused_by_name():
    class Wrapping:
        @hookimpl(wrapper=True)
        def duologue_register_judges(self, register):
            register.judge("polite", "polite_plugin:Polite")
            return (yield)

    registry = Plugins(discover=False)
    registry.register(Wrapping(), name="wrapping")
    with pytest.raises(PluginError, match="plugin `wrapping`: `duologue_register_judges` cannot be a wrapper"):
        _ = registry.judges


def test_what_a_plugin_prints_does_not_come_between_results(install, capsys):
    printing = POLITE.replace("    register.judge", "    print('registering')\n    register.judge")
    install("loud", "1", {"loud": "polite_plugin"}, polite_plugin="print('imported')" + printing)
    assert "polite" in Plugins().judges
    out, err = capsys.readouterr()
    assert (out, err.split()) == ("", ["imported", "registering"])
