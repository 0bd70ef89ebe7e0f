"""Labelled data is read, or refused with file, line and cure."""

import json

import pytest

from duologue.core.errors import ConfigError
from duologue.evaluation.judge_check.labelled import LabelledPair, LabelledScore, read_labelled


@pytest.fixture
def write(tmp_path):
    def make(*records):
        path = tmp_path / "data.jsonl"
        path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n")
        return path

    return make


PAIR = {"prompt": "Why?", "first": "So.", "second": "Hm.", "label": "first"}
SCORED = {"prompt": "Why?", "reply": "So.", "score": 4}


def test_pairs(write):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    path = write(
        PAIR,
        "",
        {
            "id": "x",
            "messages": messages,
            "first": "A",
            "second": "B",
            "label": 2,
            "reference": "R",
            "first_model": "m",
        },
    )
    one, two = read_labelled(path)
    assert isinstance(one, LabelledPair)
    assert (one.id, one.label, one.first.reply, one.second.reply) == ("1", "first", "So.", "Hm.")
    assert one.first.messages == ({"role": "user", "content": "Why?"},)
    assert (two.id, two.label, two.models) == ("x", "second", ("m", None))
    assert two.second.messages == tuple(messages)
    assert two.first.reference == "R"
    assert len(read_labelled(path, 1)) == 1


@pytest.mark.parametrize(
    ("label", "expected"),
    [("A", "first"), ("2", "second"), (1, "first"), ("tie", "tie"), ("model_b", "second"), (0, "tie")],
)
def test_labels_of_other_datasets(write, label, expected):
    assert read_labelled(write({**PAIR, "label": label}))[0].label == expected


def test_scores(write):
    (one,) = read_labelled(write({**SCORED, "model": "m", "comment": "Well said."}))
    assert isinstance(one, LabelledScore)
    assert (one.score, one.turn.reply) == (4.0, "So.")


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (["{"], "data.jsonl line 1 is no JSON"),
        (["[1]"], "must hold JSON objects"),
        ([""], "holds nothing"),
        ([PAIR, SCORED], "holds pairs and scores: put them into two files"),
        ([PAIR, {**PAIR, "id": "1"}], "the id '1' occurs more than once"),
        ([{**PAIR, "lable": 1}], "`lable` is no field of a record: did you mean `label`"),
        ([{**PAIR, "label": "both"}], "`label` must be first, second or tie, not 'both'"),
        ([{**PAIR, "first": 3}], "`first` must be a text, not 3"),
        ([{**SCORED, "score": "good"}], "`score` must be a number, not 'good'"),
        ([{**SCORED, "score": True}], "`score` must be a number, not True"),
        ([{"reply": "So.", "score": 1}], "needs either `prompt`, a text, or `messages`"),
        ([{**SCORED, "messages": []}], "needs either `prompt`, a text, or `messages`"),
        ([{"messages": [], "reply": "x", "score": 1}], "`messages` must be a list"),
        ([{"messages": [{"role": "user"}], "reply": "x", "score": 1}], "a message must have the texts `role` and"),
    ],
)
def test_a_bad_line_is_named_with_the_cure(write, records, said):
    with pytest.raises(ConfigError) as caught:
        read_labelled(write(*records))
    assert said in str(caught.value)


PANDALM = {"idx": 0, "instruction": "Add.", "input": "2 and 2", "response1": "4", "response2": "5"}

PUBLIC = [
    (
        {"pair_id": "p", "original_id": "o", "source": "mmlu", "question": "Why?", "response_model": "gpt-4o"}
        | {"response_A": "So.", "response_B": "Hm.", "label": "B>A"},
        ("p", "Why?", "So.", "Hm.", "second"),
    ),
    ({"input": "Why?", "output_1": "So.", "output_2": "Hm.", "label": 2}, ("1", "Why?", "So.", "Hm.", "second")),
    (PANDALM | {"annotator1": 1, "annotator2": 1, "annotator3": 0}, ("1", "Add.\n\n2 and 2", "4", "5", "first")),
    (PANDALM | {"annotator1": 1, "annotator2": 2, "annotator3": 0}, ("1", "Add.\n\n2 and 2", "4", "5", "tie")),
    (
        {"prompt": "Why?", "chosen": "So.", "chosen_model": "m", "rejected": "Hm.", "rejected_model": "n"}
        | {"subset": "alpacaeval-easy", "id": 3},
        ("1", "Why?", "So.", "Hm.", "first"),
    ),
]


@pytest.mark.parametrize("form", ["lines", "list", "parquet"])
@pytest.mark.parametrize(("record", "expected"), PUBLIC)
def test_public_files_are_read_as_they_are(tmp_path, record, expected, form):
    path = tmp_path / {"lines": "data.jsonl", "list": "data.json", "parquet": "data.parquet"}[form]
    if form == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist([record]), path)
    else:
        path.write_text(json.dumps(record if form == "lines" else [record], indent=None if form == "lines" else 1))
    (pair,) = read_labelled(path)
    found = pair.id, pair.first.messages[-1]["content"], pair.first.reply, pair.second.reply, pair.label
    assert found == expected


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_labelled(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="`limit` must be at least 1"):
        read_labelled(tmp_path / "none.jsonl", 0)
