"""`strategy`: a directive steers one request and is never part of the dialogue."""

import pytest

from duologue.envs import DialogueEnv
from duologue.envs.interfaces.one_phase import DIRECTIVES

SYSTEM = "Answer in one or two short sentences."


@pytest.fixture
def env(make_task, spied, scenarios):
    """One scripted dialogue of three turns, directed."""
    return DialogueEnv(make_task(interface="strategy", reward=spied, scenarios=scenarios[6:7]))


def test_the_directive_ends_the_system_prompt_of_its_request(server, env):
    env.reset(seed=0)
    assert server.requests == []  # nothing is asked before the action
    env.step(3)
    (body,) = server.requests
    assert body["messages"] == [
        {"role": "system", "content": f"{SYSTEM}\n{DIRECTIVES[3]}"},
        {"role": "user", "content": "Hello 0."},
    ]


def test_a_directive_lasts_for_one_turn(server, env):
    env.reset(seed=0)
    for action in (3, 0, 5):
        env.step(action)
    assert [body["messages"][0]["content"] for body in server.requests] == [
        f"{SYSTEM}\n{DIRECTIVES[3]}",
        SYSTEM,
        f"{SYSTEM}\n{DIRECTIVES[5]}",
    ]


def test_no_directive_enters_the_dialogue_or_what_the_judge_sees(server, env, spy):
    env.reset(seed=0)
    infos = [env.step(action)[-1] for action in (3, 5, 7)]
    shown = [body["messages"][1:] for body in server.requests]
    shown += [info["messages"] for info in infos] + [turn.messages for turn in spy.turns]
    assert len(spy.turns) == 3
    for messages in shown:
        for message in messages:
            assert not any(directive in message["content"] for directive in DIRECTIVES[1:])
    assert all(turn.messages[0] == {"role": "system", "content": SYSTEM} for turn in spy.turns)
    assert [info["action"] for info in infos] == [DIRECTIVES[3], DIRECTIVES[5], DIRECTIVES[7]]


def test_action_0_leaves_the_model_alone(server, make_task, scenarios):
    for interface in ("strategy", "plain"):
        env = DialogueEnv(make_task(interface=interface, scenarios=scenarios[:1]))
        env.reset(seed=0)
        *_, info = env.step(0)
        assert info["action"] == {"strategy": "no directive", "plain": "plain"}[interface]
    assert len(server.requests) == 1  # the second request was the same, and the cassette had its answer
    assert server.requests[0]["messages"][0] == {"role": "system", "content": SYSTEM}


def test_where_there_is_no_system_prompt_the_directive_makes_one(server, make_task, scenarios):
    env = DialogueEnv(make_task(interface="strategy", scenarios=scenarios[:1], system=""))
    for action in (0, 1):
        env.reset(seed=0)
        env.step(action)
    user = {"role": "user", "content": scenarios[0].user[0]}
    assert [body["messages"] for body in server.requests] == [
        [user],
        [{"role": "system", "content": DIRECTIVES[1]}, user],
    ]


def test_directives_of_ones_own(server, make_task, scenarios):
    interface = {"name": "strategy", "directives": ["", "Speak like a sailor."]}
    env = DialogueEnv(make_task(interface=interface, scenarios=scenarios[:1]))
    assert env.action_space.n == 2
    env.reset(seed=0)
    env.step(1)
    assert server.requests[0]["messages"][0]["content"].endswith("\nSpeak like a sailor.")
