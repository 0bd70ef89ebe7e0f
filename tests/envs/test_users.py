"""The user's side."""

import asyncio

import pytest

from duologue.envs import Scenario, ScriptedUser
from duologue.envs.state import DialogueState
from duologue.envs.users import make_user
from duologue.inference import ConfigError


@pytest.mark.parametrize(("turn", "said"), [(1, "Go on."), (2, "And then?"), (3, None), (4, None)])
def test_the_scripted_user_says_its_turns_in_order_and_then_ends(turn, said):
    scenario = Scenario("a", "train", ("Hello.", "Go on.", "And then?"))
    assert asyncio.run(ScriptedUser().reply(scenario, DialogueState([], turn=turn))) == said


def test_an_unknown_user_gets_the_near_miss():
    with pytest.raises(ConfigError, match=r"`env.user.name=scriptd` is unknown: did you mean `scripted`\?"):
        make_user("scriptd")


def test_a_user_of_ones_own_is_named_by_its_path():
    assert isinstance(make_user("duologue.envs.users:ScriptedUser"), ScriptedUser)
