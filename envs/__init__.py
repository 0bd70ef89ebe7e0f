"""Dialogue environments: scenarios, users, action interfaces, observations and the Gymnasium shells.

Importing this room registers ``duologue/Dialogue-v0``; ``gymnasium.make("duologue.envs:duologue/Dialogue-v0")`` does
both at once.
"""

import gymnasium as _gymnasium

from ..inference.scripted import register_scripted
from .dialogue import Dialogue, EpisodeFailed, Transition
from .env import DialogueEnv
from .episodes import Curriculum, Episode
from .interfaces import ActionInterface, make_interface
from .observation import Observation, Observer
from .policies import ConstantPolicy, Policy, RandomPolicy
from .scenarios import GAMES, Scenario, load_scenarios
from .task import Task
from .users import ScriptedUser, User
from .vector import DialogueVectorEnv

_gymnasium.register(
    id="duologue/Dialogue-v0",
    entry_point="duologue.envs:DialogueEnv",
    vector_entry_point="duologue.envs:DialogueVectorEnv",
    nondeterministic=True,  # a model behind an API need not answer twice alike; with a cassette it does
)

register_scripted(".envs.games.scripted:scripted_answer", GAMES)

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
    "Observation",
    "Observer",
    "Policy",
    "RandomPolicy",
    "Scenario",
    "ScriptedUser",
    "Task",
    "Transition",
    "User",
    "load_scenarios",
    "make_interface",
]
