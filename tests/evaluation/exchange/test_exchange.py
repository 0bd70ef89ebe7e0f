"""Files of AlpacaEval, MT-Bench and Arena-Hard: read as their repositories write them, and written so that they read back."""

import json

import numpy as np
import pytest

from duologue.cli import main
from duologue.commands.exchange import run_export, run_import
from duologue.core.errors import ConfigError
from duologue.envs import load_scenarios
from duologue.evaluation.exchange.answer_files import load_prompts, read_answers
from duologue.evaluation.stats.length_control import Anchor, style_controlled


def lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def results(folder):
    rows = json.loads((folder / "summary.json").read_text())["results"]
    return {(row["contestant"], row["baseline"]): row for row in rows}


ANNOTATIONS = [
    {
        "instruction": f"Question {i}?",
        "output_1": "The baseline's answer.",
        "generator_1": "base",
        "output_2": "The model's own, longer answer.",
        "generator_2": "model",
        "annotator": "weighted_alpaca_eval_gpt4_turbo",
        "preference": preference,
    }
    for i, preference in enumerate([1.0, 2.0, 1.9, 1.5, None])
]


@pytest.fixture
def alpaca(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(ANNOTATIONS))
    return path


@pytest.fixture
def mt(tmp_path):
    """Two questions of two turns, judged at both turns as FastChat writes it."""
    root = tmp_path / "mt"
    questions = [{"question_id": q, "category": "math", "turns": [f"{q} first?", f"{q} second?"]} for q in (81, 82)]
    questions[1]["reference"] = ["r1", "r2"]
    lines(root / "question.jsonl", questions)
    for model in ("vicuna", "llama"):
        answers = [
            {
                "question_id": q,
                "model_id": model,
                "choices": [{"index": 0, "turns": [f"{model} {q} a", f"{model} {q} b"]}],
            }
            for q in (81, 82)
        ]
        lines(root / "model_answer" / f"{model}.jsonl", answers)
    judged = [
        (81, 1, "model_1", "model_1"),
        (81, 2, "model_1", "tie"),
        (82, 1, "model_2", "model_1"),
        (82, 2, "error", "tie"),
    ]
    verdicts = [
        {"question_id": q, "model_1": "vicuna", "model_2": "llama", "g1_winner": g1, "g2_winner": g2, "turn": turn}
        | {"judge": ["gpt-4", "pair-v2"], "g1_judgment": "said one", "g2_judgment": "said two", "tstamp": 1.0}
        for q, turn, g1, g2 in judged
    ]
    lines(root / "gpt-4_pair.jsonl", verdicts)
    return root


@pytest.fixture
def arena(tmp_path):
    """As version 2 writes it: the baseline is shown first in the first game."""
    root = tmp_path / "arena"
    lines(root / "question.jsonl", [{"uid": u, "category": "hard_prompt", "prompt": f"{u}?"} for u in "abcd"])
    for model in ("o3-mini", "mine"):
        said = [
            {
                "uid": u,
                "model": model,
                "messages": [
                    {"role": "user", "content": f"{u}?"},
                    {"role": "assistant", "content": {"answer": f"{model} {u}"}},
                ],
            }
            for u in "abcd"
        ]
        lines(root / "model_answer" / f"{model}.jsonl", said)
    games = {"a": ("B>>A", "A>B"), "b": ("A>B", "B>A"), "c": ("A=B", "A>B"), "d": (None, "A>B")}
    judged = [
        {"uid": u, "category": "hard_prompt", "judge": "gpt-4.1", "model": "mine", "baseline": "o3-mini"}
        | {"games": [{"score": label, "judgment": {"answer": f"game {n}"}} for n, label in enumerate(pair)]}
        for u, pair in games.items()
    ]
    lines(root / "mine.jsonl", judged)
    return root


def test_annotations_become_a_run_with_its_report(alpaca, tmp_path, capsys):
    """(0 + 1 + 0.9 + 0.5) / 4, and one without a preference."""
    main(["import", "alpaca_eval", str(alpaca), f"to={tmp_path / 'run'}"])
    (row,) = results(tmp_path / "run").values()
    assert (row["contestant"], row["baseline"], row["judge"]) == ("model", "base", "weighted_alpaca_eval_gpt4_turbo")
    assert (row["win_rate"], row["n"], row["failures"]) == (0.6, 4, 1)
    assert row["consistency"] is None  # the order in which the judge saw the two is not known
    assert (tmp_path / "run" / "report.html").exists()
    assert "5 matches" in capsys.readouterr().out


def test_a_preference_of_0_is_a_draw(tmp_path):
    """AlpacaEval 1 writes 0 where its annotators call it a draw; it counts 1.5."""
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([{**ANNOTATIONS[0], "instruction": str(p), "preference": p} for p in (0, 1, 2, 2, -1)]))
    run_import(["alpaca_eval", str(path), f"to={tmp_path / 'run'}"])
    (row,) = results(tmp_path / "run").values()
    assert (row["win_rate"], row["ties"], row["failures"]) == (0.625, 1, 1)


def test_the_order_of_annotations_is_not_known_and_the_report_says_so(alpaca, tmp_path):
    run_import(["alpaca_eval", str(alpaca), f"to={tmp_path / 'run'}"])
    for name in ("report.md", "report.html"):
        text = (tmp_path / "run" / name).read_text()
        assert "one by one" not in text
        assert "not known" in text


def test_a_file_given_twice_counts_once_and_inputs_are_kept(alpaca, tmp_path, capsys):
    copy = tmp_path / "copy.json"
    copy.write_text(alpaca.read_text())
    run_import(["alpaca_eval", str(alpaca), str(copy), f"to={tmp_path / 'run'}"])
    (row,) = results(tmp_path / "run").values()
    assert (row["n"], row["failures"]) == (4, 1)
    assert "5 verdicts occur in more than one file and count once" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["files"] == [str(alpaca), str(copy)]


def test_a_baseline_against_itself_beside_another_baseline(tmp_path):
    itself = {**ANNOTATIONS[0], "generator_2": "base", "preference": 1.5}
    other = [{**record, "generator_1": "other"} for record in ANNOTATIONS]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([itself, *ANNOTATIONS, *other]))
    run_import(["alpaca_eval", str(path), f"to={tmp_path / 'run'}"])
    assert (tmp_path / "run" / "report.html").exists()


def test_nothing_decided_against_two_baselines(tmp_path):
    records = [{**ANNOTATIONS[0], "generator_1": name, "preference": None} for name in ("a", "b")]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(records))
    run_import(["alpaca_eval", str(path), f"to={tmp_path / 'run'}"])
    assert "Nothing was decided" in (tmp_path / "run" / "report.html").read_text()


def test_an_empty_reply_is_an_answer(mt, arena, tmp_path):
    """Of one question: the others stay, and the match is judged as it stands."""
    path = mt / "model_answer" / "llama.jsonl"
    answers = read(path)
    answers[0]["choices"][0]["turns"] = ["", "Well."]
    lines(path, answers)
    assert dict(read_answers(path))["81"] == ("", "Well.")
    rest = [f"questions={mt / 'question.jsonl'}", f"answers={mt / 'model_answer'}", f"to={tmp_path / 'run'}"]
    run_import(["mt_bench", str(mt / "gpt-4_pair.jsonl"), *rest])
    assert len(read(tmp_path / "run" / "matches.jsonl")) == 4
    path = arena / "model_answer" / "mine.jsonl"
    answers = read(path)
    for answer, text in zip(answers, ("", None), strict=False):
        answer["messages"][1]["content"]["answer"] = text
    assert [replies for _, replies in read_answers(lines(path, answers))][:3] == [("",), ("",), ("mine c",)]
    assert read_answers(lines(tmp_path / "own.jsonl", [{"prompt": "Why?", "reply": ""}])) == [("Why?", ("",))]


def test_questions_with_line_separators_in_them(arena, tmp_path):
    """As the official questions of Arena-Hard 2 have them."""
    path = arena / "question.jsonl"
    records = [{**record, "prompt": f"{record['prompt']}\u2028more\u0085yet"} for record in read(path)]
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    rest = [f"questions={path}", f"answers={arena / 'model_answer'}", f"to={tmp_path / 'run'}"]
    run_import(["arena_hard", str(arena / "mine.jsonl"), *rest])
    assert read(tmp_path / "run" / "matches.jsonl")[0]["messages"][0]["content"] == "a?\u2028more\u0085yet"


def test_an_export_keeps_what_the_import_read(arena, tmp_path):
    kept = {"dataset": "helpful_base", "raw_completion": {"choices": [{"text": "m"}], "é": None}}
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([ANNOTATIONS[1] | kept]))
    run_import(["alpaca_eval", str(path), f"to={tmp_path / 'run'}"])
    run_export(["alpaca_eval", str(tmp_path / "run"), f"to={tmp_path / 'out'}"])
    (written,) = json.loads((tmp_path / "out" / "model" / "annotations.json").read_text())
    assert {name: written[name] for name in kept} == kept
    (output,) = json.loads((tmp_path / "out" / "model" / "model_outputs.json").read_text())
    assert output["dataset"] == "helpful_base"
    rest = [
        f"questions={arena / 'question.jsonl'}",
        f"answers={arena / 'model_answer'}",
        f"to={tmp_path / 'arena_run'}",
    ]
    run_import(["arena_hard", str(arena / "mine.jsonl"), *rest])
    run_export(["arena_hard", str(tmp_path / "arena_run"), f"to={tmp_path / 'back'}"])
    (judged,) = (tmp_path / "back" / "model_judgment").rglob("*.jsonl")
    labels = {record["uid"]: [game["score"] for game in record["games"]] for record in read(judged)}
    assert labels["a"] == ["B>>A", "A>B"]
    assert {record["category"] for record in read(tmp_path / "back" / "question.jsonl")} == {"hard_prompt"}


def test_difficulties_and_an_anchor_give_alpaca_evals_length_control(tmp_path):
    rng = np.random.default_rng(0)
    records, known = [], []
    for i in range(60):
        record = {**ANNOTATIONS[0], "instruction": f"Question {i}?", "preference": 1 + float(rng.random())}
        records.append(
            {**record, "output_1": "x" * int(rng.integers(5, 90)), "output_2": "y" * int(rng.integers(5, 90))}
        )
        known.append({"instruction": f"Question {i}?", "difficulty": float(rng.normal())})
    names = ("preference", "std_delta_len", "instruction_difficulty")
    anchor = [dict(zip(names, map(float, (rng.random(), *rng.normal(size=2))), strict=True)) for _ in range(80)]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(records))
    options = [
        f"difficulty={lines(tmp_path / 'd.jsonl', known)}",
        f"anchor={lines(tmp_path / 'a.jsonl', anchor)}",
    ]
    run_import(["alpaca_eval", str(path), f"to={tmp_path / 'run'}", *options])
    shorter = [len(record["output_1"]) - len(record["output_2"]) for record in records]
    expected = style_controlled(
        [record["preference"] - 1 for record in records],
        shorter,
        [one["difficulty"] for one in known],
        Anchor(*([row[name] for row in anchor] for name in names)),
    )
    (row,) = json.loads((tmp_path / "run" / "report.json").read_text())["leaderboard"]
    assert row["controlled"]["rate"] == pytest.approx(expected.rate)
    assert "as AlpacaEval does it" in (tmp_path / "run" / "report.html").read_text()
    run_import(["alpaca_eval", str(path), f"to={tmp_path / 'plain'}"])
    assert "not the figure that AlpacaEval publishes" in (tmp_path / "plain" / "report.html").read_text()
    with pytest.raises(ConfigError, match="`anchor` needs `difficulty`"):
        run_import(["alpaca_eval", str(path), f"to={tmp_path / 'x'}", options[1]])
    lines(tmp_path / "d.jsonl", known[1:])
    with pytest.raises(ConfigError, match=r"has none for the question 'Question 0\?'"):
        run_import(["alpaca_eval", str(path), f"to={tmp_path / 'x'}", options[0]])


def test_pairs_of_mt_bench_keep_their_turns_and_orders(mt, tmp_path):
    run_import(
        [
            "mt_bench",
            str(mt / "gpt-4_pair.jsonl"),
            f"questions={mt / 'question.jsonl'}",
            f"answers={mt / 'model_answer'}",
            f"to={tmp_path / 'run'}",
        ]
    )
    (row,) = results(tmp_path / "run").values()
    assert (row["contestant"], row["baseline"], row["judge"]) == ("vicuna", "llama", "gpt-4")
    assert (row["win_rate"], row["n"], row["failures"]) == (pytest.approx((1 + 0.75 + 0.5) / 3, abs=1e-6), 3, 1)
    assert row["consistency"] == pytest.approx(1 / 3, abs=1e-6)
    second = read(tmp_path / "run" / "matches.jsonl")[1]
    assert (second["scenario"], second["repeat"], second["orders"]) == ("81", 1, [1.0, 0.5])
    assert [m["content"] for m in second["messages"]] == ["81 first?", "vicuna 81 a", "81 second?"]
    assert second["baseline_messages"][1]["content"] == "llama 81 a"
    assert (second["reply"], second["baseline_reply"]) == ("vicuna 81 b", "llama 81 b")


def test_games_of_arena_hard_count_from_the_models_side(arena, tmp_path):
    """a: won twice. b: lost twice. c: a tie where it was shown second, won where it was first. d: no verdict."""
    run_import(
        [
            "arena_hard",
            str(arena / "mine.jsonl"),
            f"questions={arena / 'question.jsonl'}",
            f"answers={arena / 'model_answer'}",
            f"to={tmp_path / 'run'}",
        ]
    )
    (row,) = results(tmp_path / "run").values()
    assert (row["win_rate"], row["n"], row["failures"]) == (pytest.approx((1 + 0 + 0.75) / 3, abs=1e-6), 3, 1)
    orders = {match["scenario"]: match["orders"] for match in read(tmp_path / "run" / "matches.jsonl")}
    assert orders == {"a": [1.0, 1.0], "b": [0.0, 0.0], "c": [1.0, 0.5], "d": []}


def test_the_older_arena_hard_needs_its_baselines_name(tmp_path):
    lines(tmp_path / "question.jsonl", [{"question_id": "q", "turns": [{"content": "Q?"}]}])
    for model in ("old", "new"):
        choice = {"index": 0, "turns": [{"content": f"by {model}", "token_len": 2}]}
        lines(tmp_path / "answers" / f"{model}.jsonl", [{"question_id": "q", "model_id": model, "choices": [choice]}])
    games = [{"user_prompt": "…", "judgment": "[[B>A]]", "score": "B>A"}, {"judgment": "[[A>B]]", "score": "A>B"}]
    path = lines(tmp_path / "new.jsonl", [{"question_id": "q", "model": "new", "judge": "gpt-4", "games": games}])
    rest = [f"questions={tmp_path / 'question.jsonl'}", f"answers={tmp_path / 'answers'}", f"to={tmp_path / 'run'}"]
    with pytest.raises(ConfigError, match="add `baseline=NAME`"):
        run_import(["arena_hard", str(path), *rest])
    run_import(["arena_hard", str(path), *rest, "baseline=old"])
    assert results(tmp_path / "run")[("new", "old")]["win_rate"] == 1.0


@pytest.mark.parametrize("kind", ["alpaca_eval", "mt_bench", "arena_hard"])
def test_what_is_written_reads_back(kind, arena, tmp_path):
    """A run, in each format and back: the same matches, as far as the format has a place for what they say."""
    source, target = tmp_path / "run", tmp_path / "out"
    run_import(
        [
            "arena_hard",
            str(arena / "mine.jsonl"),
            f"questions={arena / 'question.jsonl'}",
            f"answers={arena / 'model_answer'}",
            f"to={source}",
        ]
    )
    run_export([kind, str(source), f"to={target}"])
    rest = [f"questions={target / 'question.jsonl'}", f"answers={target / 'model_answer'}", f"to={tmp_path / 'back'}"]
    judged = {
        "alpaca_eval": target / "mine" / "annotations.json",
        "mt_bench": target / "model_judgment" / "gpt-4.1_pair.jsonl",
        "arena_hard": target / "model_judgment" / "gpt-4.1" / "mine.jsonl",
    }[kind]
    run_import([kind, str(judged), *(rest if kind != "alpaca_eval" else rest[-1:])])
    before, after = (read(tmp_path / name / "matches.jsonl") for name in ("run", "back"))
    assert len(before) == len(after) == 4
    for one, other in zip(before, after, strict=True):
        assert [m["content"] for m in one["messages"]] == [m["content"] for m in other["messages"]]
        for key in ("contestant", "baseline", "judge", "reply", "baseline_reply", "outcome"):
            assert one[key] == other[key]
        if kind != "alpaca_eval":
            assert one["orders"] == other["orders"]
    old, new = results(source).popitem()[1], results(tmp_path / "back").popitem()[1]
    assert old["win_rate"] == new["win_rate"]


def test_dialogues_go_to_mt_bench_and_nowhere_else(mt, tmp_path):
    run_import(
        [
            "mt_bench",
            str(mt / "gpt-4_pair.jsonl"),
            f"questions={mt / 'question.jsonl'}",
            f"answers={mt / 'model_answer'}",
            f"to={tmp_path / 'run'}",
        ]
    )
    for kind in ("alpaca_eval", "arena_hard"):
        with pytest.raises(ConfigError, match="export to mt_bench"):
            run_export([kind, str(tmp_path / "run"), f"to={tmp_path / kind}"])
        assert not (tmp_path / kind).exists()
    run_export(["mt_bench", str(tmp_path / "run"), f"to={tmp_path / 'out'}"])
    for name in ("question.jsonl", "model_answer/llama.jsonl"):
        kept = ("question_id", "turns", "model_id", "choices")
        written, given = (
            [{k: v for k, v in r.items() if k in kept} for r in read(place / name)] for place in (tmp_path / "out", mt)
        )
        assert written == [{**record, "question_id": str(record["question_id"])} for record in given]
    judged = read(tmp_path / "out" / "model_judgment" / "gpt-4_pair.jsonl")
    assert [(r["question_id"], r["turn"], r["g1_winner"], r["g2_winner"]) for r in judged] == [
        ("81", 1, "model_1", "model_1"),
        ("81", 2, "model_1", "tie"),
        ("82", 1, "model_2", "model_1"),
        ("82", 2, "error", "error"),
    ]


def test_outputs_that_were_written_are_answers_again(alpaca, tmp_path):
    run_import(["alpaca_eval", str(alpaca), f"to={tmp_path / 'run'}"])
    run_export(["alpaca_eval", str(tmp_path / "run"), f"to={tmp_path / 'out'}"])
    answers = read_answers(tmp_path / "out" / "base" / "model_outputs.json")
    assert answers[0] == ("Question 0?", ("The baseline's answer.",))
    assert len(answers) == 5


@pytest.mark.parametrize("kind", ["alpaca", "mt", "arena"])
def test_questions_become_scenarios(kind, alpaca, mt, arena, tmp_path):
    source = {"alpaca": alpaca, "mt": mt / "question.jsonl", "arena": arena / "question.jsonl"}[kind]
    name = {"alpaca": "alpaca_eval", "mt": "mt_bench", "arena": "arena_hard"}[kind]
    run_import([name, str(source), f"to={tmp_path / 'own' / 'scenarios.jsonl'}"])
    found = load_scenarios(tmp_path / "own" / "scenarios.jsonl", "test")
    assert [scenario.user for scenario in found] == [scenario.user for scenario in load_prompts(str(source))]
    if kind == "mt":
        assert found[1].user == ("82 first?", "82 second?")
        assert (found[0].reference, found[1].reference, found[0].tags) == (None, "r2", ("math",))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mtbench", "x", "to=y"], "there is no format `mtbench`: did you mean `mt_bench`"),
        (["mt_bench", "to=y"], "needs a file"),
        (["mt_bench", "x"], "`duologue import.to` is missing"),
        (["mt_bench", "nowhere.jsonl", "to=y"], "add `questions=FILE answers=FOLDER`"),
        (["alpaca_eval", "nowhere.json", "to=y"], "cannot be read"),
        (["alpaca_eval", "a", "b", "to=y.jsonl"], "questions come from one file"),
    ],
)
def test_mistakes_are_named(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        run_import(arguments)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_a_verdict_refers_to_must_be_there(mt, tmp_path):
    wrong = lines(tmp_path / "wrong.jsonl", [{"question_id": 99, "model_1": "vicuna", "model_2": "llama"}])
    rest = [f"questions={mt / 'question.jsonl'}", f"answers={mt / 'model_answer'}", f"to={tmp_path / 'run'}"]
    with pytest.raises(ConfigError, match="line 1: there is no question `99` among the 2"):
        run_import(["mt_bench", str(wrong), *rest])
    lines(wrong, [{"question_id": 81, "model_1": "vicuna", "model_2": "gpt"}])
    with pytest.raises(ConfigError, match="no answer of `gpt` to turn 1 of question `81`"):
        run_import(["mt_bench", str(wrong), *rest])
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_is_left_alone(alpaca, tmp_path):
    with pytest.raises(ConfigError, match="is not empty"):
        run_import(["alpaca_eval", str(alpaca), f"to={tmp_path}"])
