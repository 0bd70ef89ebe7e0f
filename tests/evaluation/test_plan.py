"""What a plan says is what a run then asks for: exactly where nothing depends on the actions, else never more."""

import contextlib
import io
import itertools
import json
import random

import pytest
from rich.console import Console

from duologue.agents.agent import build_task
from duologue.commands.evaluate import train_and_evaluate
from duologue.commands.plan import show_plan
from duologue.envs import Scenario
from duologue.evaluation.evaluation import check
from duologue.evaluation.plan import make_plan
from duologue.evaluation.planner import Planner, branches, training_turns
from duologue.evaluation.referee import Referee
from duologue.inference import ConfigError, DuologueError, Endpoint, InferenceClient, Price, Sampling
from duologue.tests.conftest import spoken


@pytest.fixture
def planner(make_task, endpoint):
    def make(interface="select", turns=1, **parts):
        scenarios = [Scenario(f"s-{i}", "train", ("Hello there.",) * turns) for i in range(3)]
        priced = Endpoint(
            endpoint.base_url, "m", sampling=Sampling(max_tokens=10), price=Price(0.5, 1e6 / 1000, 1e6 / 100)
        )
        task = make_task(interface=interface, scenarios=scenarios, endpoints={"assistant": priced}, system="", **parts)
        return Planner(task, {"assistant": priced}, None)

    return make


@pytest.fixture
def planned(configured, tmp_path):
    """The configuration of a small run on dialogues of so many turns, and its plan."""

    def make(interface, turns):
        lines = [
            json.dumps({"id": f"{split}-{i}", "split": split, "user": [f"Hello {i}, {split}.", "And then?"][:turns]})
            for split in ("train", "test")
            for i in range(3)
        ]
        (tmp_path / "own.jsonl").write_text("\n".join(lines))
        settings = configured("run", f"env.scenarios={tmp_path / 'own.jsonl'}")
        if interface == "strategy":
            settings["interface"] = {"name": "strategy", "directives": ["", "Be brief.", "Be kind."]}
        client = InferenceClient.from_settings(settings["inference"])
        made = make_plan(settings, build_task(settings, client), client, check(settings, client))
        client.close()
        return settings, made

    return make


def requests(needs):
    return {(need.phase, need.role): need.requests for need in needs if need.requests}


def test_one_turn_of_candidates_is_paid_once_for_each_scenario_and_draw(planner):
    """Three scenarios, four candidates each, however many episodes are played."""
    assert requests(planner().training(300, 0, 0)) == {("training", "assistant"): 12}
    assert requests(planner(draws=2).training(300, 0, 0)) == {("training", "assistant"): 24}
    assert requests(planner(draws=None).training(300, 0, 0)) == {("training", "assistant"): 1200}
    assert requests(planner().training(2, 0, 0)) == {("training", "assistant"): 8}


def test_later_turns_have_a_history_for_every_sequence_of_actions(planner):
    """Per scenario 4 requests at first, 4 for each of the 4 histories, 4 for each of the 16: 84; of 3 scenarios 252."""
    assert requests(planner(turns=3).training(3000, 1, 1)) == {
        ("training", "assistant"): 252,
        ("training", "judge"): 252,
    }
    at_the_end = requests(planner(turns=3).training(3000, 0, 1))
    assert at_the_end[("training", "judge")] == 3 * 4**3  # one for each of the dialogues that there can be


def test_strategies_are_one_request_for_every_action(planner):
    assert requests(planner({"name": "strategy", "directives": ["", "a", "b"]}).training(300, 1, 1)) == {
        ("training", "assistant"): 9,
        ("training", "judge"): 9,
    }
    assert branches(planner({"name": "strategy", "directives": ["", "a", "b"]}).interface) == 3


def test_a_truncated_dialogue_looks_one_turn_ahead(planner):
    assert requests(planner(turns=3, max_turns=1, draws=None).training(10, 0, 0)) == {("training", "assistant"): 80}


class Silent:
    """A judge that asks nobody."""

    async def compare(self, batch):
        return []

    async def aclose(self):
        pass


def test_the_evaluation_shares_candidates_and_pays_for_baselines(planner):
    made = planner()
    needs = made.evaluation(
        made.task.scenarios, ("policy", "constants", "random", "oracle"), 2, 3, Referee("chrf", Silent())
    )
    assert requests(needs) == {("evaluation", "assistant"): 24, ("evaluation", "baseline"): 18}


def test_a_referee_that_asks_is_counted(planner):
    class Pointwise(Silent):
        requests_per_turn = 1

    class Pairwise(Silent):
        requests_per_pair = 1

    def asked(referee, turns=1):
        made = planner(turns=turns)
        found = requests(made.evaluation(made.task.scenarios, ("policy", "random"), 1, 3, referee))
        return found[("evaluation", "judge")]

    assert asked(Referee("llm", Pointwise())) == 3 * (2 + 3)
    assert asked(Referee("llm", Pointwise()), turns=2) == 3 * (2 + 3)  # the last turns only
    assert asked(Referee("llm", Pointwise(), "all"), turns=2) == 3 * (2 + 3) * 2
    assert asked(Referee("pairwise", Pairwise())) == 3 * 2 * 3 * 2


def test_tokens_and_money_grow_as_dialogues_do(planner):
    """12 bytes a user turn at 1/4 token each, 10 tokens an answer: prompts of 3, 16, 29 tokens, four times each."""
    rows = {turns: rest for turns, *rest in planner(turns=3).growth(3)}
    assert rows[1] == [4, pytest.approx(4 * (3 + 10)), 2.0, pytest.approx(4 * (3 / 1000 + 10 / 100))]
    assert rows[3][0] == 12
    assert rows[3][1] == pytest.approx(4 * (3 + 16 + 29) + 12 * 10)


@pytest.mark.parametrize("interface", ["select", "strategy"])
@pytest.mark.parametrize("turns", [1, 2])
def test_a_run_never_asks_for_more_than_was_planned(tmp_path, server, planned, interface, turns, capsys):
    """And for exactly as much where the candidates do not depend on any action and every scenario is played."""
    settings, made = planned(interface, turns)
    train_and_evaluate(settings, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["plan"] == made.summary()
    assert summary["spent"]["requests"] <= made.summary()["requests"]
    assert summary["spent"]["tokens"] <= made.summary()["tokens"] * 3  # lengths are assumed, counts are not
    if (interface, turns) == ("select", 1):
        assert summary["spent"]["requests"] == made.summary()["requests"] == len(server.requests)
    assert "(planned: at most" in capsys.readouterr().out


INTERFACES = [
    {"name": "select", "n": 2},
    {"name": "select", "n": 3},
    {"name": "strategy", "directives": ["", "Be brief.", "Be kind."]},
    {"name": "decode", "temperatures": [0.5, 1.0], "top_ps": [1.0], "max_tokens": [10, 20]},
    {"name": "propose_select", "n": 2},
]
AGENTS = [
    {"name": "ppo", "n_steps": 4, "batch_size": 4, "n_epochs": 1},
    {"name": "ppo", "n_steps": 2, "batch_size": 4, "n_epochs": 1, "max_ahead_episodes": 2},
    {"name": "a2c", "n_steps": 3},
    {"name": "dqn", "train_freq": 2, "learning_starts": 4, "batch_size": 4, "buffer_size": 100},
    {"name": "maskable_ppo", "n_steps": 2, "batch_size": 4, "n_epochs": 1},
    {"name": "linucb", "n_steps": 2},
    {"name": "thompson", "n_steps": 2},
]
DISCRETE_ONLY = ("dqn", "linucb", "thompson")


def spoken_by_roles(body):
    """Judges give a grade, users end some dialogues early, and assistants answer."""
    if body["model"] == "judge":
        return "Verdict: A" if "[Reply A]" in str(body["messages"]) else "Score: 7"
    if body["model"] == "user":
        return "[END]" if len(spoken(body)) % 3 == 0 else "And what else?"
    return spoken(body)


def drawn(chance, configured, url, folder):
    """A small configuration by chance."""
    agent = {"total_timesteps": chance.choice([7, 12]), "n_envs": chance.choice([2, 4]), **chance.choice(AGENTS)}
    interface = chance.choice([i for i in INTERFACES if i["name"] != "decode" or agent["name"] not in DISCRETE_ONLY])
    judge = {"name": "llm"}
    settings = configured("run")
    settings |= {
        "seed": chance.randrange(100),
        "agent": agent,
        "interface": interface,
        "judges": {"length": {"name": "length"}}
        | chance.choice(
            [{}, {"asks": judge}, {"asks": judge | {"when": "end"}}, {"asks": judge | {"when": "potential"}}]
        ),
    }
    if chance.random() < 0.3:
        settings["encoder"] = {"name": "endpoint", "base_url": url, "model": "embeds", "dim": 3, "batch_size": 2}
    inference = settings["inference"]
    inference["judge"], inference["user"] = ({**inference["assistant"], "model": role} for role in ("judge", "user"))
    inference["cassette"]["mode"] = chance.choice(["record", "off"])
    settings["reward"]["gamma"] = 0.99
    env = settings["env"]
    env |= {"limit": 3, "max_turns": chance.choice([1, 2, 3]), "draws": chance.choice([1, 2, None])}
    if chance.random() < 0.5:
        env |= {
            "scenarios": "bargain",
            "system": "",
            "user": chance.choice([{"name": "rule", "game": "bargain"}, "llm"]),
        }
        if chance.random() < 0.5:
            inference["assistant"] |= {"base_url": "embedded://bargain"}
    else:
        turns = ["Hello {} {}.", "And then?", "Why?"]
        lines = [
            json.dumps({"id": f"{split}-{i}", "split": split, "user": [t.format(i, split) for t in turns[: 1 + i % 3]]})
            for split in ("train", "validation", "test")
            for i in range(4)
        ]
        (folder / "own.jsonl").write_text("\n".join(lines))
        env |= {"scenarios": str(folder / "own.jsonl"), "user": chance.choice(["scripted", "none", "llm"])}
    referee = chance.choice([{"name": "length"}, judge, {"name": "pairwise"}])
    settings["evaluation"] |= {
        "judge": referee,
        "repeats": chance.choice([1, 2]),
        "judged": chance.choice(["last", "all"]),
    }
    if agent["name"] == "ppo" and chance.random() < 0.6:
        settings["validation"] |= {"every": 5, "judge": chance.choice([{"name": "length"}, {"name": "pairwise"}])}
    return settings


@pytest.mark.parametrize("number", range(10))
def test_no_configuration_asks_for_more_than_its_plan(tmp_path, server, configured, number):
    """Agents, interfaces, users, judges, encoders, validation and modes of the cassette, drawn by chance."""
    chance = random.Random(number)
    server.answer = spoken_by_roles
    settings = drawn(chance, configured, server.url, tmp_path)
    train_and_evaluate(settings, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 < summary["spent"]["requests"] <= summary["plan"]["requests"]


@pytest.mark.parametrize("number", range(3))
def test_failures_add_no_more_than_the_plan_allows(tmp_path, server, configured, number):
    """Every fifth request is refused for now, and every seventh verdict cannot be read."""
    chance, asked = random.Random(100 + number), itertools.count(1)
    settings = drawn(chance, configured, server.url, tmp_path)
    settings["inference"]["retries"] = {"share": 0.5, "reserve": 20}
    for role in ("assistant", "judge", "user"):
        settings["inference"][role]["max_retries"] = 1

    def faulty(body):
        number = next(asked)
        if number % 5 == 0:
            return 503, {"error": {"message": "busy"}}
        return "Hm." if body["model"] == "judge" and number % 7 == 0 else spoken_by_roles(body)

    server.answer = faulty
    with contextlib.suppress(DuologueError):  # a run that ends early asked for less
        train_and_evaluate(settings, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["spent"]["requests"] <= summary["plan"]["requests"] + summary["plan"]["repeated"]


def test_the_cassette_mode_decides_what_repetitions_cost(configured):
    """Three candidates for each of 4 scenarios, however many of the 16 turns play them; without a cassette 16 times 3."""
    asked = {}
    for mode in ("record", "off", "replay"):
        settings = configured("run", f"inference.cassette.mode={mode}")
        client = InferenceClient.from_settings(settings["inference"])
        made = make_plan(settings, build_task(settings, client), client, None)
        client.close()
        asked[mode] = made.summary()["requests"]
        console = Console(width=80, record=True, file=io.StringIO())
        show_plan(made, console)
        text = " ".join(console.export_text().split())
        assert f"cassette.mode={mode}" in text
        assert (f"parameters that an endpoint refuses, can add {made.repeated:,} requests" in text) == bool(
            made.repeated
        )
    assert asked == {"record": 12, "off": 48, "replay": 0}


def test_an_agent_without_n_steps_has_a_plan(planner):
    task = planner().task
    assert training_turns({"name": "dqn", "total_timesteps": 10, "n_envs": 4, "train_freq": 1}, task) == (12, 4)
    with pytest.raises(ConfigError, match="no agent `dqm`: did you mean `dqn`"):
        training_turns({"name": "dqm"}, task)
    with pytest.raises(ConfigError, match=r"`agent.total_timesteps` must be a whole number of at least 1, not None"):
        training_turns({"name": "ppo"}, task)


def test_the_plan_fits_a_narrow_terminal(planned):
    _, made = planned("select", 1)
    console = Console(width=80, record=True, file=io.StringIO())
    show_plan(made, console)
    shown = console.export_text()
    assert "…" not in shown.partition("Lengths")[0]
    assert "Lengths are assumed" in shown
