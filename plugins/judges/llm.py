"""A judge model that gives a number from 0 to 10."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

from ...inference.completion import Message
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

_LABELLED = re.compile(r"(?:score|rating|grade)\W{0,6}(?:is\W+)?(-?\d+(?:\.\d+)?)(?:\s*/\s*(\d+))?", re.IGNORECASE)
_BARE = re.compile(r"\W*(-?\d+(?:\.\d+)?)(?:\s*/\s*(\d+))?\W*")


def read_score(text: str) -> float | None:
    """Reads a judge's answer.

    Args:
        text: What the judge model said.

    Returns:
        The last labelled number, or the number that is the whole answer, if it lies in 0 to 10; None otherwise: an
        answer out of range or on another scale is not a score.
    """
    labelled = _LABELLED.findall(text)
    bare = _BARE.fullmatch(text.strip())
    number, scale = labelled[-1] if labelled else bare.groups("") if bare else ("", "")
    if not number or scale not in ("", "10"):
        return None
    value = float(number)
    return value if 0 <= value <= 10 else None


class LLMJudge:
    """A judge model's grade divided by 10, in [0, 1]. An answer that cannot be read is a failure.

    Args:
        context: For the client and the endpoint of role ``judge``.
        prompt: The instruction; empty for `PROMPT`. May hold ``{question}``, ``{reply}`` and ``{reference}``.
        max_tokens: Tokens that the judge may use.
    """

    def __init__(self, context: JudgeContext, prompt: str = "", max_tokens: int = 256) -> None:
        self._client = context.client
        self._endpoint = context.endpoint("judge")
        self._prompt = prompt or PROMPT
        self._sampling = replace(self._endpoint.sampling, temperature=0.0, max_tokens=max_tokens)
        self._check()

    def _check(self) -> None:
        try:
            self._fill("", "", "")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"`prompt` may only hold {{question}}, {{reply}} and {{reference}}: {error}") from error

    def _fill(self, question: str, reply: str, reference: str) -> str:
        return self._prompt.format(question=question, reply=reply, reference=reference)

    async def score(self, batch: Sequence[Turn]) -> list[Verdict]:
        """One verdict per turn; all are asked for at once."""
        return list(await asyncio.gather(*(self._one(turn) for turn in batch)))

    async def _one(self, turn: Turn) -> Verdict:
        dialogue = "\n".join(f"{m['role']}: {m['content']}" for m in turn.messages if m["role"] != "system")
        message: Message = {"role": "user", "content": self._fill(dialogue, turn.reply, turn.reference or "")}
        try:
            answer = await self._client.chat(self._endpoint, [message], sampling=self._sampling, role="judge")
        except CallFailed as error:
            return Failure(str(error))
        value = read_score(answer.text)
        if value is None:
            return Failure(f"the judge's answer holds no score from 0 to 10: {answer.text[-80:]!r}")
        return Score(value / 10, {"grade": value}, answer.text, answer.cost_usd)

    async def aclose(self) -> None:
        """The client is shared and not ours to close."""
