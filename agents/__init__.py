"""What learns and what acts: rollout collection, PPO, bandits, agents of libraries and policy bundles. Needs the `train` extra."""

from .bandits import Bandit, BanditSettings
from .bundle import Bundle, load_bundle, save_bundle
from .library import LibraryAgent
from .played import Played
from .policies import TorchPolicy
from .ppo import DialoguePPO
from .rollouts import Collector
from .scorer import CandidatePolicy
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
    "Played",
    "TorchPolicy",
    "load_bundle",
    "save_bundle",
]
