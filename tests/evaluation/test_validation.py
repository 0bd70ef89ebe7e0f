"""The policy against the plain model during its training, on the validation split, on the fake server."""

import csv
import json

import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from duologue.commands.evaluate import train_and_evaluate
from duologue.commands.plan import plan
from duologue.commands.train import train
from duologue.core.errors import ConfigError, RunStopped
from duologue.envs import EpisodeFailed, load_scenarios
from duologue.evaluation.contestants import Answer
from duologue.evaluation.entrants import CachedContestant

ON = ["validation.every=4", "validation.baseline_repeats=1", "validation.limit=3", "judge@validation.judge=length"]


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture
def settings(configured):
    return configured("train", *ON, "agent.learning_rate=0.3")


def test_every_n_turns_and_at_the_end(settings, tmp_path):
    train(settings, tmp_path / "run")
    found = summary(tmp_path / "run")["validation"]
    steps = [row["timesteps"] for row in found["results"]]
    assert steps == [8, 16]  # rollouts of about 8 turns: a look where a rollout begins, and one at the end
    assert all(row["n"] + row["failures"] == 3 for row in found["results"])
    assert all(row["judge"] == "length" and row["baseline"] == "plain model" for row in found["results"])
    rates = [row["win_rate"] for row in found["results"]]
    assert found["kept"] == steps[rates.index(max(rates))]
    assert {path.name for path in (tmp_path / "run" / "validation").iterdir()} == {"8.jsonl", "16.jsonl"}


def test_the_curves_hold_it_at_its_own_step(settings, tmp_path):
    train(settings, tmp_path / "run")
    with (tmp_path / "run" / "progress.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["validation/win_rate"]]
    told = summary(tmp_path / "run")["validation"]["results"]
    assert [(int(row["time/total_timesteps"]), float(row["validation/win_rate"])) for row in rows] == [
        (row["timesteps"], row["win_rate"]) for row in told
    ]
    assert not any(row["rollout/ep_rew_mean"] for row in rows)
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [point.step for point in events.Scalars("validation/win_rate")] == [8, 16]


def test_the_training_is_the_same_with_it(configured, settings, tmp_path):
    train(settings | {"validation": settings["validation"] | {"keep": "last"}}, tmp_path / "with")
    train(configured("train", "agent.learning_rate=0.3"), tmp_path / "without")
    with_it, without = (load_file(tmp_path / name / "bundle" / "policy.safetensors") for name in ("with", "without"))
    assert all((with_it[name] == without[name]).all() for name in without)
    assert summary(tmp_path / "without").get("validation") is None


class Scripted:
    """A validator whose figures are given: a fault-free way to a known best."""

    every, keep = 4, "best"

    def __init__(self, rates, keep="best"):
        self.rates, self.keep, self.seen, self.closed = list(rates), keep, [], False

    def validate(self, policy, timesteps):
        self.seen.append({name: value.clone() for name, value in policy.network.state_dict().items()})
        rate = self.rates[len(self.seen) - 1]
        return {"win_rate": rate, "low": rate, "high": rate, "baseline": "plain model"}

    async def aclose(self):
        self.closed = True


@pytest.mark.parametrize(
    ("rates", "keep", "kept"),
    [
        ([0.9, 0.4], "best", 0),
        ([0.4, 0.9], "best", 1),
        ([0.5, 0.5], "best", 0),  # the earlier of equals
        ([None, 0.1], "best", 1),  # a failure is no number
        ([0.9, None], "best", 0),
        ([0.9, 0.4], "last", 1),
    ],
)
def test_the_best_policy_is_kept(configured, tmp_path, rates, keep, kept):
    from duologue.agents.training import train as train_policy

    validator = Scripted(rates, keep)
    config = configured("train", "agent.learning_rate=0.3")
    train_policy(config, tmp_path / "run", lambda task: validator)
    saved = load_file(tmp_path / "run" / "bundle" / "policy.safetensors")
    assert all((saved[name] == validator.seen[kept][name]).all() for name in saved)
    assert any((saved[name] != validator.seen[1 - kept][name]).any() for name in saved)
    record = json.loads((tmp_path / "run" / "bundle" / "policy.json").read_text())
    assert record["timesteps"] == summary(tmp_path / "run")["validation"]["kept"] == (8, 16)[kept]
    assert validator.closed


def test_a_run_that_was_ended_goes_on_to_the_same_figures(configured, settings, tmp_path):
    train(settings, tmp_path / "whole")
    spent = summary(tmp_path / "whole")["requests"]["paid"]
    for share in (0.5, 0.8, 0.95):
        folder = tmp_path / f"ended at {share}"
        cassette = f"inference.cassette.path={folder}.sqlite"
        changed = [*ON, "agent.learning_rate=0.3", cassette]
        with pytest.raises(RunStopped):
            train(configured("train", *changed, f"inference.budget.requests={int(share * spent)}"), folder)
        train(configured("train", *changed), folder)
        assert summary(folder)["validation"] == summary(tmp_path / "whole")["validation"]
        weights = [(tmp_path / run / "bundle" / "policy.safetensors").read_bytes() for run in (folder.name, "whole")]
        assert weights[0] == weights[1]
        curves = [(tmp_path / run / "progress.csv").read_text().splitlines() for run in (folder.name, "whole")]
        assert len(curves[0]) == len(curves[1])


def test_the_test_split_is_left_alone_until_the_evaluation(configured, server, tmp_path):
    train_and_evaluate(configured("run", *ON), tmp_path / "run")
    held_out = {scenario.user[0] for scenario in load_scenarios("assistant", "test")}
    validation = {scenario.user[0] for scenario in load_scenarios("assistant", "validation", 3)}
    asked = [body["messages"][-1]["content"] for body in server.requests]
    first = min(i for i, text in enumerate(asked) if text in held_out)
    assert validation & {*asked[:first]} == validation
    assert not validation & {*asked[first:]}


def test_the_plan_is_not_exceeded(configured, server, tmp_path):
    strategies = {"name": "strategy", "directives": ["", "Be brief.", "Be kind."]}
    train_and_evaluate(configured("run", *ON) | {"interface": strategies}, tmp_path / "run")
    found = summary(tmp_path / "run")
    assert found["requests"]["paid"] == len(server.requests) <= found["plan"]["requests"]


def test_the_plan_names_it(configured, tmp_path, capsys):
    plan(configured("plan", *ON), tmp_path)
    shown = capsys.readouterr().out
    assert "validation, baseline" in shown
    assert "validation, assistant" in shown


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("validation.every=0", "`every` must be a whole number of at least 1, not 0"),
        ("validation.keep=first", "`validation.keep` must be one of best, last"),
        ("validation.limit=x", "`validation.limit` must be a whole number"),
        ("judge@validation.judge=reference", None),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_paid(configured, server, tmp_path, override, said):
    if said is None:
        path = tmp_path / "own.jsonl"
        lines = [{"id": f"{s}{i}", "split": s, "user": f"{s} {i}"} for i in range(4) for s in ("train", "validation")]
        path.write_text("\n".join(json.dumps(line) for line in lines))
        override, said = [override, f"env.scenarios={path}"], "judge@validation.judge=llm"
    with pytest.raises(ConfigError, match=said):
        train(configured("train", *ON, *([override] if isinstance(override, str) else override)), tmp_path / "run")
    assert not server.requests


def test_what_failed_once_is_asked_for_again_and_what_was_given_is_not(client, scenarios):
    class Late:
        name = "late"
        asked = 0

        async def answer(self, scenario, repeat):
            self.asked += 1
            if self.asked == 1:
                raise EpisodeFailed("assistant", "the server was restarted")
            return Answer(scenario, repeat, (), ())

    late = Late()
    remembered = CachedContestant(late)
    with pytest.raises(EpisodeFailed):
        client.run(remembered.answer(scenarios[0], 0))
    first = client.run(remembered.answer(scenarios[0], 0))
    assert client.run(remembered.answer(scenarios[0], 0)) is first
    assert late.asked == 2
