"""The body of a chat completion: decoded strictly where it is as OpenAI documents it, else read leniently.

Well-formed answers never pay for the lenient reader. It reads what servers send in other shapes: ``content`` as a list of
parts, ``reasoning`` or ``finish_reason`` as objects, token counts as ``7.0`` or null, alternatives without a probability.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import msgspec

from .counted import Counted, as_counted
from .lenient import logprob, mend, mended, name_of, parsed, text_of

_THOUGHTS = ("thinking", "reasoning", "thought")
"""Types of content parts that are not said."""


class TopLogprob(msgspec.Struct, frozen=True, gc=False):
    """One of the likeliest tokens at a position."""

    token: str
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """One sampled token with its natural-log probability and, where asked for, the likeliest alternatives."""

    token: str
    logprob: float
    top_logprobs: tuple[TopLogprob, ...] = ()


class Logprobs(msgspec.Struct, gc=False):
    """``content`` is None where there are none, and empty where none of them can be used."""

    content: tuple[TokenLogprob, ...] | None = None


class AnswerMessage(msgspec.Struct, gc=False):
    """What the model wrote."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class Choice(msgspec.Struct, gc=False):
    """One sample."""

    message: AnswerMessage
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    error: Any = None


class ChatBody(msgspec.Struct, gc=False):
    """The answer to a chat request."""

    choices: list[Choice]
    usage: Counted | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(ChatBody)


def decode_chat(body: bytes, *, logprobs: bool) -> ChatBody:
    """Decodes the body of ``/chat/completions``.

    Args:
        body: As the server sent it.
        logprobs: Whether logprobs were asked for.

    Raises:
        ValueError: If it is no chat completion.
    """
    try:
        decoded = _DECODER.decode(body)
    except (ValueError, RecursionError):
        pass
    else:
        if not decoded.choices:
            raise ValueError("it has no `choices`")
        found = decoded.choices[0].logprobs
        if not logprobs or found is None or found.content is not None:
            return decoded
    try:
        return _chat(parsed(body))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _chat(body: Any) -> ChatBody:
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise ValueError("it has no `choices`")
    found = Choice(_message(choice), name_of(choice.get("finish_reason")), _logprobs(choice.get("logprobs")))
    found.error = choice.get("error")
    return ChatBody([found], as_counted(body.get("usage")), body.get("error"))


def _message(choice: dict[str, Any]) -> AnswerMessage:
    message = choice.get("message")
    if message is None and isinstance(choice.get("text"), str):
        return AnswerMessage(mended(choice["text"]))
    if not isinstance(message, dict):
        raise ValueError("its choice has no `message`")
    content, thoughts = message.get("content"), ""
    if isinstance(content, list):
        thoughts = text_of([part for part in content if _is_thought(part)])
        content = [part for part in content if not _is_thought(part)]
    elif content is not None and not isinstance(content, str | dict):
        raise ValueError(f"its `content` is {content!r:.40}")
    calls = message.get("tool_calls")
    reasoning = (text_of(message.get(name)) for name in ("reasoning_content", "reasoning"))
    return AnswerMessage(
        None if content is None else text_of(content),
        next(filter(None, reasoning), thoughts) or None,
        refusal=text_of(message.get("refusal")) or None,
        tool_calls=[msgspec.Raw(msgspec.json.encode(mend(call))) for call in calls]
        if isinstance(calls, list)
        else None,
    )


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _THOUGHTS


def _logprobs(found: Any) -> Logprobs | None:
    """The tokens' logprobs: in full, empty where some are unusable, None where there are none at all."""
    if not isinstance(found, dict):
        return None
    content = found.get("content")
    entries = content if isinstance(content, list) else list(_legacy(found))
    tokens = [_token(entry) for entry in entries]
    if not any(tokens) and (content is None or entries):
        return Logprobs(None)
    return Logprobs(tuple(filter(None, tokens)) if all(tokens) else ())


def _legacy(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The entries of the older form, which has a list of tokens beside one of probabilities."""
    tokens, values, tops = (found.get(name) or [] for name in ("tokens", "token_logprobs", "top_logprobs"))
    if isinstance(tokens, list) and isinstance(values, list) and len(tokens) == len(values):
        for token, value, top in zip_longest(tokens, values, tops if isinstance(tops, list) else []):
            yield {"token": token, "logprob": value, "top_logprobs": top}


def _token(entry: Any) -> TokenLogprob | None:
    found = _alternative(entry)
    if found is None:
        return None
    tops = entry.get("top_logprobs")
    if isinstance(tops, dict):
        tops = [{"token": token, "logprob": value} for token, value in tops.items()]
    alternatives = map(_alternative, tops if isinstance(tops, list) else ())
    return TokenLogprob(found.token, found.logprob, tuple(filter(None, alternatives)))


def _alternative(entry: Any) -> TopLogprob | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
        return None
    value = logprob(entry.get("logprob"))
    return None if value is None else TopLogprob(mended(entry["token"]), value)
