"""One answer of a chat model, and how it is read from the bytes of an OpenAI-compatible server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypedDict

import msgspec

from .endpoint import Endpoint
from .errors import EndpointRefused, Unreadable


class Message(TypedDict):
    """One message of a dialogue, as the API takes it."""

    role: str
    content: str


class TopLogprob(msgspec.Struct, frozen=True, gc=False):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """One sampled token with its natural-log probability and, where asked for, the likeliest alternatives."""

    token: str
    logprob: float
    top_logprobs: tuple[TopLogprob, ...] = ()


class Completion(msgspec.Struct, frozen=True, gc=False):
    """One sampled answer.

    Attributes:
        text: What the assistant says, without its reasoning.
        reasoning: Thought that came apart (``reasoning_content``) or inside ``<think>`` tags; empty if none.
        finish_reason: ``stop`` for an answer that ended by itself, ``length`` for one that was cut, or what the
            server says.
        logprobs: One entry per token, or None where not asked for.
        prompt_tokens: Tokens billed as input.
        completion_tokens: Tokens billed as output.
        latency_s: Seconds that the request took when it was made.
        cost_usd: By the endpoint's price; also for an answer that was reused, which costs nothing again.
        reused: Whether it came from the cassette.
    """

    text: str
    reasoning: str = ""
    finish_reason: str = "stop"
    logprobs: tuple[TokenLogprob, ...] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    cost_usd: float = 0.0
    reused: bool = False


class _Logprobs(msgspec.Struct, gc=False):
    content: tuple[TokenLogprob, ...] | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Body(msgspec.Struct, gc=False):
    choices: list[_Choice]
    usage: _Usage | None = None


_DECODER = msgspec.json.Decoder(_Body)
_SILENT = ("length", "content_filter", "tool_calls")
"""How an answer can end without saying anything: cut in thought, taken away by a filter, or with a call of a tool."""

_THINK = re.compile(r"^\s*<think>(.*?)(?:</think>|\Z)\s*", re.DOTALL)


def read_completion(
    body: bytes,
    endpoint: Endpoint,
    *,
    logprobs: bool,
    latency_s: float,
    reused: bool = False,
    required: bool = True,
) -> Completion:
    """Decodes the body of ``/chat/completions``.

    Args:
        body: JSON as the server sent it.
        endpoint: For the price and for error messages.
        logprobs: Whether token logprobs were asked for.
        latency_s: Seconds that the request took.
        reused: Whether the body came from the cassette.
        required: Whether logprobs that were asked for must be there.

    Raises:
        Unreadable: If the body is no chat completion, or one that says nothing although it was not cut or filtered.
        EndpointRefused: If logprobs were asked for and the model gives none.
    """
    try:
        decoded = _DECODER.decode(body)
        choice = decoded.choices[0]
    except (msgspec.MsgspecError, IndexError) as error:
        start = body[:80].decode("utf-8", "replace")
        raise Unreadable(f"{endpoint.base_url} answered with no chat completion ({error}): {start!r}") from error
    message = choice.message
    says = message.content is not None or message.refusal or message.tool_calls
    if not says and choice.finish_reason not in _SILENT:
        raise Unreadable(f"{endpoint.base_url} answered with a chat completion without content")
    tokens = choice.logprobs.content if choice.logprobs else None
    if logprobs and required and tokens is None:
        raise EndpointRefused(
            f"model `{endpoint.model}` at {endpoint.base_url} returned no logprobs, which were asked for. "
            "Set `interface.logprobs=false`, or choose a model whose API gives them"
        )
    text, reasoning = _parts(choice.message)
    usage = decoded.usage or _Usage()
    return Completion(
        text=text.strip(),
        reasoning=reasoning,
        finish_reason=choice.finish_reason or "stop",
        logprobs=tokens if logprobs else None,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        latency_s=latency_s,
        cost_usd=endpoint.price.cost_usd(usage.prompt_tokens, usage.completion_tokens),
        reused=reused,
    )


def _parts(message: _Message) -> tuple[str, str]:
    """What the assistant says, and its reasoning, which comes apart or inside ``<think>`` tags."""
    thought = _THINK.match(message.content or "")
    text = (message.content or message.refusal or "")[thought.end() if thought else 0 :]
    return text, message.reasoning_content or message.reasoning or (thought[1].strip() if thought else "")


class _Embedding(msgspec.Struct, gc=False):
    index: int
    embedding: list[float]


class _Embeddings(msgspec.Struct, gc=False):
    data: list[_Embedding]


_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)


def read_embeddings(body: bytes, endpoint: Endpoint, texts: Sequence[str]) -> list[list[float]]:
    """Decodes the body of ``/embeddings`` into one vector per text, in order.

    Raises:
        Unreadable: If the body does not hold exactly one embedding per text, all of one length.
    """
    try:
        decoded = _EMBEDDINGS.decode(body)
    except msgspec.MsgspecError as error:
        start = body[:80].decode("utf-8", "replace")
        raise Unreadable(f"{endpoint.base_url} answered with no embeddings ({error}): {start!r}") from error
    vectors = {item.index: item.embedding for item in decoded.data}
    if sorted(vectors) != list(range(len(texts))):
        raise Unreadable(f"{endpoint.base_url} returned {len(vectors)} embeddings for {len(texts)} texts")
    if len({len(vector) for vector in vectors.values()}) > 1:
        raise Unreadable(f"{endpoint.base_url} returned embeddings of different lengths")
    return [vectors[i] for i in range(len(texts))]
