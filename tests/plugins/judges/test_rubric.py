"""Several criteria in one call: every one of them graded, or a failure."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.inference import ConfigError
from duologue.plugins import Failure, Plugins, Turn
from duologue.plugins.judges.criteria import Criterion, Rubric, load_rubric
from duologue.plugins.judges.llm import LLMJudge
from duologue.plugins.judges.rubric import RubricJudge, read_grades, weighted_mean

RUBRIC = Rubric((1, 5), {"clear": Criterion("Is it?"), "well_put": Criterion("Is it?", weight=3)})
QUESTION = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"})

REPLIES = {
    '{"clear": 4, "well_put": 5}': (4, 5),
    '{"reason": "Fine.", "clear": 4, "well_put": 5}': (4, 5),
    '{"clear": "4", "well_put": "5"}': (4, 5),
    '{"clear": "4/5", "well_put": "5/5"}': (4, 5),
    '{"clear": 4.0, "well_put": 5}': (4, 5),
    '{"clear": {"grade": 4, "reason": "r"}, "well_put": {"grade": 5}}': (4, 5),
    'Here it is:\n```json\n{"clear": 4, "well_put": 5}\n```\nAnything else?': (4, 5),
    '{"clear": 1, "well_put": 1}\nOn reflection:\n{"clear": 4, "well_put": 5}': (4, 5),
    '{"draft": true} {"clear": 4, "well_put": 5} {"done": true}': (4, 5),
    '<think>{"clear": 1, "well_put": 1}</think>{"clear": 4, "well_put": 5}': (4, 5),
    '{braces} {{ {"clear": 4, "well_put": 5}': (4, 5),
    "clear: 4\nwell_put: 5": (4, 5),
    "Clear: 4\nWell put: 5": (4, 5),
    "**Clear**: 4/5\n**Well put**: 5/5": (4, 5),
    "- clear: **4**\n- well_put: **5**": (4, 5),
    "1. Clear - 4\n2. Well put - 5": (4, 5),
    "Clear = 4 out of 5\nWell_put = 5 out of 5": (4, 5),
    "clear: 4,\nwell_put: 5.": (4, 5),
    '{"reason": "two\nlines", "clear": 4, "well_put": 5}': (4, 5),
    '{"clear": 4, "well_put": 5,}': (4, 5),
    "{'clear': 4, 'well_put': 5}": (4, 5),
    "{'reason': 'It is clear, mostly.', 'clear': 4, 'well_put': 5,}": (4, 5),
    "{clear: 4, well_put: 5}": (4, 5),
    '{"Clear": 4, "Well Put": 5}': (4, 5),
    '{"CLEAR": 4, "WELL-PUT": 5}': (4, 5),
    '{"grades": {"clear": 4, "well_put": 5}}': (4, 5),
    '{"reason": "r", "result": {"grades": {"Clear": 4, "well_put": 5}}}': (4, 5),
    '{"clear": \uff14, "well_put": \uff15}': (4, 5),
    # one is missing, off the scale, or not certain
    '{"clear": 4}': None,
    '{"clear": 4, "well_put": null}': None,
    '{"clear": 4, "well_put": 6}': None,
    '{"clear": 0, "well_put": 5}': None,
    '{"clear": 4.5, "well_put": 5}': None,
    '{"clear": true, "well_put": 5}': None,
    '{"clear": "good", "well_put": 5}': None,
    '{"clear": "4/10", "well_put": 5}': None,
    '{"clear": [4], "well_put": 5}': None,
    '{"clear": -4, "well_put": 5}': None,
    '{"clear": {"a": 4, "b": 5}, "well_put": 5}': None,
    '{"clear": 4, "well_put": 5': None,
    '{"clear": NaN, "well_put": 5}': None,
    '{"clear": Infinity, "well_put": 5}': None,
    '{"clear": 4, "clear": 2, "well_put": 5}': None,
    '{"clear": 4, "Clear": 2, "well_put": 5}': None,
    '{"one": {"clear": 4, "well_put": 5}, "two": {"clear": 3, "well_put": 5}}': None,
    "{'clear': 4, 'well_put': 9}": None,
    "clear: 4": None,
    "clear: 4\nclear: 3\nwell_put: 5": None,
    "clear: 4-5\nwell_put: 5": None,
    "clear: 4/10\nwell_put: 5": None,
    "unclear: 4\nwell_put: 5": None,
    "clear: four\nwell_put: 5": None,
    "I'm sorry, I can't.": None,
    "": None,
    "<think>clear: 4\nwell_put: 5": None,
}


@pytest.mark.parametrize(("text", "expected"), REPLIES.items())
def test_grades_are_read_only_if_every_one_is_certain(text, expected):
    grades = read_grades(text, RUBRIC)
    assert grades == (None if expected is None else {"clear": expected[0], "well_put": expected[1]})


@given(st.text())
def test_whatever_is_said_gives_grades_on_the_scale_or_none(text):
    grades = read_grades(text, RUBRIC)
    assert grades is None or all(1 <= grade <= 5 for grade in grades.values())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["clear", "well_put", "x"]), inner),
    )
)
def test_whatever_json_is_said_gives_grades_on_the_scale_or_none(value):
    grades = read_grades(json.dumps(value), RUBRIC)
    assert grades is None or all(1 <= grade <= 5 for grade in grades.values())


def test_a_long_answer_is_read_in_linear_time():
    for part in ("{", '{"clear": ', "clear: 4\n", "[", "<think>"):
        assert read_grades(part * 5_000, RUBRIC) is None


def test_the_score_is_the_weighted_mean_on_the_unit_interval():
    assert weighted_mean({"clear": 1, "well_put": 5}, RUBRIC) == pytest.approx((1 + 3 * 5) / 4 / 4 - 1 / 4)
    assert weighted_mean({"clear": 1, "well_put": 1}, RUBRIC) == 0
    assert weighted_mean({"clear": 5, "well_put": 5}, RUBRIC) == 1


def test_the_judge_asks_once_for_all_criteria_and_holds_the_answer_to_a_schema(server, context):
    server.answer = lambda body: '{"reason": "r", "correct": 5, "helpful": 3, "clear": 1}'
    judge = RubricJudge(context)
    (verdict,) = context.client.run(judge.score([Turn(QUESTION, "Because {so}.")]))
    assert verdict.components == {"correct": 5, "helpful": 3, "clear": 1}
    assert verdict.value == pytest.approx(((2 * 5 + 3 + 1) / 4 - 1) / 4)
    (body,) = server.requests
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["reason", "correct", "helpful", "clear"]
    assert schema["properties"]["clear"]["enum"] == [1, 2, 3, 4, 5]
    asked = body["messages"][0]["content"]
    assert "Because {so}." in asked
    assert "- correct: Everything" in asked
    assert "  1 means: its main statement is wrong" in asked
    assert "Be brief." not in asked


def test_an_answer_that_lacks_a_criterion_is_asked_for_again_and_then_a_failure(server, context):
    server.answer = lambda body: '{"correct": 5, "helpful": 3}'
    (verdict,) = context.client.run(RubricJudge(context).score([Turn(QUESTION, "So.")]))
    assert isinstance(verdict, Failure)
    assert "no grade from 1 to 5 for each of correct, helpful, clear" in verdict.error
    assert [body["temperature"] for body in server.requests] == [0.0, 0.7]


def test_the_single_grade_judge_weighs_a_rubric_on_the_rubrics_scale(server, context, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("scale: [0, 4]\ncriteria:\n  kind: Is it kind?\n")
    server.answer = lambda body: "Score: 3"
    (verdict,) = context.client.run(
        LLMJudge(context, rubric=str(path), logprobs="never").score([Turn(QUESTION, "So.")])
    )
    assert verdict.value == 0.75
    asked = server.requests[0]["messages"][0]["content"]
    assert "- kind: Is it kind?" in asked
    assert "from 0 (useless) to 4 (perfect)" in asked


@pytest.mark.parametrize("name", ["answer", "support", "tutor"])
def test_the_rubrics_that_ship_can_be_read(name):
    rubric = load_rubric(name)
    assert len(rubric.criteria) >= 3
    assert rubric.described().count("- ") >= 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("criteria: {}", "`criteria` is empty"),
        ("scale: [1, 5]", "criteria` is missing"),
        ("criteria: {a b: x}", "`a b` is no name for a criterion"),
        ("criteria: {a: {txt: x}}", "did you mean `text`"),
        ("criteria: {a: {text: x, weight: 0}}", "`weight` must be above 0"),
        ("criteria: {a: {text: x, levels: {9: y}}}", "names the grade 9, and the scale is 1 to 5"),
        ("criteria: {a: ' '}", "`text` is empty"),
        ("criteria: {a: 5}", "must hold settings by name"),
        ("scale: [5, 1]\ncriteria: {a: x}", "two whole numbers from 0 to 100, the worst grade first, not [5, 1]"),
        ("scale: [1, 2, 3]\ncriteria: {a: x}", "the worst grade first, not [1, 2, 3]"),
        ("scale: 5\ncriteria: {a: x}", "scale` must be a list"),
        ("- a\n- b", "must hold settings by name"),
        ("a: [", "cannot be read"),
        ("criteria: !!python/object/apply:os.system ['echo']", "cannot be read"),
    ],
)
def test_a_rubric_file_that_is_none_is_named_with_what_is_wrong(tmp_path, content, said):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_rubric(str(path))
    assert said in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rubric_that_is_not_there_is_named_with_those_that_ship(tmp_path, context):
    with pytest.raises(ConfigError, match="there is no rubric `anser`: did you mean `answer`"):
        Plugins(discover=False).build({"name": "rubric", "rubric": "anser"}, "judges.x", context)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rubric(str(tmp_path / "none.yaml"))
