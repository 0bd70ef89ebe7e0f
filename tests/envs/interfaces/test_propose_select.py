"""`propose_select`: moves are asked for, one is chosen, and only the next answer is directed with it."""

import pytest

from duologue.core.errors import ConfigError
from duologue.envs import DialogueEnv, make_interface
from duologue.envs.interfaces.select import ASK

SYSTEM = "Answer in one or two short sentences."


@pytest.fixture
def env(make_task, spied, scenarios):
    interface = {"name": "propose_select", "n": 3, "direct": "Move: {move}"}
    return DialogueEnv(make_task(interface=interface, reward=spied, scenarios=scenarios[6:7]))


def test_moves_are_proposed_before_the_action_and_direct_the_answer(server, env, spy):
    server.answer = lambda body: f"move {body['seed']}" if ASK in body["messages"][-1]["content"] else "the answer"
    observation, _ = env.reset(seed=0)
    asked = list(server.requests)
    assert [body["messages"] for body in asked] == [
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"Hello 0.\n\n{ASK}"},
        ]
    ] * 3
    assert {body["max_tokens"] for body in asked} == {40}
    assert observation["candidates"].shape == (3, 11)
    *_, info = env.step(1)
    directed = server.requests[3]
    assert directed["messages"][0]["content"] == f"{SYSTEM}\nMove: move 1"
    assert directed["max_tokens"] == 20  # the answer's own
    assert len({body["seed"] for body in server.requests[:4]}) == 4
    assert (info["action"], info["reply"]) == ("move 1", "the answer")
    assert "move" not in str(info["messages"]).lower()
    assert spy.turns[0].messages == ({"role": "system", "content": SYSTEM}, {"role": "user", "content": "Hello 0."})


def test_settings_build_the_same_interface():
    made = make_interface({"name": "propose_select", "n": 3})
    assert make_interface(made.settings).settings == made.settings
    assert (made.requests_per_turn, made.proposals_per_turn, made.chooses_reply) == (4, 3, False)


def test_a_wording_without_a_place_for_the_move_is_refused():
    with pytest.raises(ConfigError, match="must hold {move}"):
        make_interface({"name": "propose_select", "direct": "Go."})
    with pytest.raises(ConfigError, match="`direct` may only hold {move}: {moves} is another"):
        make_interface({"name": "propose_select", "direct": "{move} {moves}"})


@pytest.mark.parametrize(
    "direct", ["{move:>5000000000}", "{move!r}", "{move.x}", "{move[0]}", "{move:{move}}", "{0} {move}", "{} {move}"]
)
def test_a_move_is_filled_in_as_it_is(direct):
    with pytest.raises(ConfigError, match="`direct` may only hold {move}"):
        make_interface({"name": "propose_select", "direct": direct})
