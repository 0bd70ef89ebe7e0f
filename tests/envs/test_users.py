"""The user's side."""

import asyncio

import pytest

from duologue.envs import DialogueEnv, Scenario, ScriptedUser
from duologue.envs.episode import DialogueState
from duologue.envs.users import make_user
from duologue.inference import ConfigError
from duologue.inference.encoders import HashingEncoder


@pytest.mark.parametrize(("turn", "said"), [(1, "Go on."), (2, "And then?"), (3, None), (4, None)])
def test_the_scripted_user_says_its_turns_in_order_and_then_ends(turn, said):
    scenario = Scenario("a", "train", ("Hello.", "Go on.", "And then?"))
    assert asyncio.run(ScriptedUser().reply(scenario, DialogueState([], turn=turn))) == said


def test_an_unknown_user_gets_the_near_miss():
    with pytest.raises(ConfigError, match=r"`env.user.name=scriptd` is unknown: did you mean `scripted`\?"):
        make_user("scriptd")


def test_a_user_of_ones_own_is_named_by_its_path():
    assert isinstance(make_user("duologue.envs.users:ScriptedUser"), ScriptedUser)


CANARY = "CANARY-7261"
HIDDEN = {"value": 90, "reserve": 60, "asked": 80, "mood": "calm", "secret": CANARY}
SOLD = Scenario(
    "a",
    "train",
    ("I am selling a lamp for $80. It is in good shape.",),
    reference=f"A good answer, {CANARY}",
    persona="A seller with a lamp.",
    goal="Sell the lamp for as much as you can.",
    hidden=HIDDEN,
)


def test_nobody_says_nothing_after_the_answer(server, make_task):
    env = DialogueEnv(make_task(scenarios=[SOLD], user="none", max_turns=5))
    env.reset(seed=0)
    assert env.step(0)[2:4] == (True, False)


def test_the_rules_of_a_game_answer_and_end_the_dialogue(server, make_task):
    server.answer = lambda body: "Deal at $80." if len(body["messages"]) > 3 else "I can offer $70."
    task = make_task(scenarios=[SOLD], user={"name": "rule", "game": "bargain"}, interface="strategy", max_turns=5)
    env = DialogueEnv(task)
    env.reset(seed=0)
    *_, info = env.step(0)
    assert info["messages"][-1]["content"] == "I could go down to $76."
    *_, terminated, _, info = env.step(0)
    assert terminated
    assert info["messages"][-1] == {"role": "assistant", "content": "Deal at $80."}


@pytest.mark.parametrize("user", ["none", "scripted", {"name": "rule", "game": "bargain"}, "llm"], ids=str)
@pytest.mark.parametrize("interface", ["select", "strategy", "propose_select", "decode"])
def test_hidden_facts_reach_no_request_and_no_observation(server, make_task, user, interface):
    """The encoder is shown every text that an observation is made of."""
    seen = []

    class Watching(HashingEncoder):
        async def encode(self, texts):
            seen.extend(texts)
            return await super().encode(texts)

    task = make_task(scenarios=[SOLD], user=user, interface=interface, encoder=Watching(16), max_turns=3)
    env = DialogueEnv(task)
    _, info = env.reset(seed=0)
    over = False
    while not over:
        *_, terminated, truncated, after = env.step(env.action_space.sample())
        over = terminated or truncated
        assert CANARY not in repr(after)
    assert seen
    assert server.requests
    assert CANARY not in repr((info, seen, server.requests))


class TestLLMUser:
    """A user that is a model behind the API."""

    @pytest.fixture
    def play(self, server, make_task):
        """Plays with a server that answers users and assistants apart; returns the last info and how it ended."""

        def play(says, **settings):
            server.answer = lambda body: says if _is_user(body) else "I can offer $70."
            task = make_task(scenarios=[SOLD], user={"name": "llm", **settings}, interface="strategy", max_turns=2)
            env = DialogueEnv(task)
            env.reset(seed=0)
            return env.step(0)

        return play

    def test_it_sees_its_persona_and_goal_and_the_dialogue_with_the_roles_exchanged(self, server, play):
        *_, info = play("No, $78.")
        (asked,) = [body for body in server.requests if _is_user(body)]
        system, _, *rest = asked["messages"]
        assert "A seller with a lamp." in system["content"]
        assert "for as much as you can" in system["content"]
        assert [m["role"] for m in rest] == ["assistant", "user"]
        assert rest[-1]["content"] == "I can offer $70."
        assert asked["max_tokens"] == 80
        assert info["messages"][-1] == {"role": "user", "content": "No, $78."}

    @pytest.mark.parametrize("says", ["[END]", "Thank you, bye. [END]"])
    def test_its_stop_word_ends_the_dialogue(self, play, says):
        *_, terminated, _, info = play(says)
        assert terminated
        assert info["messages"][-1]["role"] == "assistant"

    def test_silence_is_a_failure_and_no_turn(self, play):
        *_, truncated, info = play("  ")
        assert truncated
        assert info["failure_cause"] == "user"

    def test_it_is_metered_apart(self, play, server, make_task):
        play("No.")
        assert make_task().client.meter.roles["user"].paid == 1

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"prompt": "Be somebody."}, "`prompt` must hold {persona}"),
            (
                {"prompt": "{persona} {goal} {stop} {name}"},
                "`prompt` may only hold {persona}, {goal} and {stop}: {name} is another",
            ),
            ({"prompt": "{persona} {goal} {stop} {"}, "`prompt` may only hold"),
            ({"prompt": "{persona} {goal} {{stop}}"}, "`prompt` must hold {stop}"),
            ({"stop": " "}, "`stop` must not be empty"),
        ],
    )
    def test_bad_settings_are_refused(self, make_task, settings, words):
        with pytest.raises(ConfigError, match=words):
            make_task(user={"name": "llm", **settings})


def _is_user(body):
    return "You play a person" in body["messages"][0]["content"]
