"""Judges as plugins: hooks, verdicts, the reward's composition and the built-in judges."""

from .hookspecs import RolloutStats, RunInfo, hookimpl
from .judge import (
    Abstain,
    BaseJudge,
    Failure,
    Judge,
    JudgeContext,
    Judged,
    PairwiseJudge,
    Preference,
    Score,
    Turn,
    TurnJudge,
    Verdict,
)
from .manager import Plugins, plugins
from .registrar import JudgeRegistrar, JudgeSpec
from .rewards.reward import Reward
from .rewards.weights import Weighted

__all__ = [
    "Abstain",
    "BaseJudge",
    "Failure",
    "Judge",
    "JudgeContext",
    "JudgeRegistrar",
    "JudgeSpec",
    "Judged",
    "PairwiseJudge",
    "Plugins",
    "Preference",
    "Reward",
    "RolloutStats",
    "RunInfo",
    "Score",
    "Turn",
    "TurnJudge",
    "Verdict",
    "Weighted",
    "hookimpl",
    "plugins",
]
