"""Agents: rollout collection, PPO, bandits, agents of libraries, policies and bundles. Needs the `train` extra."""

from .bandits import Bandit, BanditSettings
from .buffer import Trajectory
from .bundle import Bundle, load_bundle, save_bundle
from .library import LibraryAgent
from .policies import CandidatePolicy, TorchPolicy
from .ppo import DialoguePPO
from .rollouts import Collector
from .vec_env import DialogueVecEnv

__all__ = [
    "Bandit",
    "BanditSettings",
    "Bundle",
    "CandidatePolicy",
    "Collector",
    "DialoguePPO",
    "DialogueVecEnv",
    "LibraryAgent",
    "TorchPolicy",
    "Trajectory",
    "load_bundle",
    "save_bundle",
]
