"""A comparison, or the check of a judge, that a budget ended goes on from another folder and pays for nothing twice."""

import json

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue import cli
from duologue.commands.compare import compare
from duologue.commands.judge_check import judge_check
from duologue.core.errors import BudgetSpent
from duologue.plugins import plugins
from duologue.plugins.publish import publish


def answer(body):
    """Prefers what was said by `b`, in either place."""
    asked = body["messages"][0]["content"]
    if "[Reply A]" not in asked:
        return f"{body['model']} says so."
    return "Verdict: A" if asked.index("b says") < asked.index("[Reply B]") else "Verdict: B"


@pytest.fixture
def composed(server, tmp_path, monkeypatch):
    """The configuration of a command whose files are named relative to where it was started."""
    server.answer = answer
    home = tmp_path / "home"
    home.mkdir()
    (home / "prompts.txt").write_text("\n".join(f"Question {i}?" for i in range(6)))
    said = [{"prompt": f"Question {i}?", "reply": "a says no."} for i in range(6)]
    (home / "a.jsonl").write_text("\n".join(map(json.dumps, said)))
    pairs = [{"prompt": f"{i}?", "first": "a says no.", "second": "b says so.", "label": "B"} for i in range(6)]
    (home / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    monkeypatch.chdir(home)
    files = {
        "compare": ["prompts=prompts.txt", "+contestants.a.answers=a.jsonl", f"+contestants.b.base_url={server.url}"],
        "judge-check": ["data=pairs.jsonl"],
    }
    publish(plugins())

    def make(command, *overrides):
        own = [f"inference.assistant.base_url={server.url}", f"inference.cassette.path={tmp_path / 'c.sqlite'}"]
        own += ["judge=pairwise", "judge.logprobs=never", *files[command], *overrides]
        own += ["+contestants.b.model=b"] if command == "compare" else []
        with initialize_config_module("duologue.conf", version_base="1.3"):
            return OmegaConf.to_container(compose(command, own), resolve=True, throw_on_missing=True)

    return make


@pytest.mark.parametrize(("command", "run", "requests"), [("compare", compare, 18), ("judge-check", judge_check, 12)])
def test_a_spent_budget_is_raised_elsewhere_and_nothing_is_asked_twice(
    composed, server, tmp_path, monkeypatch, command, run, requests
):
    folder = tmp_path / "runs" / "one"
    with pytest.raises(BudgetSpent) as stopped:
        run(composed(command, "inference.budget.requests=7"), folder)
    assert stopped.value.resume == f"duologue {command} resume={folder}"
    assert json.loads((folder / "summary.json").read_text())["status"] == "stopped"
    assert len(server.requests) <= 7
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    cli.main([command, f"resume={folder}", "inference.budget.requests=100"])
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "done"
    assert len(server.requests) == requests == summary["requests"]["paid"]
    if command == "compare":
        (row,) = summary["results"]
        assert (row["win_rate"], row["n"], row["failures"]) == (1.0, 6, 0)
        assert len((folder / "matches.jsonl").read_text().splitlines()) == 6
    else:
        assert summary["judge_check"]["figures"]["both_orders_right"]["value"] == 1
        assert len((folder / "verdicts.jsonl").read_text().splitlines()) == 12
