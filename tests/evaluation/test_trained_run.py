"""`duologue evaluate bundle=…` uses the configuration of the run that made the bundle; the user's choices come first."""

import json
import sys
from contextlib import suppress

import pytest

from duologue.cli import main
from duologue.commands.evaluate import train_and_evaluate
from duologue.evaluation.trained_run import chosen, of_trained_run
from duologue.inference import ConfigError


@pytest.fixture
def own(tmp_path, configured):
    """The folder of a run on scenarios of its own, judged by a judge of its own."""
    lines = [
        json.dumps({"id": f"{split}-{i}", "split": split, "user": f"Own question {i} of {split}?", "reference": "Yes."})
        for split in ("train", "validation", "test")
        for i in range(3)
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    overrides = (f"env.scenarios={tmp_path / 'own.jsonl'}", "judge@evaluation.judge=rules", "env.system=Be brief.")
    folder = tmp_path / "runs" / "first"
    train_and_evaluate(configured("run", *overrides), folder)
    return folder


@pytest.fixture
def evaluated(own, tmp_path, monkeypatch, capfd):
    """Evaluates the bundle by the command; the configuration of the evaluation, or the line of its refusal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["duologue"])

    def evaluate(*arguments):
        with suppress(SystemExit):
            main(["evaluate", f"bundle={own}", *arguments])
        if line := [text for text in capfd.readouterr().err.splitlines() if text.startswith("duologue: ")]:
            return "\n".join(line)
        return json.loads((tmp_path / "runs" / "evaluate" / "latest" / "config.json").read_text())

    return evaluate


def test_what_was_not_chosen_is_the_runs_own(evaluated, own, server):
    server.requests.clear()
    config = evaluated("trusted=true")
    run = json.loads((own / "config.json").read_text())
    for part in ("env", "evaluation", "inference"):
        assert config[part] == run[part]
    assert config["interface"]["n"] == run["interface"]["n"] == 3
    text = (own.parents[1] / "runs" / "evaluate" / "latest" / "matches.jsonl").read_text()
    matches = [json.loads(line) for line in text.splitlines()]
    assert {match["scenario"] for match in matches} == {"test-0", "test-1", "test-2"}
    assert {match["judge"] for match in matches} == {"rules"}
    assert server.requests == []  # the run has paid for all of it


def test_a_choice_comes_first_also_where_it_is_the_default(evaluated):
    config = evaluated("trusted=true", "judge@evaluation.judge=chrf", "evaluation.split=test", "evaluation.limit=2")
    assert config["evaluation"]["judge"]["name"] == "chrf"
    assert config["evaluation"]["limit"] == 2
    assert config["env"]["scenarios"].endswith("own.jsonl")


def test_an_untrusted_run_names_no_file_and_no_address(evaluated, tmp_path, server):
    scenarios = f"env.scenarios={tmp_path / 'own.jsonl'}"
    line = evaluated()
    assert f"`{scenarios}`" in line
    assert "`trusted=true`" in line
    line = evaluated(scenarios)
    assert f"inference.assistant.base_url={server.url}" in line
    assert "`trusted=true`" in line
    config = evaluated(scenarios, f"inference.assistant.base_url={server.url}", "inference.assistant.model=fake")
    assert not isinstance(config, str), config
    assert config["evaluation"]["judge"]["name"] == "rules"


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        ("interface=strategy", "`interface.name`"),
        ("interface.n=7", "`interface.n`"),
        ("encoder.dim=7", "`encoder`"),
        ("env.system=Else.", "`env.system`"),
        ("env.max_turns=3", "`env.max_turns`"),
    ],
)
def test_what_contradicts_the_bundle_is_refused(evaluated, choice, named):
    line = evaluated("trusted=true", choice)
    assert "\n" not in line
    assert named.strip("`").partition(".")[0] in line
    assert "leave it out" in line or "not in the configuration" in line


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("env", "user", "stranger.module:User"),
        ("env", "user", "stranger.User"),
        ("evaluation", "judge", {"name": "function", "function": "stranger.score"}),
        ("evaluation", "judge", {"name": "rubric", "rubric": "/etc/passwd"}),
        ("evaluation", "judge", {"name": "reward_model", "model": "stranger"}),
        ("env", "tools", ["stranger.tools"]),
    ],
)
def test_code_and_files_that_an_untrusted_run_names_are_refused(tmp_path, part, name, value):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "policy.json").write_text("{}")
    run = {"env": {"scenarios": "assistant"}, "evaluation": {"judge": {"name": "chrf"}}}
    run[part][name] = value
    (tmp_path / "config.json").write_text(json.dumps(run))
    composed = {"bundle": str(bundle), "env": {}, "evaluation": {}, "inference": {}}
    with pytest.raises(ConfigError, match=rf"`{part}\.{name}.*=.*stranger|passwd.*`trusted=true` if it is yours"):
        of_trained_run(composed, {})
    assert of_trained_run({**composed, "trusted": True}, {})[part][name] == value
    assert of_trained_run(composed, {part: {name: value}})[part][name] == value


def test_choices_are_what_is_named_and_what_differs():
    defaults = {"a": {"name": "x", "low": 1}, "b": {"c": 1, "d": 2}, "e": None}
    assert chosen({**defaults, "b": {"c": 1, "d": 3}}, defaults, []) == {"b": {"d": 3}}
    assert chosen(defaults, defaults, ["b.c"]) == {"b": {"c": 1}}
    assert chosen({**defaults, "a": {"name": "y", "low": 1}}, defaults, []) == {"a": {"name": "y", "low": 1}}
    assert chosen({**defaults, "e": {"name": "y"}}, defaults, []) == {"e": {"name": "y"}}
