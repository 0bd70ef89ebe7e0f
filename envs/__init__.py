"""Dialogue environments: scenarios, users, action interfaces, observations and the Gymnasium shells.

Importing this room registers ``duologue/Dialogue-v0`` and one environment for each game, such as ``duologue/Bargain-v0``; ``gymnasium.make("duologue.envs:duologue/Dialogue-v0")`` does
both at once.
"""

import gymnasium as _gymnasium

from ..inference.scripted_models import register_scripted
from .dialogue import Dialogue
from .env import DialogueEnv, FixedInfo
from .episode import Curriculum, Episode, EpisodeFailed, Observation, Transition
from .games import Game, generate, make_game
from .interfaces import ActionInterface, make_interface
from .observation import Observer
from .policies import ConstantPolicy, Policy, RandomPolicy, constant_policies
from .scenarios.loading import load_scenarios
from .scenarios.scenario import GAMES, Scenario, write_scenarios
from .task import Task
from .users import NoUser, RuleUser, ScriptedUser, User, make_user
from .vector import DialogueVectorEnv

_gymnasium.register(
    id="duologue/Dialogue-v0",
    entry_point="duologue.envs:DialogueEnv",
    vector_entry_point="duologue.envs:DialogueVectorEnv",
    nondeterministic=True,  # a model behind an API need not answer twice alike; with a cassette it does
)

for _game in GAMES:
    _gymnasium.register(
        id=f"duologue/{_game.capitalize()}-v0",
        entry_point="duologue.envs:DialogueEnv",
        vector_entry_point="duologue.envs:DialogueVectorEnv",
        nondeterministic=True,
        kwargs={"game": _game},
    )

register_scripted(".envs.games.generation:scripted_answer", GAMES)

__all__ = [
    "GAMES",
    "ActionInterface",
    "ConstantPolicy",
    "Curriculum",
    "Dialogue",
    "DialogueEnv",
    "DialogueVectorEnv",
    "Episode",
    "EpisodeFailed",
    "FixedInfo",
    "Game",
    "NoUser",
    "Observation",
    "Observer",
    "Policy",
    "RandomPolicy",
    "RuleUser",
    "Scenario",
    "ScriptedUser",
    "Task",
    "Transition",
    "User",
    "constant_policies",
    "generate",
    "load_scenarios",
    "make_game",
    "make_interface",
    "make_user",
    "write_scenarios",
]
