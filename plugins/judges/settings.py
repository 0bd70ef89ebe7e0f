"""The settings of the built-in judges: dataclasses without heavy imports, published as Hydra's `judge` group."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """The judge's instruction; empty for the built-in one. May hold {question}, {reply} and {reference}."""
    max_tokens: int = 256
    """Tokens that the judge may use for its answer."""
