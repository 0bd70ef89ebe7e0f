"""Preference pairs: of candidates and of matches, by hand and by the commands; what has no score is in none."""

import json

import pytest

from duologue.agents.training import train
from duologue.commands.exchange import run_export
from duologue.commands.pairs import make_pairs
from duologue.core.errors import ConfigError, DuologueError
from duologue.evaluation.exchange.pairs import PairOptions, pairs_of_candidates, pairs_of_matches

ASKED = [{"role": "user", "content": "Why?"}]


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def turn(*scores, scenario="a"):
    """A line of candidates: the replies are their numbers."""
    candidates = [{"reply": f"r{i}", "score": score} for i, score in enumerate(scores)]
    return {"scenario": scenario, "messages": ASKED, "candidates": candidates}


def match(scores=None, orders=(1.0, 1.0), failure=None, replies=("own", "base"), parted=None):
    return {
        "scenario": "a",
        "messages": ASKED,
        "baseline_messages": parted,
        "reply": replies[0],
        "baseline_reply": replies[1],
        "scores": scores,
        "orders": [] if failure else list(orders),
        "failure": failure,
    }


def sides(made):
    return [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in made.pairs]


def test_the_best_and_the_worst_of_a_turn_are_a_pair_if_they_are_far_enough_apart():
    records = [turn(0.1, 0.9, None, 0.5), turn(0.5, 0.45), turn(None, None), turn(0.3)]
    made = pairs_of_candidates(records, PairOptions(margin=0.1))
    assert made.pairs == [
        {
            "prompt": ASKED,
            "chosen": [{"role": "assistant", "content": "r1"}],
            "rejected": [{"role": "assistant", "content": "r0"}],
            "score_chosen": 0.9,
            "score_rejected": 0.1,
            "scenario": "a",
        }
    ]
    assert made.left_out == {"failed": 3, "close": 2}


def test_every_two_candidates_on_demand_and_never_equals():
    made = pairs_of_candidates([turn(0.0, 1.0, 1.0, 0.4)], PairOptions(margin=0.5, take="all"))
    assert sides(made) == [("r1", "r3"), ("r1", "r0"), ("r2", "r3"), ("r2", "r0")]
    assert pairs_of_candidates([turn(1.0, 1.0)], PairOptions()).pairs == []


def test_a_match_is_a_pair_whoever_wins():
    records = [
        match(scores=(0.2, 0.7)),
        match(orders=(1.0, 0.5)),
        match(orders=(1.0, 0.0)),
        match(failure="judge: timeout"),
        match(parted=[{"role": "user", "content": "Other."}]),
        match(scores=(0.5, 0.1), replies=("same", "same")),
    ]
    made = pairs_of_matches(records, PairOptions())
    assert sides(made) == [("base", "own"), ("own", "base")]
    assert [(pair["score_chosen"], pair["score_rejected"]) for pair in made.pairs] == [(0.7, 0.2), (0.75, 0.25)]
    assert made.left_out == {"close": 2, "failed": 1, "parted": 1}


def sampling(configured, *overrides):
    return configured("pairs", "interface.n=3", "env.limit=4", "judges.length.weight=1", "pairs.margin=0", *overrides)


def test_candidates_are_sampled_judged_and_paired(configured, server, tmp_path, capsys):
    folder = tmp_path / "pairs"
    summary = make_pairs(sampling(configured), folder)
    assert len(server.requests) == 12
    candidates, pairs = read(folder / "candidates.jsonl"), read(folder / "pairs.jsonl")
    assert [len(record["candidates"]) for record in candidates] == [3] * 4
    assert summary["pairs"] == len(pairs) > 0
    by_reply = {c["reply"]: c["score"] for record in candidates for c in record["candidates"]}
    for pair in pairs:
        assert pair["score_chosen"] == by_reply[pair["chosen"][0]["content"]] > pair["score_rejected"]
    assert f"{len(pairs)} pairs written to" in capsys.readouterr().out
    run_export(["pairs", str(folder), f"to={tmp_path / 'again.jsonl'}"])
    assert read(tmp_path / "again.jsonl") == sorted(
        pairs, key=lambda pair: [r["scenario"] for r in candidates].index(pair["scenario"])
    )


def test_a_training_has_paid_for_the_candidates(configured, server, tmp_path):
    train(configured("train", "env.limit=4"), tmp_path / "train")
    asked = len(server.requests)
    make_pairs(sampling(configured, "interface.logprobs=true"), tmp_path / "pairs")
    assert len(server.requests) == asked


def test_a_dialogue_goes_on_with_the_best_candidate(configured, server, tmp_path):
    path = tmp_path / "scenarios.jsonl"
    path.write_text(json.dumps({"id": "d", "split": "train", "user": ["One?", "Two?"]}) + "\n")
    make_pairs(sampling(configured, f"env.scenarios={path}"), tmp_path / "pairs")
    first, second = read(tmp_path / "pairs" / "candidates.jsonl")
    best = max(first["candidates"], key=lambda candidate: candidate["score"])
    assert [m["content"] for m in second["messages"][-3:]] == ["One?", best["reply"], "Two?"]


def short_ones_fail(turn):
    """Has no verdict on half of the replies."""
    if len(turn.reply.split()) < 7:
        raise RuntimeError("too short")
    return float(len(turn.reply.split()))


def test_what_cannot_be_judged_is_left_out_counted_and_too_much_of_it_is_an_error(configured, tmp_path):
    judge = {"mine": {"name": "python", "function": f"{__name__}:short_ones_fail"}}
    config = sampling(configured) | {"judges": judge}
    with pytest.raises(DuologueError, match=r"of 12 candidates have no score: mine \(\d+\)"):
        make_pairs(config, tmp_path / "pairs")
    pairs = read(tmp_path / "pairs" / "pairs.jsonl")
    assert all(len(side[0]["content"].split()) >= 7 for pair in pairs for side in (pair["chosen"], pair["rejected"]))
    summary = json.loads((tmp_path / "pairs" / "summary.json").read_text())
    assert summary["left_out"]["failed"] == summary["failures"]["mine"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["interface=strategy"], "needs candidates and judges who score them: `interface=select`"),
        (["pairs.margin=-1"], "`margin` must be at least 0"),
        (["pairs.take=best"], "`pairs.take` must be one of best_worst, all, not 'best'"),
        (["pairs.repeats=0"], "`repeats` must be at least 1"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said(configured, tmp_path, overrides, said):
    base = [] if "interface=strategy" in overrides else ["interface.n=3"]
    config = (
        configured("pairs", *base, *overrides) if base else configured("pairs") | {"interface": {"name": "strategy"}}
    )
    with pytest.raises(ConfigError, match=said):
        make_pairs(config, tmp_path / "pairs")


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds neither candidates.jsonl nor matches.jsonl"):
        run_export(["pairs", str(tmp_path), "to=x.jsonl"])
    with pytest.raises(ConfigError, match="takes one run folder, and the file to write"):
        run_export(["pairs", str(tmp_path)])
