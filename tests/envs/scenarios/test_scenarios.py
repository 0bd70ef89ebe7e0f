"""The shipped scenarios, and what a user is told about a file of their own."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.envs import Scenario, load_scenarios
from duologue.envs.scenarios.loading import SHIPPED
from duologue.envs.scenarios.scenario import SPLITS, parse_scenario, read_scenarios, write_scenarios
from duologue.inference import ConfigError, ScenarioError

GOOD = {"id": "a", "split": "train", "user": "Hello?"}


@pytest.fixture
def write(tmp_path):
    """Writes lines, records as JSON and texts as they are, to a file."""

    def write(*lines):
        path = tmp_path / "mine.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def shipped():
    return {split: load_scenarios("assistant", split) for split in SPLITS}


def prompt(scenario: Scenario) -> str:
    """What is asked, without case, punctuation and spacing."""
    return " ".join(re.findall(r"\w+", " ".join(scenario.user).lower()))


def test_the_shipped_set_is_large_and_varied(shipped):
    every = [scenario for scenarios in shipped.values() for scenario in scenarios]
    assert len(every) >= 360
    assert len(shipped["test"]) >= 120
    assert len({tag for scenario in every for tag in scenario.tags}) >= 12


def test_every_shipped_scenario_has_a_reference_and_a_tag(shipped):
    for scenarios in shipped.values():
        assert all(scenario.reference and scenario.reference.strip() and scenario.tags for scenario in scenarios)


def test_every_split_of_the_shipped_set_holds_every_tag(shipped):
    tags = [{tag for scenario in scenarios for tag in scenario.tags} for scenarios in shipped.values()]
    assert tags[0] == tags[1] == tags[2]


def test_shipped_ids_prompts_and_references_occur_once_over_all_splits(shipped):
    every = [scenario for scenarios in shipped.values() for scenario in scenarios]
    for what in (lambda s: s.id, prompt, lambda s: s.reference.lower()):
        assert len({what(scenario) for scenario in every}) == len(every)


def test_shipped_splits_cover_the_file(shipped):
    assert sum(map(len, shipped.values())) == len(read_scenarios(SHIPPED["assistant"]))
    assert all(scenario.split == split for split, scenarios in shipped.items() for scenario in scenarios)


def test_every_field_of_a_record_is_read(write):
    record = {
        "id": "x",
        "split": "test",
        "user": ["One.", "Two."],
        "system": "Be kind.",
        "reference": "Yes.",
        "tags": ["a", "b"],
        "persona": "a child",
        "goal": "to learn",
        "hidden": {"code": 7},
    }
    expected = Scenario(
        "x", "test", ("One.", "Two."), "Be kind.", "Yes.", ("a", "b"), "a child", "to learn", {"code": 7}
    )
    assert load_scenarios(write(record), "test") == [expected]


def test_a_single_text_is_a_dialogue_of_one_user_turn(write):
    assert load_scenarios(write(GOOD), "train") == [Scenario("a", "train", ("Hello?",))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "b", ', "is no JSON"),
        ("not json", "is no JSON"),
        ('{"id": "b", "split": "train", "user": "\\ud83d"}', "holds \\ud83d, half of a surrogate pair"),
        ("[1, 2]", "expected an object, not list"),
        ({**GOOD, "id": "b", "refrence": "x"}, "unknown field `refrence`: did you mean `reference`?"),
        ({"split": "train", "user": "Hi"}, "field `id` is missing or empty"),
        ({"id": "", "split": "train", "user": "Hi"}, "field `id` is missing or empty"),
        ({"id": "b", "user": "Hi"}, "field `split` is missing or empty"),
        ({"id": "b", "split": "train"}, "field `user` is missing or empty"),
        ({"id": "b", "split": "train", "user": []}, "field `user` is missing or empty"),
        ({"id": "b", "split": "train", "user": ["Hi", " "]}, "field `user` must hold texts that are not empty"),
        ({"id": "b", "split": "train", "user": ["Hi", 3]}, "field `user` must hold texts that are not empty"),
        ({"id": "b", "split": "train", "user": 3}, "field `user` must be str, not int"),
        ({"id": "b", "split": "train", "user": "Hi", "tags": "x"}, "field `tags` must be list, not str"),
        ({"id": "b", "split": "trian", "user": "Hi"}, "must be one of train, validation, test, not 'trian'"),
        ({"id": "a", "split": "train", "user": "Hi"}, "id `a` was already used in line 1"),
        ({"id": "b", "split": "test", "user": "Hello?"}, "are those of line 1, which is in split `train`"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(write, line, said):
    path = write(GOOD, "", {"id": "good", "split": "train", "user": "Fine."}, line)
    with pytest.raises(ScenarioError) as caught:
        load_scenarios(path, "train")
    assert str(caught.value).startswith(f"{path}, line 4: ")
    assert said in str(caught.value)


def test_a_file_that_is_not_utf_8_is_named_with_its_line(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"id": "b", "split": "train", "user": "caf\xe9"}\n')
    with pytest.raises(ScenarioError, match=re.escape(f"{path}, line 2: ")):
        load_scenarios(path, "train")


def test_the_same_opening_is_allowed_within_one_split_and_under_another_system_prompt(write):
    path = write(GOOD, {**GOOD, "id": "b"}, {**GOOD, "id": "c", "split": "test", "system": "Answer in French."})
    assert [s.id for s in read_scenarios(path)] == ["a", "b", "c"]


def test_separators_inside_a_text_do_not_end_its_line(tmp_path):
    path = tmp_path / "x.jsonl"
    record = {"id": "a", "split": "train", "user": "one\u2028two\u2029three\u0085four"}
    path.write_text("\ufeff" + json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    assert load_scenarios(path, "train")[0].user == (record["user"],)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_an_empty_system_prompt_is_kept(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    written = [Scenario("a", "test", ("Hello?",), system=""), Scenario("b", "test", ("Hello?",))]
    write_scenarios(written, tmp_path / f"x.{suffix}")
    assert read_scenarios(tmp_path / f"x.{suffix}") == written


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'none.jsonl'} cannot be read: No such file")):
        load_scenarios(tmp_path / "none.jsonl", "train")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.jsonl cannot be read"):
        load_scenarios(tmp_path / "folder.jsonl", "train")


def test_an_unknown_set_gets_the_near_miss():
    with pytest.raises(ConfigError, match=r"no scenario set `asistant`: did you mean `assistant`\?"):
        load_scenarios("asistant", "train")


def test_an_unknown_split_gets_the_near_miss():
    with pytest.raises(ConfigError, match=r"no split `tets`: did you mean `test`\?"):
        load_scenarios("assistant", "tets")


def test_an_empty_split_is_an_error(write):
    path = write(GOOD)
    with pytest.raises(ConfigError, match=re.escape(f"{path} holds no scenario with `split` 'test'")):
        load_scenarios(path, "test")


def test_an_empty_file_is_an_empty_split(write):
    with pytest.raises(ConfigError, match="holds no scenario"):
        load_scenarios(write(""), "train")


def test_limit_takes_from_the_start_of_the_split(shipped):
    assert load_scenarios("assistant", "test", limit=5) == shipped["test"][:5]
    assert load_scenarios("assistant", "test", limit=10_000) == shipped["test"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(ConfigError, match=f"at least 1, not {limit}"):
        load_scenarios("assistant", "test", limit=limit)


texts = st.text(min_size=1).filter(str.strip)
records = st.fixed_dictionaries(
    {"id": st.text(min_size=1), "split": st.sampled_from(SPLITS), "user": st.lists(texts, min_size=1, max_size=3)},
    optional={
        "system": st.none() | st.text(),
        "reference": st.none() | st.text(),
        "tags": st.lists(texts, max_size=2),
        "persona": st.none() | st.text(),
        "goal": st.none() | st.text(),
        "hidden": st.dictionaries(st.text(), st.integers() | st.text(), max_size=2),
    },
)
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=5), scalars, max_size=2)


@given(records)
def test_a_good_record_keeps_its_values(record):
    scenario = parse_scenario(record)
    for name, value in record.items():
        kept = getattr(scenario, name)
        assert (list(kept) if name in ("user", "tags") else kept) == value


@given(
    st.dictionaries(st.sampled_from(["id", "split", "user", "tags", "hidden", "reference", "other"]), values) | values
)
def test_any_other_value_is_refused_with_a_reason_and_never_crashes(record):
    try:
        scenario = parse_scenario(record)
    except ValueError as error:
        scenario, reason = None, str(error)
    if scenario is None:
        assert reason
    else:
        assert scenario.id
        assert scenario.user
        assert scenario.split in SPLITS
