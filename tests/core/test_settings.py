from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from duologue.core.errors import near_miss
from duologue.core.settings import construct, load, named
from duologue.inference import ConfigError


@dataclass
class Part:
    length: int
    width: int = 2
    client: object = None

    def __post_init__(self):
        if self.length < 0:
            raise ValueError(f"`length` must be at least 0, not {self.length}")


@dataclass
class Typed:
    whole: int = 0
    number: float = 0.0
    text: str | None = None
    switch: bool = True
    choice: Literal["a", "b"] = "a"
    several: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    foreign: Path = Path()


def untyped(length):
    return length + 1


def open_ended(**values):
    return values


PARTS = {"counter": "collections:Counter", "fraction": "fractions:Fraction"}


def test_construct_passes_settings_and_keeps_defaults():
    assert construct(Part, {"length": 1}, "part") == Part(1, 2)
    assert construct(Part, {"length": 1, "width": 5}, "part") == Part(1, 5)


def test_an_unknown_name_is_an_error_with_the_near_miss():
    with pytest.raises(ConfigError) as error:
        construct(Part, {"lenght": 1}, "part")
    assert str(error.value) == "`part.lenght` is not a setting here: did you mean `length`?"


def test_an_unknown_name_with_no_near_miss_lists_what_there_is():
    with pytest.raises(ConfigError) as error:
        construct(Part, {"zzz": 1}, "part", client=1)
    assert str(error.value) == "`part.zzz` is not a setting here: known: `length`, `width`"


def test_a_key_that_is_no_text_is_an_error_too():
    with pytest.raises(ConfigError, match=r"`part\.7` is not a setting here"):
        construct(Part, {"length": 1, 7: 2}, "part")


def test_a_missing_name_is_an_error():
    with pytest.raises(ConfigError) as error:
        construct(Part, {}, "part")
    assert str(error.value) == "`part.length` is missing: set it to a value"


def test_a_refused_value_is_an_error_with_the_reason():
    with pytest.raises(ConfigError) as error:
        construct(Part, {"length": -1}, "part")
    assert str(error.value) == "`part` was refused: `length` must be at least 0, not -1"
    assert isinstance(error.value.__cause__, ValueError)


def test_a_constructor_that_fails_on_a_type_is_an_error_too():
    with pytest.raises(ConfigError, match="`part` was refused: "):
        construct(untyped, {"length": "x"}, "part")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("whole", "many", "a whole number, not 'many'"),
        ("whole", 1.5, "a whole number, not 1.5"),
        ("whole", True, "a whole number, not True"),
        ("number", "1e-3", "a number, not '1e-3'"),
        ("number", False, "a number, not False"),
        ("text", 5, "a text or null, not 5"),
        ("switch", 1, "true or false, not 1"),
        ("choice", "c", "one of a, b, not 'c'"),
        ("several", "END", "a list, not 'END'"),
        ("values", [1], "settings by name, not [1]"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_that_says_the_right_one(name, value, text):
    with pytest.raises(ConfigError) as error:
        construct(Typed, {name: value}, "part")
    assert str(error.value) == f"`part.{name}` must be {text}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("whole", 3),
        ("number", 3),
        ("number", 0.5),
        ("text", "x"),
        ("text", None),
        ("switch", False),
        ("choice", "a"),
        ("several", ["x"]),
        ("several", ("x",)),
        ("values", {"x": 1}),
        ("foreign", "any/place"),
    ],
)
def test_a_value_of_the_right_type_passes_as_it_is(name, value):
    assert getattr(construct(Typed, {name: value}, "part"), name) == value


@pytest.mark.parametrize("settings", [5, [1], "length"])
def test_settings_that_are_no_mapping_are_an_error(settings):
    with pytest.raises(ConfigError, match="`part` must hold settings by name"):
        construct(Part, settings, "part")


def test_what_the_program_supplies_cannot_be_set():
    with pytest.raises(ConfigError, match=r"`part\.client` is not a setting here"):
        construct(Part, {"length": 1, "client": "mine"}, "part", client="the program's")


def test_what_the_program_supplies_is_passed_only_where_it_is_named():
    assert construct(Part, {"length": 1}, "part", client="c", other="o") == Part(1, 2, "c")
    assert construct(open_ended, {"anything": 1}, "part", client="c") == {"anything": 1}


def test_named_builds_from_a_name_or_a_mapping_and_leaves_the_mapping_alone():
    settings = {"name": "fraction", "numerator": 6, "denominator": 4}
    assert str(named(PARTS, settings, "part")) == "3/2"
    assert settings == {"name": "fraction", "numerator": 6, "denominator": 4}
    assert named(PARTS, "counter", "part") == {}


@pytest.mark.parametrize("settings", ["fractoin", {"name": "fractoin"}])
def test_an_unknown_part_is_an_error_with_the_near_miss(settings):
    with pytest.raises(ConfigError) as error:
        named(PARTS, settings, "part")
    assert str(error.value) == (
        "`part.name=fractoin` is unknown: did you mean `fraction`? or a dotted path `package.module:Class`"
    )


@pytest.mark.parametrize("settings", [{}, None, {"name": None}, {"name": 3}])
def test_a_part_without_a_name_lists_the_names(settings):
    with pytest.raises(ConfigError) as error:
        named(PARTS, settings, "part")
    assert str(error.value) == "`part.name` is missing: known: `counter`, `fraction`"


def test_a_dotted_path_is_a_name_unless_the_settings_are_a_strangers():
    assert str(named({}, {"name": "fractions:Fraction", "numerator": 2}, "part")) == "2"
    with pytest.raises(ConfigError) as error:
        named(PARTS, {"name": "os:system", "command": "true"}, "part", custom=False)
    assert str(error.value).startswith(
        "`part.name=os:system` names code outside Duologue, which is only imported with `trusted"
    )


@pytest.mark.parametrize("path", ["no_such_package:X", "fractions:Fractoin", ":X", "fractions:", "math:pi"])
def test_a_dotted_path_that_leads_to_no_class_is_an_error_that_names_it(path):
    with pytest.raises(ConfigError, match="`part`") as error:
        named({}, path, "part")
    assert path in str(error.value)


def test_a_path_that_starts_with_a_dot_is_inside_the_package():
    assert load(".core.errors:ConfigError", "x") is ConfigError
    assert load("duologue.core.errors.ConfigError", "x") is ConfigError


def test_near_miss_of_nothing_says_none():
    assert near_miss("x", []) == "known: none"
