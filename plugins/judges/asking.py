"""Asking a judge model: prompts, retries, and the capabilities that the endpoint turns out to have."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar

from ...core.errors import CallFailed, CassetteMiss, EndpointRefused, Rejected
from ...core.settings import check_template
from ...inference.completion import Completion, Message
from ..judge import Failure, JudgeContext, Turn
from .reading import refuses

T = TypeVar("T")

Use = Literal["auto", "always", "never"]
"""Whether a capability of the API is used: where it is there, or always, or never."""

TEMPERATURES = (0.0, 0.7)
"""Of the first samples of a question; further ones are taken at the last: at 0 they would all be the same."""

_STRIDE = 2**17
"""Between the sample indices of one attempt to judge a turn and of the next; repeats lie between them."""

_TOP_LOGPROBS = 20


class Asker:
    """A judge model as its judges ask it.

    Args:
        context: Context with the client and the endpoint of role ``judge``.
        max_tokens: Tokens that the judge may use; None for the endpoint's own.
        logprobs: Whether the alternatives' probabilities are asked for.
        structured: Whether the answer is held to a JSON schema, where one is given.
    """

    def __init__(
        self, context: JudgeContext, max_tokens: int | None, logprobs: Use = "never", structured: Use = "never"
    ) -> None:
        self._client = context.client
        self._endpoint = context.endpoint("judge")
        self._repeat = context.repeat
        self._sampling = replace(
            self._endpoint.sampling,
            temperature=0.0,
            max_tokens=self._endpoint.sampling.max_tokens if max_tokens is None else max_tokens,
        )
        self._wanted: dict[str, Use] = {"logprobs": logprobs, "structured": structured}
        self._using = {name: use != "never" for name, use in self._wanted.items()}
        self._first = asyncio.Lock()
        self._proven = "auto" not in (logprobs, structured)
        self._warned = False

    async def ask(
        self,
        prompt: str,
        read: Callable[[Completion], T | Failure],
        schema: Mapping[str, Any] | None = None,
        attempt: int = 0,
    ) -> T | Failure:
        """Asks, and asks once more at a higher temperature if the answer cannot be read.

        Each further attempt takes one new sample. The samples of earlier attempts are looked at first, because the cassette
        has those that could not be read and lacks those whose call failed: a run and its repetition then end with the same
        sample.

        Args:
            prompt: The whole question.
            read: Turns an answer into what is wanted, or says why it cannot.
            schema: JSON schema of the answer, for endpoints that can be held to one.
            attempt: How many earlier attempts failed, as in `Turn.attempt`.

        Returns:
            What ``read`` made of the answer, or the failure.

        Raises:
            DuologueError: What no retry can mend.
        """
        found: T | Failure = Failure("not asked")
        samples = len(TEMPERATURES) + attempt
        first = samples - 1 if attempt and self._client.cassette.mode == "off" else 0
        for sample in range(first, samples):
            try:
                answer = await self._answer(prompt, sample, schema)
            except CallFailed as error:
                return Failure(str(error))
            found = self._unusable(answer) or read(answer)
            if not isinstance(found, Failure):
                return found
        return found

    def _unusable(self, answer: Completion) -> Failure | None:
        if answer.finish_reason == "length":  # "Score: 1" may have been going to be "Score: 10"
            bound = self._sampling.max_tokens or "the server's bound on"
            if not answer.text:
                return Failure(f"the judge spent all {bound} tokens on reasoning and said nothing: raise `max_tokens`")
            return Failure(f"the judge's answer was cut at {bound} tokens: raise `max_tokens`")
        if answer.finish_reason == "content_filter":
            return Failure("the judge's answer was taken away by the endpoint's content filter")
        return None

    async def _answer(self, prompt: str, sample: int, schema: Mapping[str, Any] | None) -> Completion:
        """One answer. The first question shows whether the endpoint refuses what need not be used; the others wait for it."""
        if self._proven:
            return await self._call(prompt, sample, schema)
        async with self._first:
            if not self._proven:
                try:
                    answer = await self._call(prompt, sample, schema)
                except (EndpointRefused, CallFailed, CassetteMiss) as error:  # a replay misses what was refused
                    if not self._may_refuse(error) or not self._give_up():
                        raise
                    self._proven = True
                else:
                    self._proven = True
                    return answer
        return await self._call(prompt, sample, schema)

    @staticmethod
    def _may_refuse(error: Exception) -> bool:
        """Whether an error may come from an optional field; some servers answer 500 to unknown fields."""
        return not isinstance(error, CallFailed) or isinstance(error, Rejected) or error.status in (500, 501)

    def _give_up(self) -> bool:
        """Leaves out what need not be used; whether there was anything."""
        left = [name for name, use in self._wanted.items() if use == "auto" and self._using[name]]
        for name in left:
            self._using[name] = False
        return bool(left)

    async def _call(self, prompt: str, sample: int, schema: Mapping[str, Any] | None) -> Completion:
        further = max(sample - len(TEMPERATURES) + 1, 0)
        sampling = replace(self._sampling, temperature=TEMPERATURES[sample - further])
        if schema is not None and self._using["structured"]:
            form = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}
            sampling = replace(sampling, extra={**sampling.extra, "response_format": form})
        logprobs = self._using["logprobs"]
        message: Message = {"role": "user", "content": prompt}
        answer = await self._client.chat(
            self._endpoint,
            [message],
            sampling=sampling,
            sample_index=self._repeat * len(TEMPERATURES) + sample - further + further * _STRIDE,
            logprobs=logprobs,
            top_logprobs=_TOP_LOGPROBS if logprobs else 0,
            logprobs_required=self._wanted["logprobs"] == "always",
            role="judge",
        )
        # they are still asked for: a replay must meet the same requests
        if logprobs and not answer.logprobs and not self._warned:
            self._warned = True
            warnings.warn(
                f"`{self._endpoint.model}` gives no logprobs: judges read its grades from the text alone. "
                "Set the judge's `logprobs=never` to ask for none, or `always` to insist",
                stacklevel=2,
            )
        return answer


def dialogue(turn: Turn) -> str:
    """The dialogue before the reply, as judge models read it: without the system prompt, a line a message."""
    return "\n".join(f"{m['role']}: {m['content']}" for m in turn.messages if m["role"] != "system")


def unread(answer: Completion, wanted: str) -> Failure:
    """Builds the failure of an unreadable answer: what was expected, and a quotation."""
    if refuses(answer.text):
        return Failure(f"the judge refused: {answer.text[:80]!r}")
    return Failure(f"the judge's answer holds no {wanted}: {answer.text[-80:]!r}")


def check_prompt(prompt: str, names: tuple[str, ...]) -> None:
    """Refuses a prompt with unknown placeholders.

    Args:
        prompt: The user's prompt.
        names: Known placeholders.

    Raises:
        ValueError: If there is one, or a brace that belongs to none.
    """
    check_template("prompt", prompt, names)
