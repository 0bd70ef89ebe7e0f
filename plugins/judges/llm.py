"""A judge model that gives a number from 0 to 10."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

from ...inference.completion import Completion, Message
from ...inference.errors import CallFailed
from ..judge import JudgeContext
from ..verdict import Failure, Score, Turn, Verdict

PROMPT = """\
Grade the assistant's last reply. Judge whether it is correct, helpful and well put; ignore its length.

[Question]
{question}

[Reply]
{reply}

Give one sentence of reasons, then on a line of its own: `Score: N`, where N is a number from 0 (useless) to 10 \
(perfect)."""

_FLAGS = re.IGNORECASE | re.VERBOSE
_MARKDOWN = re.compile(r"[*`$]|(?<![^\W_])_+|_+(?![^\W_])")
_LABEL = r"""
    (?: (?P<limit> (?:max(?:imum)?|min(?:imum)?|highest|lowest|perfect|possible|sub)[\W_]*)
      | (?<![^\W_])(?<![^\W_]_) )                    # "max_score" and "underscore" are other words
    (?: score|rating|grade )(?!\w) [\s"'\]]*
    (?: \( (?: [^()\n]*\b10 | (?!\s*(?:out|of|max)\b)[^()\d\n]* ) \)\s* )?  # "(0-10)", "(overall)", not "(of five)"
"""
_COLON = re.compile(_LABEL + "[:=\uff1a]", _FLAGS)
_IS = re.compile(_LABEL + r"is\b(?=\s*[0-9])", _FLAGS)
_NUMBER = r"""
    [\s"'(\[{]* ([0-9]+(?:\.[0-9]+)?)(?![\w%+])
    (?: \s*\(? (?:/|out\s+of|of)\s* (?:10(?:\.0+)?|ten)(?!\w) \)? )?
"""
_ALONE = re.compile(_NUMBER + r"""[\s.!"')\]}]* (?:\n|$)""", _FLAGS)
_LINE = re.compile(
    _NUMBER
    + r"""
    (?!\s*(?:[/%⭐★]|(?:to|or|and|out|of|in|plus|minus|point|stars?|percent|half)\b))  # "7 or so", "4 stars"
    [^\d\n]*? (?:[.!?;](?=\s|$)|,\s*"|}|\n|$)        # nor any other figure before the sentence ends
    """,
    _FLAGS,
)


def read_score(text: str) -> float | None:
    """Reads a judge's answer.

    The score is the number after the last ``Score:``, ``Rating:`` or ``Grade:`` (else ``score is``), or the number
    that is the whole answer. Where another number could be meant, none is read: a range, another scale, a decimal
    comma, a sign, further figures in the same sentence, a limit that is labelled as well, a thought that did not end.

    Args:
        text: What the judge model said.

    Returns:
        The score if it is certain and lies in 0 to 10; None otherwise.
    """
    text = _MARKDOWN.sub(" ", text.rpartition("</think>")[2].partition("<think>")[0]).strip()
    labels, pattern = list(_COLON.finditer(text)), _LINE
    if not labels:
        labels, pattern = list(_IS.finditer(text)), _ALONE
    if any(label["limit"] for label in labels):
        return None
    found = pattern.match(text, labels[-1].end()) if labels else _ALONE.fullmatch(text)
    value = float(found[1]) if found else None
    return value if value is not None and value <= 10 else None


class LLMJudge:
    """A judge model's grade divided by 10, in [0, 1].

    An answer that cannot be read is asked for once more, at a higher temperature; then it is a failure.

    Args:
        context: For the client and the endpoint of role ``judge``.
        prompt: The instruction; empty for `PROMPT`. May hold ``{question}``, ``{reply}`` and ``{reference}``.
        max_tokens: Tokens that the judge may use.
    """

    concurrent = True  # a call a turn
    requests_per_turn = 1

    def __init__(self, context: JudgeContext, prompt: str = "", max_tokens: int = 256) -> None:
        self._client = context.client
        self._endpoint = context.endpoint("judge")
        self._prompt = prompt or PROMPT
        self._sampling = replace(self._endpoint.sampling, temperature=0.0, max_tokens=max_tokens)
        self._check()

    def _check(self) -> None:
        try:
            self._fill("", "", "")
        except (KeyError, IndexError, AttributeError, ValueError) as error:
            raise ValueError(f"`prompt` may only hold {{question}}, {{reply}} and {{reference}}: {error}") from error

    def _fill(self, question: str, reply: str, reference: str) -> str:
        return self._prompt.format(question=question, reply=reply, reference=reference)

    async def score(self, batch: Sequence[Turn]) -> list[Verdict]:
        """One verdict per turn; all are asked for at once."""
        return list(await asyncio.gather(*(self._one(turn) for turn in batch)))

    async def _one(self, turn: Turn) -> Verdict:
        dialogue = "\n".join(f"{m['role']}: {m['content']}" for m in turn.messages if m["role"] != "system")
        message: Message = {"role": "user", "content": self._fill(dialogue, turn.reply, turn.reference or "")}
        verdict: Verdict = Failure("not asked")
        for attempt, temperature in enumerate((0.0, 0.7)):  # the same question at 0 would get the same answer
            sampling = replace(self._sampling, temperature=temperature)
            try:
                answer = await self._client.chat(
                    self._endpoint, [message], sampling=sampling, sample_index=attempt, role="judge"
                )
            except CallFailed as error:
                return Failure(str(error))
            verdict = self._read(answer)
            if isinstance(verdict, Score):
                break
        return verdict

    def _read(self, answer: Completion) -> Verdict:
        if answer.finish_reason == "length":  # "Score: 1" may have been going to be "Score: 10"
            return Failure(f"the judge's answer was cut at {self._sampling.max_tokens} tokens: raise `max_tokens`")
        value = read_score(answer.text)
        if value is None:
            return Failure(f"the judge's answer holds no score from 0 to 10: {answer.text[-80:]!r}")
        return Score(value / 10, {"grade": value}, answer.text, answer.cost_usd)

    async def aclose(self) -> None:
        """The client is shared and not ours to close."""
