"""Judges as plugins: hooks, verdicts, the reward's composition and the built-in judges."""

from .hookspecs import hookimpl
from .judge import Judge, JudgeContext, PairwiseJudge
from .manager import JudgeRegistrar, JudgeSpec, Plugins, plugins
from .reward import Judged, Reward, Weighted
from .run import RolloutStats, RunInfo
from .verdict import Abstain, Failure, Preference, Score, Turn, Verdict

__all__ = [
    "Abstain",
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
    "Verdict",
    "Weighted",
    "hookimpl",
    "plugins",
]
