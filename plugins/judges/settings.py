"""The settings of the built-in judges: dataclasses without heavy imports, published as Hydra's `judge` group."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Rules:
    """Settings of `RulesJudge`."""

    banned: list[str] = field(
        default_factory=lambda: [r"(?i)\bas an ai\b", r"(?i)\bi('m| am) sorry, but i can('t|not)\b"]
    )
    """Regular expressions that a reply must not match."""
    format: str | None = None
    """A regular expression that the whole reply must match; null for any."""


@dataclass
class Length:
    """Settings of `LengthJudge`."""

    low: int = 8
    """Words from which on a reply is long enough."""
    high: int = 40
    """Words up to which a reply is short enough."""


@dataclass
class Reference:
    """Settings of `ReferenceJudge`."""

    encoder: str = "minilm"
    """Which encoder compares: `minilm`, `static` or `hashing`."""


@dataclass
class Chrf:
    """Settings of `ChrfJudge`."""

    word_order: int = 0
    """0 is chrF, 2 is chrF++."""
    beta: int = 2
    """How many times recall counts as much as precision."""


@dataclass
class LLM:
    """Settings of `LLMJudge`."""

    prompt: str = ""
    """The judge's instruction; empty for the built-in one. May hold {question}, {reply}, {reference} and {rubric}."""
    rubric: str = ""
    """Name or path of a rubric that the judge weighs."""
    scale: list[int] = field(default_factory=lambda: [0, 10])
    """The worst and the best grade; a rubric's own scale comes first."""
    reasoning: bool = True
    """Whether the judge gives reasons before it grades."""
    logprobs: str = "auto"
    """`auto`, `always` or `never` take the grade's expectation by the tokens' probabilities."""
    max_tokens: int = 256
    """Tokens that the judge may use for its answer."""


@dataclass
class Rubric:
    """Settings of `RubricJudge`."""

    rubric: str = "answer"
    """Name or path of the rubric: `answer`, `support`, `tutor`, or a YAML file."""
    structured: str = "auto"
    """`auto`, `always` or `never` hold the answer to a JSON schema."""
    max_tokens: int = 256
    """Tokens that the judge may use for its answer."""


@dataclass
class Pairwise:
    """Settings of `PairwiseLLMJudge`."""

    prompt: str = ""
    """The instruction; empty for the built-in one. May hold {question}, {first}, {second}, {reference} and {rubric}."""
    rubric: str = ""
    """Name or path of a rubric that the judge weighs."""
    reasoning: bool = True
    """Whether the judge gives reasons before its verdict."""
    logprobs: str = "auto"
    """`auto`, `always` or `never` take the verdict's probability."""
    max_tokens: int = 256
    """Tokens that the judge may use for its answer."""


@dataclass
class Panel:
    """Settings of `make_panel`."""

    judges: dict[str, Any] = field(default_factory=dict)
    """The members by a name of your own: each a judge's name, or its settings with `name`."""
    how: str = "mean"
    """`mean`, `median` or `vote`."""
    quorum: int = 0
    """Members that must have said something; 0 for all that do not abstain."""
    threshold: float = 0.5
    """For `vote`: the score from which on a member is in favour."""


@dataclass
class RewardModel:
    """Settings of `make_reward_model`."""

    model: str = ""
    """A folder or a Hugging Face name, or the model's name at the server."""
    via: str = "transformers"
    """`transformers`, or the server's endpoint: `score`, `rerank` or `classify`."""
    base_url: str = ""
    """The server's address up to what /score, /rerank or /classify is added to."""
    api_key_env: str | None = None
    """Name of the variable that holds the server's key."""
    price: dict[str, Any] = field(default_factory=dict)
    """What the server bills: `per_request_usd`, `per_million_prompt_tokens_usd`."""
    label: int = -1
    """Which output is the reward, for models with several."""
    squash: bool = False
    """Whether the logistic function is applied."""
    max_length: int = 1024
    """Tokens after which the beginning of a dialogue is cut off."""
    device: str = "auto"
    """`auto` is the GPU if there is one."""


@dataclass
class Moderation:
    """Settings of `ModerationJudge`."""

    model: str = "omni-moderation-latest"
    """The moderation model's name."""
    categories: list[str] = field(default_factory=list)
    """Which categories count; empty for all."""


@dataclass
class Function:
    """Settings of `FunctionJudge`."""

    function: str = ""
    """Dotted path of the function, `package.module:function`."""
    threaded: bool = False
    """Whether it is called on another thread."""


@dataclass
class Readability:
    """Settings of `ReadabilityJudge`."""

    formula: str = "coleman_liau_index"
    """Of textstat: `coleman_liau_index`, `automated_readability_index`, `flesch_reading_ease`, …"""
    low: float = 4.0
    """The formula's value from which on a reply is hard enough."""
    high: float = 10.0
    """The formula's value up to which a reply is easy enough."""
    width: float = 6.0
    """How far beyond the band the score reaches 0."""
    language: str = "en"
    """For the formulas that count syllables."""
    least_words: int = 5
    """Shorter replies abstain."""


@dataclass
class Language:
    """Settings of `LanguageJudge`."""

    language: str = "en"
    """ISO 639-1 code, or `user` for the language of the user's last message."""
    among: list[str] = field(
        default_factory=lambda: ["ar", "de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "zh"]
    )
    """The languages considered."""


@dataclass
class Support:
    """Settings of `SupportJudge`."""

    bonus: float = 0.5
    """The part of the score that only a complete case earns."""
    turn_cost: float = 0.02
    """What a further turn costs."""


@dataclass
class Tutoring:
    """Settings of `TutoringJudge`."""

    turn_cost: float = 0.1
    """What a turn after the second costs."""
    told: float = 0.1
    """The score of an answer that was given away; at most 0.3."""
