"""The built-in plugin: the judges that ship, and the weighted sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .hookspecs import hookimpl
from .judges import settings

if TYPE_CHECKING:
    from .registrar import JudgeRegistrar
    from .verdict import Score


@hookimpl
def duologue_register_judges(register: JudgeRegistrar) -> None:
    """Offers the judges of `plugins.judges`."""
    register.judge(
        "rules",
        ".plugins.judges.rules:RulesJudge",
        config=settings.Rules,
        summary="no repetition, a finished sentence, no banned pattern, the right format",
    )
    register.judge(
        "length",
        ".plugins.judges.length:LengthJudge",
        config=settings.Length,
        summary="the reply's words inside a band",
    )
    register.judge(
        "reference",
        ".plugins.judges.reference:ReferenceJudge",
        config=settings.Reference,
        summary="semantic similarity to the hidden reference answer, by MiniLM",
        cost="model",
    )
    register.judge(
        "chrf",
        ".plugins.judges.chrf:ChrfJudge",
        config=settings.Chrf,
        summary="character n-gram overlap with the hidden reference answer, by sacrebleu",
    )
    register.judge(
        "llm",
        ".plugins.judges.llm:LLMJudge",
        config=settings.LLM,
        summary="one grade by a judge model",
        cost="requests",
    )
    register.judge(
        "rubric",
        ".plugins.judges.rubric:RubricJudge",
        config=settings.Rubric,
        summary="several criteria in one call, by a judge model",
        cost="requests",
    )
    register.judge(
        "pairwise",
        ".plugins.judges.pairwise:PairwiseLLMJudge",
        config=settings.Pairwise,
        summary="which of two replies is better, by a judge model",
        kind="compare",
        cost="requests",
    )
    register.judge(
        "panel",
        ".plugins.judges.panel:make_panel",
        config=settings.Panel,
        summary="several judges as one, by mean, median or vote",
        cost="requests",
    )
    register.judge(
        "reward_model",
        ".plugins.judges.reward_model:make_reward_model",
        config=settings.RewardModel,
        summary="a model trained to give rewards, here or behind a server",
        cost="model",
    )
    register.judge(
        "moderation",
        ".plugins.judges.moderation:ModerationJudge",
        config=settings.Moderation,
        summary="no category of the moderation endpoint",
        cost="requests",
    )
    register.judge(
        "python",
        ".plugins.judges.function:FunctionJudge",
        config=settings.Function,
        summary="a function of your own, by its dotted path",
    )
    register.judge(
        "readability",
        ".plugins.judges.readability:ReadabilityJudge",
        config=settings.Readability,
        summary="a readability formula inside a band, by textstat",
    )
    register.judge(
        "language",
        ".plugins.judges.language:LanguageJudge",
        config=settings.Language,
        summary="the reply in the wanted language, by lingua",
    )
    register.judge(
        "toxicity",
        ".plugins.judges.toxicity:ToxicityJudge",
        summary="not profane or abusive, by alt-profanity-check",
    )


@hookimpl(trylast=True)
def duologue_reward(verdicts: Mapping[str, Score], weights: Mapping[str, float]) -> float | None:
    """The weighted sum; the weight of judges that abstained is spread over the others in proportion.

    None where only judges of weight 0 gave a score: they are there to be logged.
    """
    present = sum(abs(weights[name]) for name in verdicts)
    total = sum(abs(weight) for weight in weights.values())
    if not present:
        return None
    return total / present * sum(weights[name] * score.value for name, score in verdicts.items())
