"""One answer of a chat model, and how it is read from the bytes of an OpenAI-compatible server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypedDict

import msgspec

from ..core.errors import EndpointRefused, Unreadable
from .answers import AnswerMessage, Counted, TokenLogprob, TopLogprob, decode_chat
from .endpoint import Endpoint
from .refusals import no_answer

__all__ = ["Completion", "Message", "TokenLogprob", "TopLogprob", "read_completion", "read_embeddings"]


class Message(TypedDict):
    """One message of a dialogue, as the API takes it."""

    role: str
    content: str


class Completion(msgspec.Struct, frozen=True, gc=False):
    """One sampled answer.

    Attributes:
        text: The assistant's text without its reasoning.
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


_FAILED = "error"
"""How an answer ends that its server gave up."""

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
        endpoint: Endpoint, for its price and for error messages.
        logprobs: Whether token logprobs were asked for.
        latency_s: Seconds that the request took.
        reused: Whether the body came from the cassette.
        required: Whether logprobs that were asked for must be there.

    Returns:
        The answer.

    Raises:
        Unreadable: If the body is no chat completion, or one that says nothing although it was not cut or filtered.
        CallFailed: If it holds an error instead.
        EndpointRefused: If that error concerns the account, the key or the model; or if logprobs were asked for and the
            model gives none.
    """
    try:
        decoded = decode_chat(body, logprobs=logprobs)
    except ValueError as error:
        raise no_answer(body, endpoint, "chat completion", error) from error
    choice = decoded.choices[0]
    message = choice.message
    if choice.finish_reason == _FAILED or ((decoded.error or choice.error) and not message.content):
        raise no_answer(body, endpoint, "chat completion", "the server gave up while it answered", cut=True)
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
    usage = decoded.usage or Counted()
    prompt_tokens, completion_tokens = usage.billed or (0, usage.completion_tokens or 0)
    return Completion(
        text=text.strip(),
        reasoning=reasoning,
        finish_reason=choice.finish_reason or "stop",
        logprobs=tokens if logprobs else None,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        latency_s=latency_s,
        cost_usd=endpoint.price.cost_usd(prompt_tokens, completion_tokens),
        reused=reused,
    )


def _parts(message: AnswerMessage) -> tuple[str, str]:
    """Separates the assistant's text from its reasoning, which comes in a field of its own or in ``<think>`` tags."""
    thought = _THINK.match(message.content or "")
    text = (message.content or message.refusal or "")[thought.end() if thought else 0 :]
    return text, message.reasoning_content or message.reasoning or (thought[1].strip() if thought else "")


class _Embedding(msgspec.Struct, gc=False):
    embedding: list[float]
    index: int | None = None


class _Embeddings(msgspec.Struct, gc=False):
    data: list[_Embedding]


_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)


def read_embeddings(body: bytes, texts: Sequence[str]) -> list[list[float]]:
    """Decodes the body of ``/embeddings`` into one vector per text, in order.

    Entries without an index take the places that are left, in their order: some servers leave out an index of 0, others all.

    Args:
        body: JSON as the server sent it.
        texts: The texts that were sent.

    Returns:
        One vector per text.

    Raises:
        ValueError: If the body does not hold exactly one embedding per text, all of one length.
    """
    items = _EMBEDDINGS.decode(body).data
    named = {item.index for item in items}
    left = iter([place for place in range(len(items)) if place not in named])
    vectors = {next(left, -1) if item.index is None else item.index: item.embedding for item in items}
    if len(items) != len(texts) or sorted(vectors) != list(range(len(texts))):
        raise ValueError(f"there are {len(vectors)} embeddings for {len(texts)} texts")
    if len({len(vector) for vector in vectors.values()}) > 1:
        raise ValueError("the embeddings have different lengths")
    return [vectors[i] for i in range(len(texts))]
