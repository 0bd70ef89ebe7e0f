"""Putting a task together, and what is said of parts that do not fit."""

import copy
import json

import pytest

from duologue.envs import DialogueEnv, ScriptedUser, make_interface
from duologue.inference import ConfigError, Endpoint, Sampling, make_encoder


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"interface": "slect"}, r"`interface.name=slect` is unknown: did you mean `select`\?"),
        ({"encoder": "statik"}, r"`encoder.name=statik` is unknown: did you mean `static`\?"),
        ({"user": "scripter"}, r"`env.user.name=scripter` is unknown: did you mean `scripted`\?"),
        ({"judges": {"a": "lenght"}}, r"`judges.a`: there is no judge `lenght`: did you mean `length`\?"),
        (
            {"judges": {"a": {"name": "length", "hihg": 3}}},
            r"`judges.a.hihg` is not a setting here: did you mean `high`",
        ),
        ({"scenarios": "asistant"}, r"no scenario set `asistant`: did you mean `assistant`\?"),
        ({"scenarios": "assistant", "split": "tset"}, r"no split `tset`: did you mean `test`\?"),
        ({"scenarios": "assistant", "limit": 0}, "the number of scenarios must be at least 1, not 0"),
        ({"scenarios": []}, "a task needs at least one scenario"),
        ({"max_turns": 0}, "`env.max_turns` must be at least 1, not 0"),
        ({"draws": 0}, "`env.draws` must be at least 1, or null, not 0"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_when_the_task_is_built(make_task, parts, said):
    with pytest.raises(ConfigError, match=said):
        make_task(**parts)


def test_endpoints_without_an_assistant_are_refused(make_task, endpoint):
    with pytest.raises(ConfigError, match="`endpoints.assistant` is missing"):
        make_task(endpoints={"judge": endpoint})


def test_endpoints_may_be_settings_as_yaml_names_them(make_task, server):
    settings = {
        "base_url": server.url,
        "model": "named",
        "sampling": {"max_tokens": 9, "stop": ["#"]},
        "max_retries": 0,
    }
    task = make_task(interface="plain", endpoints={"assistant": settings, "judge": None}, judges={})
    assert task.assistant == Endpoint(server.url, "named", sampling=Sampling(max_tokens=9, stop=("#",)), max_retries=0)
    env = DialogueEnv(task)
    env.reset(seed=0)
    _, _, _, _, info = env.step(0)
    assert info["reply"]
    assert server.requests[0]["model"] == "named"


@pytest.mark.parametrize(
    ("endpoints", "said"),
    [
        ({"assistant": {"base_url": "https://host/v1"}}, r"`endpoints.assistant.model` is missing"),
        (
            {"assistant": {"base_url": "host", "model": "m"}},
            r"`endpoints.assistant` was refused: `base_url` must be like",
        ),
        ({"assistant": {"base_ulr": "https://host/v1"}}, r"did you mean `base_url`"),
        ({"assistant": "https://host/v1"}, r"`endpoints.assistant` must hold settings by name"),
        ("https://host/v1", r"`endpoints` must hold endpoints by role"),
    ],
)
def test_endpoints_that_are_none_are_refused_when_the_task_is_built(make_task, endpoints, said):
    with pytest.raises(ConfigError, match=said):
        make_task(endpoints=endpoints)


def test_parts_may_be_ready_made(make_task):
    interface, encoder, user = make_interface("plain"), make_encoder({"name": "hashing", "dim": 4}), ScriptedUser()
    task = make_task(interface=interface, encoder=encoder, user=user)
    assert task.interface is interface
    assert task.encoder is encoder
    assert task.user is user


def test_scenarios_come_from_a_set_a_file_or_a_list(make_task, scenarios, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"id": "mine", "split": "test", "user": "Hello?"}))
    assert [s.id for s in make_task(scenarios=str(path), split="test").scenarios] == ["mine"]
    assert [s.id for s in make_task(scenarios=path, split="test").scenarios] == ["mine"]
    assert len(make_task(scenarios="assistant", split="validation", limit=3).scenarios) == 3
    assert make_task(scenarios=scenarios[:2]).scenarios == scenarios[:2]


def test_no_judges_play_without_judging(make_task, scenarios):
    env = DialogueEnv(make_task(interface="plain", judges={}, scenarios=scenarios[:1]))
    env.reset(seed=0)
    _, reward, _, _, info = env.step(0)
    assert reward == 0
    assert not [key for key in info if key.startswith("reward/")]


def test_the_same_task_can_be_played_unjudged_on_other_scenarios(make_task, scenarios, spied, spy):
    judged = make_task(interface="plain", reward=spied, scenarios=scenarios[:1])
    task = judged.without_reward(scenarios[1:2])
    env = DialogueEnv(task)
    _, info = env.reset(seed=0)
    assert info["scenario"] == "one-1"
    assert env.step(0)[1] == 0
    assert spy.turns == []
    assert (judged.reward, judged.scenarios) == (spied, scenarios[:1])
    assert judged.without_reward().scenarios == scenarios[:1]


def test_a_copy_of_a_task_is_the_task(make_task):
    """Gymnasium copies an environment's arguments deeply, and a client under way cannot be copied."""
    task = make_task()
    assert copy.deepcopy({"task": task})["task"] is task
