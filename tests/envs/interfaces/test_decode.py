"""`decode` and `strategy_decode`: what is sampled, what is asked, and that a policy of several parts goes all the way."""

import json

import numpy as np
import pytest

from duologue.commands.evaluate import train_and_evaluate
from duologue.core.errors import ConfigError
from duologue.envs import DialogueEnv, make_interface
from duologue.envs.policies import constant_policies

GRIDS = {"temperatures": [0.0, 1.0], "top_ps": [1.0], "max_tokens": [5, 50, 90]}


def test_the_chosen_values_are_asked_for_and_the_rest_stays(server, make_task, scenarios):
    env = DialogueEnv(make_task(interface={"name": "decode", **GRIDS}, scenarios=scenarios[:1]))
    assert env.action_space.nvec.tolist() == [2, 1, 3]
    env.reset(seed=0)
    *_, info = env.step(np.array([0, 0, 1]))
    (body,) = server.requests
    assert {name: body[name] for name in ("temperature", "top_p", "max_tokens", "seed")} == {
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 50,
        "seed": 0,
    }
    assert info["action"] == "temperature 0, top_p 1, max_tokens 50"


def test_a_directive_besides(server, make_task, scenarios):
    interface = {"name": "strategy_decode", "directives": ["", "Be brief."], **GRIDS}
    env = DialogueEnv(make_task(interface=interface, scenarios=scenarios[:1]))
    assert env.action_space.nvec.tolist() == [2, 2, 1, 3]
    for action in ([1, 1, 0, 2], [0, 1, 0, 2]):
        env.reset(seed=0)
        env.step(np.array(action))
    directed, plain = server.requests
    assert directed["messages"][0]["content"].endswith("Be brief.")
    assert not plain["messages"][0]["content"].endswith("Be brief.")
    assert directed["max_tokens"] == plain["max_tokens"] == 90


@pytest.mark.parametrize("name", ["decode", "strategy_decode"])
def test_settings_build_the_same_interface(name):
    made = make_interface({"name": name, **GRIDS})
    assert make_interface(made.settings).settings == made.settings
    json.dumps(made.settings)


def test_constants_are_all_actions_or_none():
    constants = constant_policies(make_interface({"name": "decode", **GRIDS}))
    assert len(constants) == 6
    assert {tuple(policy.act({})) for policy in constants.values()} == {(a, 0, b) for a in range(2) for b in range(3)}
    assert constant_policies(make_interface("strategy_decode")) == {}  # 8 * 4 * 3 * 3 would be too many


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "decode", "top_ps": [0.0]}, "every value of `top_p` must lie in"),
        ({"name": "decode", "temperatures": []}, "every value of `temperature`"),
        ({"name": "decode", "temperatures": [1], "top_ps": [1], "max_tokens": [9]}, "there is nothing to decide"),
        ({"name": "strategy_decode", "directives": [""]}, "else take `decode`"),
    ],
)
def test_what_is_no_choice_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        make_interface(settings)


@pytest.mark.parametrize("name", ["decode", "strategy_decode", "propose_select"])
def test_it_is_trained_saved_and_evaluated_within_its_plan(configured, server, tmp_path, name):
    small = {"decode": GRIDS, "strategy_decode": {**GRIDS, "directives": ["", "Be brief."]}, "propose_select": {"n": 2}}
    config = configured("run", "evaluation.repeats=1") | {"interface": {"name": name, **small[name]}}
    train_and_evaluate(config, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    contestants = {row["contestant"] for row in summary["results"]}
    assert {"trained policy", "random"} <= contestants
    assert "best-of-n oracle" not in contestants  # no reply is chosen among candidates
    assert (
        sum(name.startswith("always ") for name in contestants)
        == {"decode": 6, "strategy_decode": 12, "propose_select": 0}[name]  # its moves are exchangeable
    )
    assert summary["requests"]["paid"] == len(server.requests) <= summary["plan"]["requests"]
