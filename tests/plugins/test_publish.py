from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from duologue.core.errors import PluginError
from duologue.plugins import Plugins, hookimpl
from duologue.plugins.publish import publish

COMMON = {"when": "turn", "length_control": False, "normalise": False, "clip": None}


@pytest.fixture(autouse=True)
def hydra_as_found() -> Iterator[None]:
    repo = ConfigStore.instance().repo
    before = repo.pop("judge", None)
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()
    repo.pop("judge", None)
    if before is not None:
        repo["judge"] = before


def composed(*overrides: str, registry: Plugins | None = None) -> DictConfig:
    publish(registry or Plugins(discover=False))
    with initialize_config_module("duologue.conf", version_base="1.3"):
        return compose("train", list(overrides))


def offering(config: type | None, name: str = "strange", plugin: str = "stranger") -> Plugins:
    class Offer:
        @hookimpl
        def duologue_register_judges(self, register):
            register.judge(name, "strange:Judge", config=config)

    registry = Plugins(discover=False)
    registry.register(Offer(), plugin)
    return registry


def test_a_judge_is_added_and_set_from_the_command_line():
    config = composed("+judge@judges.x=length", "judges.x.low=3", "judges.x.weight=0.5")
    assert OmegaConf.to_container(config.judges.x) == {
        "name": "length",
        "low": 3,
        "high": 40,
        "weight": 0.5,
        "gate": False,
        **COMMON,
    }


def test_one_judge_can_be_used_twice_with_different_settings():
    config = composed("+judge@judges.a=length", "+judge@judges.b=length", "judges.a.low=1", "judges.b.low=2")
    assert (config.judges.a.low, config.judges.b.low) == (1, 2)


def test_the_evaluations_judge_is_chosen_from_the_same_group():
    assert composed("judge@evaluation.judge=llm").evaluation.judge.name == "llm"


@pytest.mark.parametrize("name", sorted(Plugins(discover=False).judges))
def test_every_judge_composes_with_its_defaults(name):
    judge = composed(f"+judge@judges.x={name}").judges.x
    assert (judge.name, judge.weight, judge.gate) == (name, 1.0, False)


def test_a_misspelt_setting_is_refused_when_the_configuration_is_composed():
    with pytest.raises(ConfigCompositionException, match=r"judges\.x\.lwo") as caught:
        composed("+judge@judges.x=length", "judges.x.lwo=3")
    assert "LengthJudge" in str(caught.value.__cause__)


@pytest.mark.parametrize("wrong", ["judges.x.low=abc", "judges.x.weight=heavy", "judges.x.gate=7.5"])
def test_a_value_of_the_wrong_type_is_refused_when_the_configuration_is_composed(wrong):
    with pytest.raises(ConfigCompositionException, match=wrong.partition("=")[0]):
        composed("+judge@judges.x=length", wrong)


def test_an_unknown_judge_is_answered_with_the_known_ones():
    with pytest.raises(MissingConfigException, match=r"(?s)judge/lenght.*chrf.*length.*llm.*reference.*rules"):
        composed("+judge@judges.x=lenght")


def test_a_strangers_judge_is_an_option_like_the_built_in_ones():
    @dataclass
    class Settings:
        words: list[str] = field(default_factory=lambda: ["a"])
        strict: bool | None = None

    config = composed("+judge@judges.s=strange", "judges.s.words=[b,c]", registry=offering(Settings))
    assert OmegaConf.to_container(config.judges.s) == {
        "name": "strange",
        "words": ["b", "c"],
        "strict": None,
        "weight": 1.0,
        "gate": False,
        **COMMON,
    }


def test_a_judge_without_settings_has_name_weight_and_gate():
    config = composed("+judge@judges.s=strange", registry=offering(None))
    assert OmegaConf.to_container(config.judges.s) == {"name": "strange", "weight": 1.0, "gate": False, **COMMON}


def test_the_settings_of_a_frozen_dataclass_can_be_set():
    @dataclass(frozen=True)
    class Settings:
        low: int = 1

    assert composed("+judge@judges.s=strange", "judges.s.low=2", registry=offering(Settings)).judges.s.low == 2


def test_keyword_only_and_inherited_settings_are_published():
    @dataclass
    class Base:
        low: int = 1

    @dataclass(kw_only=True)
    class Settings(Base):
        high: int = 2

    settings = composed("+judge@judges.s=strange", registry=offering(Settings)).judges.s
    assert (settings.low, settings.high) == (1, 2)


def test_defaults_are_not_shared_between_compositions():
    first = composed("+judge@judges.x=rules", "judges.x.banned=[a]")
    second = composed("+judge@judges.x=rules")
    assert first.judges.x.banned == ["a"]
    assert len(second.judges.x.banned) == 2


def test_a_setting_without_a_default_is_refused_by_name():
    @dataclass
    class Settings:
        low: int

    with pytest.raises(PluginError, match="judge `strange` of `stranger`: setting `low` needs a default"):
        publish(offering(Settings))


def test_a_setting_of_a_type_that_cannot_be_checked_is_refused_with_the_plugins_name():
    @dataclass
    class Settings:
        where: set[Path] = field(default_factory=set)

    with pytest.raises(PluginError, match="judge `strange` of `stranger`: its settings are refused"):
        publish(offering(Settings))


def test_publishing_twice_is_harmless():
    publish(Plugins(discover=False))
    assert composed("+judge@judges.x=length").judges.x.low == 8
