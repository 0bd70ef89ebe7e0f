"""A judge model that compares two replies."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Literal, NamedTuple

from ...inference.completion import Completion, TokenLogprob
from ..judge import BaseJudge, Failure, JudgeContext, Preference, Turn
from .asking import Asker, Use, check_prompt, dialogue, unread
from .criteria import instruction, load_rubric
from .reading import LEAST_MASS, NARROW, alternatives, spoken

PROMPT = """\
Two assistants replied to the same dialogue. Which reply is better? {rubric}
Their order and their length say nothing.

[Dialogue]
{question}

[Reply A]
{first}

[Reply B]
{second}

{how}"""

PARTED = (
    "(From here on the dialogue went two ways. What is called a reply below is all that followed: judge it as a whole.)"
)
GENERAL = "Judge which one is more correct and more helpful."
REASONED = "Give one sentence of reasons, then on a line of its own: `Verdict: A`, `Verdict: B` or `Verdict: tie`."
AT_ONCE = "Answer with nothing but A, B or tie."
PLACEHOLDERS = ("question", "first", "second", "reference", "rubric")

Winner = Literal["first", "second", "tie"]
_WINNERS: dict[str, Winner] = {"a": "first", "b": "second", "c": "tie", "tie": "tie", "draw": "tie", "equal": "tie"}
_REPLY = r"(?:reply|response|assistant|answer|option)\s+"
_HOW = r"(?:(?:clearly|slightly|much|far|overall|the|significantly|marginally|somewhat|a\s+(?:bit|little))\s+)*"
_BETTER = r"(?:better|best|stronger|superior|winner|preferred|preferable)"
_END = (
    r"(?![\w'\u2019+/-]|\s*(?:,|\bor\b|\band\b|\bnor\b|\bvs\b|\bversus\b)\s*[\"'`]?(?:[abc]|tie)\b"  # "A or B" is no verdict
    r"|\s*(?:[<>=\u2248~\u2260\u2264\u2265\u226a\u226b]|!=)"
    rf"|\s+(?:is|was)\s+(?!{_HOW}{_BETTER}\b)|\s+(?:isn|wasn|loses|lost|fails)\b)"
)
_CHOICE = rf"(?:an?\s+(?=tie|draw))?(?P<choice>tie|draw|equal|(?-i:[ABC])){_END}"  # a small "a" is an article
_EDGE = r"[\s\"'\u201c*_`\[({]*"
_COMPARED = (
    rf"(?P<one>(?-i:[AB]))[*_`]*(?P<sign>\s*(?:>{{1,3}}|<{{1,3}}|={{1,3}}|[\u2248~\u226a\u226b])\s*"
    rf"|\s+(?:is|was)\s+{_HOW}(?:(?:better|stronger|worse|weaker)\s+than|(?:superior|inferior|equal|equivalent)\s+to"
    rf"|as\s+good\s+as|tied\s+with)\s+){_EDGE}(?:{_REPLY})?(?P<two>(?-i:[AB]))(?!\w|\s*[<>=])"
)
_LABELLED = (
    r"(?<!\w)(?:verdict|winner|choice|preference|decision|(?:(?:^|\n)[^\w\n]*|\b(?:my|final)\s+)answer)[\s\"'*_`]*"
    rf"(?:(?:is\s*)?[:=]|\bis\b){_EDGE}(?:{_REPLY})?{_EDGE}(?:{_COMPARED}|{_CHOICE})"
)
_SAID = rf"(?<!\w){_REPLY}{_EDGE}(?:{_COMPARED}|{_CHOICE}[\"'*_`\])}}]*\s+(?:(?:is|was)\s+{_HOW}{_BETTER}|wins)\b)"
_NEGATED = re.compile(r"\b(?:not|never|neither|hardly|cannot|if|unless|whether)\b|n['\u2019]t\b", re.IGNORECASE)
_PATTERNS = [re.compile(p, re.IGNORECASE) for p in (rf"\[\[\s*(?:{_COMPARED}|{_CHOICE})\s*\]\]", _LABELLED, _SAID)]
_ALONE = re.compile(
    rf"{_EDGE}(?:{_REPLY})?(?:{_COMPARED}|(?P<choice>(?:a\s+)?(?:tie|draw)|equal|[abc]))"
    r"[\s.!\"'\u201d*_`\])}]*",
    re.IGNORECASE,
)


class Choice(NamedTuple):
    """The winner, and its place in the text."""

    winner: Winner
    start: int
    end: int
    compared: bool = False
    """Whether it is said as ``A > B``, whose first token is not yet the verdict."""


class PairwiseLLMJudge(BaseJudge):
    """Compares two replies. `evaluation` shows each pair in both orders; this judge answers for the order that it is given.

    Where the API gives the alternatives' probabilities, ``Preference.score`` is P(first) + P(tie) / 2.

    Args:
        context: Context with the client and the endpoint of role ``judge``.
        prompt: The instruction; empty for the built-in one. May hold ``{question}``, ``{first}``, ``{second}``,
            ``{reference}`` and ``{rubric}``, and must make the judge say `Verdict: A`, `B` or `tie`.
        rubric: Name or path of a rubric whose criteria are weighed.
        reasoning: Whether the judge gives reasons first; for the built-in prompt.
        logprobs: ``auto`` uses probabilities where the API gives them, ``always`` fails without them, ``never`` reads texts.
        max_tokens: Tokens that the judge may use; None for the endpoint's own.
    """

    name = "pairwise"
    summary = "which of two replies is better, by a judge model"
    kind = "compare"
    cost = "requests"
    requests_per_pair = 1

    def __init__(
        self,
        context: JudgeContext,
        prompt: str = "",
        rubric: str = "",
        reasoning: bool = True,
        logprobs: Use = "auto",
        max_tokens: int | None = 256,
    ) -> None:
        check_prompt(prompt, PLACEHOLDERS)
        self._rubric = instruction(load_rubric(rubric) if rubric else None, prompt, GENERAL)
        self._prompt = prompt or PROMPT.replace("{how}", REASONED if reasoning else AT_ONCE)
        self._logprobs = logprobs
        self._asker = Asker(context, max_tokens, logprobs=logprobs)

    async def compare(self, batch: Sequence[tuple[Turn, Turn]]) -> list[Preference | Failure]:
        """One preference per pair; all are asked for at once."""
        return list(await asyncio.gather(*(self._one(*pair) for pair in batch)))

    async def _one(self, first: Turn, second: Turn) -> Preference | Failure:
        question, a, b = shown(first, second)
        prompt = self._prompt.format(
            question=question,
            first=a,
            second=b,
            reference=first.reference or "",
            rubric=self._rubric,
        )
        return await self._asker.ask(prompt, self._read, attempt=first.attempt)

    def _read(self, answer: Completion) -> Preference | Failure:
        found = read_choice(answer.text)
        if found is None:
            return unread(answer, "verdict A, B or tie")
        score = expected_score(answer.logprobs or ())
        if score is None and self._logprobs == "always":
            return Failure(f"the verdict's probability is not known ({answer.text[-80:]!r}): set `logprobs=auto`")
        return Preference(found.winner, answer.text, answer.cost_usd, score, answer.latency_s)


def shown(first: Turn, second: Turn) -> tuple[str, str, str]:
    """The texts of a pair for the prompt: the common dialogue, and both continuations.

    Args:
        first: The last turn of a dialogue.
        second: The last turn of the other.

    Returns:
        The common beginning; and either the two replies to it or, where the dialogues part before the replies, the two
        continuations, a line a message.
    """
    one, other = (tuple(m for m in turn.messages if m["role"] != "system") for turn in (first, second))
    if one == other:
        return dialogue(first), first.reply, second.reply
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    rests = [
        f"{dialogue(replace(turn, messages=messages[common:]))}\nassistant: {turn.reply}".lstrip()
        for turn, messages in ((first, one), (second, other))
    ]
    return f"{dialogue(replace(first, messages=one[:common]))}\n{PARTED}", rests[0], rests[1]


def read_choice(text: str) -> Choice | None:
    """Finds the verdict: the last ``[[A]]``, else the last ``Verdict: A``, else ``Reply A is better``, else the answer alone.

    Each may be a comparison: ``A > B``, ``A is worse than B``, ``A = B``.

    Args:
        text: The judge model's answer.

    Returns:
        The verdict; None where there is none, or where the last line that has one has several.
    """
    said, offset = spoken(text)
    said = said.translate(NARROW)
    for pattern in _PATTERNS:
        found = list(pattern.finditer(said))
        if found:
            line = said.rfind("\n", 0, found[-1].start("choice" if found[-1]["choice"] else "one"))
            several = {_winner(match) for match in found if match.end() > line}
            return None if len(several) > 1 or _negated(said, found[-1]) else _choice(found[-1], offset)
    alone = _ALONE.fullmatch(said)
    return _choice(alone, offset) if alone else None


def _negated(said: str, found: re.Match[str]) -> bool:
    """Whether the sentence negates the verdict, or only considers it."""
    begin = max(said.rfind(mark, 0, found.start()) for mark in (". ", "\n", "! ", "? ", "; ", ": ", ", "))
    return found.re is _PATTERNS[-1] and bool(_NEGATED.search(said, max(begin, 0), found.end()))


def _winner(found: re.Match[str]) -> Winner | None:
    """The winner; None if a reply is compared with itself."""
    if found["choice"]:
        return _WINNERS[found["choice"].lower().removeprefix("a ").strip()]
    sign, one, two = found["sign"].lower(), found["one"], found["two"]
    if one == two:
        return None
    if re.search(r"[=\u2248~]|equal|equivalent|as\s+good|tied", sign):
        return "tie"
    first_wins = bool(re.search(r"[>\u226b]|better|stronger|superior", sign))
    return "first" if first_wins == (one == "A") else "second"


def _choice(found: re.Match[str], offset: int) -> Choice | None:
    winner = _winner(found)
    if winner is None:
        return None
    begin, end = ("choice", "choice") if found["choice"] else ("one", "two")
    return Choice(winner, offset + found.start(begin), offset + found.end(end), begin == "one")


def expected_score(tokens: Sequence[TokenLogprob]) -> float | None:
    """The first reply's expected score by the model's own probabilities: P(A) + P(tie) / 2, renormalised.

    Args:
        tokens: The answer's tokens with their alternatives.

    Returns:
        The score in [0, 1]; None where the text holds no verdict, or one like ``A > B``, or A, B and tie together are less
        likely than `LEAST_MASS`.
    """
    found = read_choice("".join(token.token for token in tokens))
    if found is None or found.compared:
        return None
    masses: dict[Winner, float] = dict.fromkeys(("first", "second", "tie"), 0.0)
    for text, logprob in alternatives(tokens, found.start).items():
        word = re.sub(r"[\W_]+", "", text).lower()
        winner = _WINNERS.get(word) or ("tie" if word and "tie".startswith(word) else None)
        if winner is not None:
            masses[winner] += math.exp(logprob)
    mass = sum(masses.values())
    return (masses["first"] + masses["tie"] / 2) / mass if mass >= LEAST_MASS else None
