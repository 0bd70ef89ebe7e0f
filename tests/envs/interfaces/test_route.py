"""`route`: which model is asked, what that costs, and that a policy learns to pay only where it helps."""

import json

import pytest

from duologue.agents import DialoguePPO, DialogueVecEnv
from duologue.envs import DialogueEnv, Scenario, make_interface
from duologue.evaluation.planner import dearest
from duologue.inference import ConfigError, Endpoint, Price

MODELS = {"small": {}, "large": {"model": "large", "price": {"per_request_usd": 0.01}}}
ROUTE = {"name": "route", "models": MODELS}


def test_the_chosen_model_is_asked_and_its_price_counts(server, make_task, scenarios):
    env = DialogueEnv(make_task(interface=ROUTE, scenarios=scenarios[:1], judges={"length": "length"}))
    costs = []
    for action in (0, 1):
        env.reset(seed=0)
        *_, info = env.step(action)
        assert info["action"] == ["small", "large"][action]
        costs.append(info["cost_usd"])
    assert [body["model"] for body in server.requests] == ["fake", "large"]
    assert costs == [0.0, 0.01]


def test_another_server_is_asked_with_a_key_of_its_own(server, make_task, scenarios, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "sk-other")
    other = {"base_url": server.url.replace("127.0.0.1", "localhost"), "model": "elsewhere", "api_key_env": "OTHER_KEY"}
    env = DialogueEnv(
        make_task(interface={"name": "route", "models": {"here": None, "there": other}}, scenarios=scenarios[:1])
    )
    env.reset(seed=0)
    env.step(1)
    assert server.requests[-1]["model"] == "elsewhere"
    assert server.headers["Authorization"] == "Bearer sk-other"


def test_settings_build_the_same_interface_and_hold_no_key():
    made = make_interface(ROUTE)
    assert make_interface(json.loads(json.dumps(made.settings))).settings == made.settings


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"one": {}}, "`models` must name at least 2 models, not 1"),
        ({"a": {}, "b": {"modle": "x"}}, r"`interface.models.b.modle` is not a setting here: did you mean `model`"),
    ],
)
def test_bad_models_are_refused_before_anything_is_asked(make_task, models, message):
    with pytest.raises(ConfigError, match=message):
        make_task(interface={"name": "route", "models": models})


def test_the_plan_reckons_with_the_dearest():
    cheap, dear = (Endpoint("http://x/v1", "m", price=Price(*prices)) for prices in ((1.0, 0.0, 5.0), (0.0, 2.0, 6.0)))
    assert dearest([cheap, dear]) == Price(1.0, 2.0, 6.0)


def test_it_learns_to_pay_for_the_large_model_only_where_it_helps(server, make_task):
    """Right answers to short questions come from both models, to long ones from the large one alone."""
    scenarios = [
        Scenario(f"{kind}-{i}", "train", (f"{kind} {kind} question {i}",), reference="right")
        for kind in ("short", "long")
        for i in range(8)
    ]
    server.answer = lambda body: (
        "right" if body["model"] == "large" or "short" in body["messages"][-1]["content"] else "completely mistaken"
    )
    task = make_task(
        interface=ROUTE, scenarios=scenarios, judges={"chrf": "chrf"}, reward={"cost_weight": 30}, system=""
    )  # the large model costs 0.3 of a right answer's 1.0
    agent = DialoguePPO(
        "MultiInputPolicy", DialogueVecEnv(8, task), n_steps=16, batch_size=64, n_epochs=10, learning_rate=0.01,
        ent_coef=0.01, seed=0,
    )  # fmt: skip
    agent.learn(1024)
    env = DialogueEnv(task)
    chosen = {}
    for scenario in scenarios:
        observation, _ = env.reset(options={"scenario": scenario.id})
        action, _ = agent.predict(observation, deterministic=True)
        chosen.setdefault(scenario.id.split("-")[0], []).append(int(action))
    assert chosen == {"short": [0] * 8, "long": [1] * 8}
