"""The built-in plugin: the judges that ship, and the weighted sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from .hookspecs import hookimpl
from .judges import settings
from .rewards.weights import spread

if TYPE_CHECKING:
    from .judge import Score
    from .registrar import Cost, JudgeRegistrar, Kind


class _Offer(NamedTuple):
    """One judge: its name, module (in `plugins.judges`, or with its game) and class, settings, and what `JudgeRegistrar.judge` asks for besides."""

    name: str
    target: str
    config: type | None
    summary: str
    kind: Kind = "score"
    cost: Cost = "free"


_OFFERS = (
    _Offer(
        "rules",
        "rules:RulesJudge",
        settings.Rules,
        "no repetition, a finished sentence, no banned pattern, the right format",
    ),
    _Offer("length", "length:LengthJudge", settings.Length, "the reply's words inside a band"),
    _Offer(
        "reference",
        "reference:ReferenceJudge",
        settings.Reference,
        "semantic similarity to the hidden reference answer, by MiniLM",
        cost="model",
    ),
    _Offer(
        "chrf",
        "chrf:ChrfJudge",
        settings.Chrf,
        "character n-gram overlap with the hidden reference answer, by sacrebleu",
    ),
    _Offer("llm", "llm:LLMJudge", settings.LLM, "one grade by a judge model", cost="requests"),
    _Offer(
        "rubric",
        "rubric:RubricJudge",
        settings.Rubric,
        "several criteria in one call, by a judge model",
        cost="requests",
    ),
    _Offer(
        "pairwise",
        "pairwise:PairwiseLLMJudge",
        settings.Pairwise,
        "which of two replies is better, by a judge model",
        kind="compare",
        cost="requests",
    ),
    _Offer(
        "panel", "panel:make_panel", settings.Panel, "several judges as one, by mean, median or vote", cost="requests"
    ),
    _Offer(
        "reward_model",
        "reward_model:make_reward_model",
        settings.RewardModel,
        "a model trained to give rewards, here or behind a server",
        cost="model",
    ),
    _Offer(
        "moderation",
        "moderation:ModerationJudge",
        settings.Moderation,
        "no category of the moderation endpoint",
        cost="requests",
    ),
    _Offer("python", "function:FunctionJudge", settings.Function, "a function of your own, by its dotted path"),
    _Offer(
        "readability",
        "readability:ReadabilityJudge",
        settings.Readability,
        "a readability formula inside a band, by textstat",
    ),
    _Offer("language", "language:LanguageJudge", settings.Language, "the reply in the wanted language, by lingua"),
    _Offer("bargain", ".envs.games.bargain:BargainJudge", None, "the share of the gap that a buyer won in a deal"),
    _Offer(
        "form",
        ".envs.games.forms:FormJudge",
        None,
        "the form of answer that was wished: brief, a reason, an example, a question, warm",
    ),
    _Offer(
        "support",
        ".envs.games.support:SupportJudge",
        settings.Support,
        "the share of a case's details that were collected",
    ),
    _Offer(
        "tutoring",
        ".envs.games.tutoring:TutoringJudge",
        settings.Tutoring,
        "whether a student was led to the answer, not told it",
    ),
    _Offer("toxicity", "toxicity:ToxicityJudge", None, "not profane or abusive, by alt-profanity-check"),
)


@hookimpl
def duologue_register_judges(register: JudgeRegistrar) -> None:
    """Offers the judges of `plugins.judges`."""
    for offer in _OFFERS:
        register.judge(
            offer.name,
            offer.target if offer.target.startswith(".") else f".plugins.judges.{offer.target}",
            config=offer.config,
            summary=offer.summary,
            kind=offer.kind,
            cost=offer.cost,
        )


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
