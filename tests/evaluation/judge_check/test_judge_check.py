"""`duologue judge-check` on the fake server: figures, failures, repeats, resuming, mistakes."""

import json

import pytest

from duologue.commands.judge_check import judge_check
from duologue.core.errors import ConfigError, DuologueError


@pytest.fixture
def pairs(tmp_path):
    """Eight pairs of which the reply with `good` is better."""
    path = tmp_path / "pairs.jsonl"
    records = []
    for i in range(8):
        replies = ("a good reply", "a bad reply") if i % 2 else ("a bad reply", "a good reply")
        records.append({"prompt": f"{i}?", "first": replies[0], "second": replies[1], "label": "A" if i % 2 else "B"})
    path.write_text("\n".join(map(json.dumps, records)))
    return path


@pytest.fixture
def configure(server, tmp_path):
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from duologue.plugins import plugins
    from duologue.plugins.publish import publish

    def make(data, *overrides):
        publish(plugins())
        where = [f"inference.assistant.base_url={server.url}", f"inference.cassette.path={tmp_path / 'c.sqlite'}"]
        own = ["inference.assistant.model=fake", "inference.assistant.max_retries=0", f"data={data}"]
        with initialize_config_module("duologue.conf", version_base="1.3"):
            config = compose("judge-check", [*where, *own, *overrides])
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)

    return make


def good_one(body):
    """Which reply is the good one?"""
    asked = body["messages"][0]["content"]
    return "Verdict: A" if asked.index("a good reply") < asked.index("[Reply B]") else "Verdict: B"


def check(config, folder):
    judge_check(config, folder)
    return json.loads((folder / "summary.json").read_text())["judge_check"]


def test_a_judge_that_is_right_in_both_orders(server, configure, pairs, tmp_path, capsys):
    server.answer = good_one
    found = check(configure(pairs, "judge=pairwise", "repeats=2"), tmp_path / "run")
    values = {name: figure["value"] for name, figure in found["figures"].items()}
    assert (values["agreement"], values["kappa"], values["both_orders_right"]) == (1, 1, 1)
    assert (values["first_place_preference"], values["repeat_consistency"], values["failure_rate"]) == (0.5, 1, 0)
    assert (found["judge"], found["verdicts"], found["failed"]) == ("pairwise", 32, 0)
    assert len(server.requests) == 32  # eight pairs, two orders, two repeats, each asked by itself
    lines = [json.loads(line) for line in (tmp_path / "run" / "verdicts.jsonl").read_text().splitlines()]
    assert {(line["repeat"], line["order"]) for line in lines} == {(0, "ab"), (0, "ba"), (1, "ab"), (1, "ba")}
    shown = capsys.readouterr().out
    assert "How far `pairwise` agrees with the labels" in shown
    assert "0 of 32 verdicts failed" in shown


def test_what_was_asked_is_not_paid_for_again(server, configure, pairs, tmp_path):
    server.answer = good_one
    first = check(configure(pairs, "judge=pairwise"), tmp_path / "one")
    second = check(configure(pairs, "judge=pairwise"), tmp_path / "two")
    assert first["figures"] == second["figures"]
    assert first["latency_p50_s"] == second["latency_p50_s"] > 0
    assert len(server.requests) == 16


def test_a_judge_that_only_sees_the_place_is_found_out(server, configure, pairs, tmp_path):
    server.answer = lambda body: "Verdict: A"
    figures = check(configure(pairs, "judge=pairwise"), tmp_path / "run")["figures"]
    assert figures["first_place_preference"]["value"] == 1
    assert figures["order_consistency"]["value"] == 0
    assert figures["agreement"]["value"] == 0.5


def test_failures_are_counted_by_cause_and_are_no_verdicts(server, configure, pairs, tmp_path):
    server.answer = lambda body: (
        "No idea." if "[Dialogue]\nuser: 3?" in body["messages"][0]["content"] else good_one(body)
    )
    found = check(configure(pairs, "judge=pairwise"), tmp_path / "run")
    assert found["figures"]["agreement"]["value"] == 1
    assert found["figures"]["failure_rate"]["value"] == pytest.approx(2 / 16)
    assert found["failures"] == {"the judge's answer holds no verdict A, B or tie": 2}


def test_a_judge_that_says_nothing_is_an_error_with_the_reason(server, configure, pairs, tmp_path):
    server.answer = lambda body: "No idea."
    with pytest.raises(DuologueError, match="gave no verdict at all; the first reason: the judge's answer holds no"):
        check(configure(pairs, "judge=pairwise"), tmp_path / "run")


def test_a_judge_that_scores_is_measured_on_pairs_by_its_scores(server, configure, pairs, tmp_path):
    server.answer = lambda body: "Score: 8" if "a good reply" in body["messages"][0]["content"] else "Score: 2"
    found = check(configure(pairs, "judge=llm", "judge.logprobs=never"), tmp_path / "run")
    assert found["figures"]["agreement"]["value"] == 1
    assert found["figures"]["first_place_preference"]["value"] is None
    assert found["verdicts"] == 8


def test_own_replies_are_known_by_the_models_name(server, configure, tmp_path):
    path = tmp_path / "own.jsonl"
    one = {"prompt": "?", "first": "a good reply", "second": "a bad reply", "label": "B", "first_model": "fake"}
    path.write_text("\n".join(json.dumps({**one, "prompt": f"{i}?"}) for i in range(4)))
    server.answer = good_one
    figures = check(configure(path, "judge=pairwise"), tmp_path / "run")["figures"]
    assert figures["self_preference"]["value"] == 1


def test_scores_and_a_panel(server, configure, tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "?", "reply": "word " * n, "score": n}) for n in range(1, 9)))
    members = "{short: {name: length, low: 8, high: 9}, shorter: {name: length, low: 16, high: 20}}"
    found = check(configure(path, "judge=panel", f"+judge.judges={members}"), tmp_path / "run")
    assert found["figures"]["spearman"]["value"] == pytest.approx(1)
    assert found["figures"]["concordance"]["value"] == 1
    assert 0 < found["figures"]["krippendorffs_alpha"]["value"] < 1
    assert found["cost_usd"] == 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["judge=pairwise", "repeats=0"], "`repeats` must be a whole number of at least 1"),
        (["judge=pairwise", "limit=0"], "`limit` must be at least 1"),
        (["~judge"], "`judge` is empty"),
    ],
)
def test_mistakes_are_named(configure, pairs, tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        judge_check(configure(pairs, *overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_judge_that_compares_needs_pairs(configure, tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_text(json.dumps({"prompt": "?", "reply": "So.", "score": 1}))
    with pytest.raises(ConfigError, match="compares pairs, and `data` holds scores"):
        judge_check(configure(path, "judge=pairwise"), tmp_path / "run")
