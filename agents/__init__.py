"""What learns and what acts: rollout collection, PPO, baselines and policy bundles. Needs the `train` extra."""

from .bundle import Bundle, load_bundle, save_bundle
from .played import Played
from .policies import TorchPolicy
from .ppo import DialoguePPO
from .rollouts import Collector
from .scorer import CandidatePolicy
from .vec_env import DialogueVecEnv

__all__ = [
    "Bundle",
    "CandidatePolicy",
    "Collector",
    "DialoguePPO",
    "DialogueVecEnv",
    "Played",
    "TorchPolicy",
    "load_bundle",
    "save_bundle",
]
