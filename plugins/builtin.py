"""The built-in plugin: the judges that ship, and the weighted sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .hookspecs import hookimpl
from .rewards.weights import spread

if TYPE_CHECKING:
    from .judge import Score
    from .registrar import JudgeRegistrar


_JUDGES = (
    ".plugins.judges.rules:RulesJudge",
    ".plugins.judges.length:LengthJudge",
    ".plugins.judges.reference:ReferenceJudge",
    ".plugins.judges.chrf:ChrfJudge",
    ".plugins.judges.llm:LLMJudge",
    ".plugins.judges.rubric:RubricJudge",
    ".plugins.judges.pairwise:PairwiseLLMJudge",
    ".plugins.judges.panel:make_panel",
    ".plugins.judges.reward_model:make_reward_model",
    ".plugins.judges.moderation:ModerationJudge",
    ".plugins.judges.function:FunctionJudge",
    ".plugins.judges.readability:ReadabilityJudge",
    ".plugins.judges.language:LanguageJudge",
    ".plugins.judges.toxicity:ToxicityJudge",
    ".envs.games.bargain:BargainJudge",
    ".envs.games.forms:FormJudge",
    ".envs.games.support:SupportJudge",
    ".envs.games.tutoring:TutoringJudge",
)
"""The judges that ship; those of games stand with their games. None imports a model's library before it is built."""


@hookimpl
def duologue_register_judges(register: JudgeRegistrar) -> None:
    """Registers the judges that ship.

    Args:
        register: Registers judges for this plugin.
    """
    for target in _JUDGES:
        register.judge(target)


@hookimpl(trylast=True)
def duologue_reward(verdicts: Mapping[str, Score], weights: Mapping[str, float]) -> float | None:
    """Computes the weighted sum; the weight of judges that abstained is spread over the others in proportion.

    None where only judges of weight 0 gave a score: they are there to be logged.

    Args:
        verdicts: Scores by judge.
        weights: Weights by judge.

    Returns:
        The reward; None where only judges of weight 0 gave a score, which serve logging.
    """
    factor = spread(weights, verdicts)
    return None if factor is None else factor * sum(weights[name] * score.value for name, score in verdicts.items())
