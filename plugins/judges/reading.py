"""Reads grades from a judge model's answer: from the text, and from the tokens' probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ...inference.completion import TokenLogprob

_FLAGS = re.IGNORECASE | re.VERBOSE
_MARKDOWN = re.compile(r"[*`$]|(?<![^\W_])_+|_+(?![^\W_])")
_WORDS = {3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 9: "nine", 10: "ten", 20: "twenty", 100: "hundred"}

_LABELS = "評分|评分|分數|分数|得分|スコア|点数|點數|評価|점수"

_REFUSAL = re.compile(
    r"^\W*(?:(?:i['\u2019]?m|i\s+am)\s+(?:very\s+|so\s+)?(?:sorry|unable|not\s+able)|sorry\b|"
    r"i\s+(?:can(?:['\u2019]t|not)|won['\u2019]t|will\s+not|must\s+decline|refuse)|as\s+an\s+ai\b)",
    re.IGNORECASE,
)

NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
"""Full-width letters, digits and signs to those of ASCII, one for one: places in a text stay."""

LEAST_MASS = 0.5
"""Probability that the listed grades must have together: below it the model was not about to say a grade."""

_CERTAIN = 0.01
"""Probability of a token that might be half a number, up to which it may be left out."""


class Grade(NamedTuple):
    """A grade and where in the text its number stands."""

    value: float
    start: int
    end: int


class _Patterns(NamedTuple):
    colon: re.Pattern[str]
    verb: re.Pattern[str]
    alone: re.Pattern[str]
    line: re.Pattern[str]


@lru_cache
def _patterns(low: int, high: int) -> _Patterns:
    """Patterns of a grade on a scale."""
    top = rf"(?:{high}(?:\.0+)?|{_WORDS[high]})" if high in _WORDS else rf"{high}(?:\.0+)?"
    label = rf"""
        (?: (?: (?P<limit> (?:max(?:imum)?|min(?:imum)?|highest|lowest|perfect|possible|sub)[\W_]*)
              | (?<![^\W_])(?<![^\W_]_) )              # "max_score" and "underscore" are other words
            (?: score|rating|grade )
          | (?<![最高低满滿总總]) (?: {_LABELS} ) )(?!\w) [\s"'\]]*
        (?: \( (?: [^()\n]*\b{high} | (?!\s*(?:out|of|max)\b)[^()\d\n]* ) \)\s* )?  # "(0-10)", "(overall)"
    """
    number = rf"""
        [\s"'(\[{{]* ([0-9]+(?:\.[0-9]+)?)[分点點점]?(?![\w%+])
        (?: \s*\(? (?:/|out\s+of|of)\s* {top}(?!\w) \)? )?
        (?: \s*\(? on\s+a\s+scale\s+(?:from|of)\s+{low}\s*(?:to|-|\u2013)\s*{top}(?!\w) \)? )?
    """
    return _Patterns(
        colon=re.compile(label + "(?:is\\s*)?[:=\uff1a]", _FLAGS),
        verb=re.compile(label + r"is\b(?=\s*[0-9])", _FLAGS),
        alone=re.compile(number + r"""[\s.!"')\]}]* (?:\n|$)""", _FLAGS),
        line=re.compile(
            number
            + r"""
            (?!\s*(?:[/%⭐★]|(?:to|or|and|out|of|in|plus|minus|point|stars?|percent|half)\b))  # "7 or so", "4 stars"
            [^\d\n]*? (?:[.!?;](?=\s|$)|,\s*"|}|\n|$)        # nor any other figure before the sentence ends
            """,
            _FLAGS,
        ),
    )


def spoken(text: str) -> tuple[str, int]:
    """The parts of a text outside of its thoughts, with their positions."""
    begin = text.rfind("</think>")
    begin = 0 if begin < 0 else begin + len("</think>")
    said = text[begin:].partition("<think>")[0]
    stripped = said.lstrip()
    return stripped.rstrip(), begin + len(said) - len(stripped)


def refuses(text: str) -> bool:
    """Whether an answer begins like a refusal."""
    return bool(_REFUSAL.match(spoken(text)[0]))


def read_grade(text: str, low: int = 0, high: int = 10) -> Grade | None:
    """Finds the grade in a judge model's answer.

    It is the number after the last ``Score:``, ``Rating:`` or ``Grade:`` (else ``score is``), or the number that is the
    whole answer. Where another number could be meant, none is read: a range, another scale, a decimal comma, a sign,
    further figures in the same sentence, a limit that is labelled as well, a thought that did not end.

    Args:
        text: The judge model's answer.
        low: The worst grade.
        high: The best grade.

    Returns:
        The grade if it is certain and on the scale; None otherwise.
    """
    said, offset = spoken(text)
    said = _MARKDOWN.sub(lambda found: " " * len(found[0]), said.translate(NARROW))  # of the same length: places stay
    patterns = _patterns(low, high)
    labels, pattern = list(patterns.colon.finditer(said)), patterns.line
    if not labels:
        labels, pattern = list(patterns.verb.finditer(said)), patterns.alone
    if any(label["limit"] for label in labels):
        return None
    found = pattern.match(said, labels[-1].end()) if labels else patterns.alone.fullmatch(said)
    if found is None or not low <= float(found[1]) <= high:
        return None
    return Grade(float(found[1]), offset + found.start(1), offset + found.end(1))


def expected_grade(tokens: Sequence[TokenLogprob], low: int, high: int) -> float | None:
    """The mean grade by the model's own probabilities: Σ s·p(s) over the grades it might have said at that place.

    As in G-Eval (Liu et al. 2023, arXiv 2303.16634), but from the listed alternatives instead of from samples, with their
    probabilities renormalised. The place is that of the grade which the text gives, so digits in a rationale do not count.

    Args:
        tokens: The answer's tokens with their alternatives.
        low: The worst grade.
        high: The best grade.

    Returns:
        The mean, in [low, high]; None where the tokens do not tell it: the text holds no certain grade, its number is
        more than one token, an alternative might be half a number, or the listed grades are less likely than `LEAST_MASS`.
    """
    found = read_grade("".join(token.token for token in tokens), low, high)
    if found is None:
        return None
    grades: dict[int, float] = {}
    for text, logprob in alternatives(tokens, found.start, found.end).items():
        digits = re.fullmatch(r"\D*([0-9]+)", text)
        if digits and low <= int(digits[1]) <= high:
            grades[int(digits[1])] = grades.get(int(digits[1]), 0.0) + math.exp(logprob)
    whole = any(grade > 9 for grade in grades)  # the tokenizer has numbers of two digits
    if high > 9 and not whole:
        halves = {grade for grade in grades if any(str(other).startswith(str(grade)) for other in range(10, high + 1))}
        if any(grades[grade] > _CERTAIN for grade in halves):
            return None
        grades = {grade: mass for grade, mass in grades.items() if grade not in halves}
    mass = sum(grades.values())
    return sum(grade * share for grade, share in grades.items()) / mass if mass >= LEAST_MASS else None


def alternatives(tokens: Sequence[TokenLogprob], start: int, end: int | None = None) -> dict[str, float]:
    """The alternatives of a token, with natural-log probabilities.

    Args:
        tokens: The answer's tokens.
        start: Beginning of the text in the joined text.
        end: Required end; None if it may be the beginning of a longer word.

    Returns:
        The token itself included; empty where it does not end there, or no alternatives are known.
    """
    reached = 0
    for token in tokens:
        begin, reached = reached, reached + len(token.token)
        if reached > start:
            if begin > start or end not in (None, reached) or not token.top_logprobs:
                return {}
            return {top.token: top.logprob for top in token.top_logprobs} | {token.token: token.logprob}
    return {}
