"""The whole way on the fake server: the shipped configuration, shrunk in one place; train, evaluate, evaluate again."""

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from duologue import __version__
from duologue.commands.evaluate import evaluate, train_and_evaluate
from duologue.core.errors import ConfigError, DuologueError
from duologue.envs import load_scenarios
from duologue.evaluation import win_rate
from duologue.plugins import Failure, Score, hookimpl, plugins


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def measured(folder: Path) -> tuple[Any, ...]:
    """What must be the same in every repetition: results, training's figures, weights, and the matches themselves."""
    summary = read(folder)
    matches = sorted((folder / "matches.jsonl").read_text().splitlines())
    weights = (folder / "bundle" / "policy.safetensors").read_bytes()
    return summary["results"], summary["reward_first"], summary["reward_last"], matches, weights


@pytest.fixture
def first(configured, tmp_path) -> Path:
    """The folder of a finished run."""
    folder = tmp_path / "runs" / "first"
    train_and_evaluate(configured("run"), folder)
    return folder


def test_the_summary_keeps_its_contract(first, server):
    summary = read(first)
    assert {name: summary[name] for name in ("version", "status", "command", "seed", "bundle", "timesteps")} == {
        "version": 1,
        "status": "done",
        "command": "run",
        "seed": 0,
        "bundle": "bundle",
        "timesteps": 16,
    }
    assert summary["versions"]["duologue"] == __version__
    assert summary["versions"]["python"] == platform.python_version()
    assert summary["wall_s"] >= 0
    assert len(summary["config_digest"]) == 16
    assert summary["requests"]["paid"] == len(server.requests) > 0
    assert summary["requests"]["failed"] == 0
    assert set(summary["requests"]) == {"paid", "reused", "failed"}
    assert summary["tokens"]["prompt"] == 7 * len(server.requests)
    assert summary["tokens"]["completion"] > 0
    assert summary["cost_usd"] == 0
    assert summary["failures"] == {}
    assert "error" not in summary


def test_every_contestant_has_a_row_that_its_matches_confirm(first):
    rows = read(first)["results"]
    lines = [json.loads(line) for line in (first / "matches.jsonl").read_text().splitlines()]
    assert [row["contestant"] for row in rows] == ["trained policy", "plain sample", "random", "best-of-n oracle"]
    for row in rows:
        own = [line for line in lines if line["contestant"] == row["contestant"]]
        rate = win_rate([sum(line["orders"]) / 2 for line in own], [line["scenario"] for line in own])
        assert row == {
            "contestant": row["contestant"],
            "baseline": "plain model",
            "judge": "length",
            "win_rate": round(rate.rate, 6),
            "low": round(rate.low, 6),
            "high": round(rate.high, 6),
            "n": 6,
            "wins": sum(line["outcome"] == "win" for line in own),
            "ties": sum(line["outcome"] == "tie" for line in own),
            "losses": sum(line["outcome"] == "loss" for line in own),
            "failures": 0,
            "consistency": None,
            "first_place": None,
        }
    held_out = [scenario.id for scenario in load_scenarios("assistant", "test", 3)]
    assert {line["scenario"] for line in lines} == {*held_out}


def test_nothing_beats_the_oracle_under_its_judge(first):
    *others, oracle = read(first)["results"]
    assert all(oracle["win_rate"] >= row["win_rate"] for row in others)


def test_training_never_asks_a_held_out_question(configured, tmp_path, server):
    config = configured("run")
    trained = {scenario.user[0] for scenario in load_scenarios("assistant", "train", 4)}
    held_out = {scenario.user[0] for scenario in load_scenarios("assistant", "test", 3)}
    train_and_evaluate(config, tmp_path / "run")
    asked = [body["messages"][-1]["content"] for body in server.requests]
    assert {*asked} == trained | held_out
    last_trained = max(i for i, text in enumerate(asked) if text in trained)
    assert not {*asked[: last_trained + 1]} & held_out


def test_the_run_folder_holds_what_it_should(first, configured):
    names = {path.name for path in first.iterdir()}
    assert {"config.json", "summary.json", "matches.jsonl", "progress.csv", "bundle"} <= names
    assert {path.name for path in (first / "bundle").iterdir()} == {"policy.safetensors", "policy.json", "README.md"}
    assert json.loads((first / "config.json").read_text()) == configured("run")
    assert (first.parent / "latest").resolve() == first.resolve()


def test_the_screen_ends_with_the_result_its_cost_and_its_place(configured, tmp_path, capsys):
    summary = train_and_evaluate(configured("run"), tmp_path / "runs" / "shown")
    *_, headline, last = capsys.readouterr().out.strip().splitlines()
    own = summary["results"][0]
    assert headline.startswith("The trained policy is ")
    assert f"win rate {own['win_rate']:.1%} ({own['low']:.1%} to {own['high']:.1%}) over 6 held-out matches" in headline
    paid = read(tmp_path / "runs" / "shown")["requests"]["paid"]
    assert last.startswith(f"{paid} requests made (planned: at most {paid}), ")
    assert last.endswith(f"The report is {tmp_path / 'runs' / 'shown' / 'report.html'}")


def test_a_second_run_pays_for_nothing_and_ends_with_the_same_numbers(first, configured, tmp_path, server):
    asked = len(server.requests)
    again = tmp_path / "runs" / "again"
    train_and_evaluate(configured("run"), again)
    assert len(server.requests) == asked
    assert read(again)["requests"]["paid"] == 0
    assert read(again)["requests"]["reused"] > 0
    assert measured(again) == measured(first)
    assert read(again)["config_digest"] == read(first)["config_digest"]


def test_a_run_that_pays_again_ends_with_the_same_numbers_whatever_the_delays(first, configured, tmp_path, server):
    server.delay_s = lambda body: body["seed"] % 3 / 200
    again = tmp_path / "runs" / "again"
    train_and_evaluate(configured("run", "inference.cassette.mode=off"), again)
    assert read(again)["requests"]["paid"] >= read(first)["requests"]["paid"]
    assert measured(again) == measured(first)


def test_another_seed_is_another_run(first, configured, tmp_path):
    other = tmp_path / "runs" / "other"
    train_and_evaluate(configured("run", "seed=1"), other)
    assert measured(other)[-1] != measured(first)[-1]
    assert read(other)["config_digest"] != read(first)["config_digest"]


def test_the_written_bundle_evaluates_to_the_same_results_for_nothing(first, configured, tmp_path, server):
    asked = len(server.requests)
    folder = tmp_path / "runs" / "evaluated"
    summary = evaluate(configured("evaluate", f"bundle={first}"), folder)
    assert len(server.requests) == asked
    assert read(folder)["requests"]["paid"] == 0
    assert (read(folder)["command"], read(folder)["status"]) == ("evaluate", "done")
    assert summary["results"] == read(folder)["results"] == read(first)["results"]
    assert sorted((folder / "matches.jsonl").read_text().splitlines()) == measured(first)[3]


def test_another_judge_needs_no_further_answers_of_the_model(first, configured, tmp_path, server):
    asked = len(server.requests)
    summary = evaluate(configured("evaluate", f"bundle={first}", "judge@evaluation.judge=rules"), tmp_path / "by-rules")
    assert len(server.requests) == asked
    assert {row["judge"] for row in summary["results"]} == {"rules"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluation.contestants=[policy,oracel]", "did you mean `oracle`"),
        ("evaluation.contestants=policy", "must be a list"),
        ("evaluation.repeats=0", "`repeats` must be a whole number of at least 1, not 0"),
        ("evaluation.repeats=two", "`evaluation.repeats` must be a whole number, not 'two'"),
        ("evaluation.limit=some", "`evaluation.limit` must be a whole number or null"),
        ("evaluation.split=tset", "did you mean `test`"),
        ("+evaluation.repeat=2", "did you mean `repeats`"),
        ("evaluation.judge=null", "`judge` is empty"),
        ("evaluation.judge.low=0", "1 <= low <= high"),
    ],
)
def test_a_mistake_in_the_evaluation_s_part_shows_before_the_training(configured, tmp_path, server, override, said):
    with pytest.raises(ConfigError, match=said):
        train_and_evaluate(configured("run", override), tmp_path / "refused")
    assert server.requests == []
    assert not (tmp_path / "refused").exists()


def test_a_folder_without_a_bundle_is_refused(configured, tmp_path):
    with pytest.raises(ConfigError, match="is no bundle"):
        evaluate(configured("evaluate", f"bundle={tmp_path}"), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


class Whimsical:
    """A judge that fails for every third reply, by the reply's own words; it counts how often it is closed."""

    closed = 0

    async def score(self, batch):
        return [Failure("no wish to") if len(t.reply) % 3 == 0 else Score(float(len(t.reply))) for t in batch]

    async def aclose(self):
        type(self).closed += 1


class WhimsicalPlugin:
    @hookimpl
    def duologue_register_judges(self, register):
        register.judge("whimsical", f"{__name__}:Whimsical")


@pytest.fixture
def whimsical():
    """Offers the judge `whimsical` as a stranger's plugin would, until the test ends; returns its settings."""
    plugin = WhimsicalPlugin()

    def offer() -> dict[str, Any]:
        plugins().register(plugin, name="whimsical")
        Whimsical.closed = 0
        return {"name": "whimsical"}

    yield offer
    plugins().manager.unregister(plugin)
    plugins.cache_clear()


def test_too_many_matches_without_a_result_fail_the_evaluation_but_keep_them(first, configured, tmp_path, whimsical):
    config = configured("evaluate", f"bundle={first}")
    config["evaluation"]["judge"] = whimsical()
    with pytest.raises(DuologueError, match=r"\d+ of 24 matches have no result"):
        evaluate(config, tmp_path / "failed")
    summary = read(tmp_path / "failed")
    assert summary["status"] == "failed"
    assert "matches.jsonl names the causes" in summary["error"]
    failures = sum(row["failures"] for row in summary["results"])
    lines = [json.loads(line) for line in (tmp_path / "failed" / "matches.jsonl").read_text().splitlines()]
    assert failures == sum(line["failure"] == "whimsical: no wish to" for line in lines) > 7
    assert Whimsical.closed == 1


def test_an_evaluation_that_breaks_off_still_closes_its_judge(first, configured, tmp_path, server, whimsical):
    config = configured("evaluate", f"bundle={first}", "inference.cassette.mode=off")
    config["evaluation"]["judge"] = whimsical()
    server.answer = lambda body: (401, {"error": {"message": "wrong key"}})
    with pytest.raises(DuologueError, match="refused the key"):
        evaluate(config, tmp_path / "refused")
    assert Whimsical.closed == 1
    assert not (tmp_path / "refused").exists()


def test_a_judge_of_references_is_refused_before_anything_is_paid_where_there_are_none(configured, tmp_path, server):
    path = tmp_path / "bare.jsonl"
    lines = [
        {"id": f"{split}-{i}", "split": split, "user": f"{split} {i}?"} for split in ("train", "test") for i in (1, 2)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    config = configured("run", f"env.scenarios={path}")
    config["evaluation"]["judge"] = {"name": "chrf"}
    with pytest.raises(ConfigError, match=r"`chrf` compares with references.*judge@evaluation\.judge=llm"):
        train_and_evaluate(config, tmp_path / "refused")
    assert server.requests == []
