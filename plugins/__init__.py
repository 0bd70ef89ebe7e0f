"""Judges as plugins: hooks, verdicts, the reward's composition and the built-in judges."""

from .hookspecs import hookimpl
from .judge import Judge, JudgeContext, PairwiseJudge
from .judged import Judged
from .lifecycle import RolloutStats, RunInfo
from .manager import Plugins, plugins
from .registrar import JudgeRegistrar, JudgeSpec
from .reward import Reward
from .verdict import Abstain, Failure, Preference, Score, Turn, Verdict
from .weighted import Weighted

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
