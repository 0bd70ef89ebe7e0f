"""The body of a chat completion: decoded strictly where it follows OpenAI's documentation, leniently elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Annotated, Any

import msgspec

_LOWEST_LOGPROB = -9999.0
"""In place of minus infinity, which JSON does not have; vLLM's convention."""

_TEXT_KEYS = ("text", "content", "value", "thinking", "reasoning", "summary")
"""Where an object that stands for a text holds it."""

_NAME_KEYS = ("type", "reason", "name", "value")
"""Where an object that stands for a name holds it."""


def parsed(body: bytes) -> Any:
    """Parses JSON, with NaN, infinities, lone surrogates and a byte order mark, which strict decoders refuse.

    Args:
        body: JSON as bytes.

    Returns:
        The value.

    Raises:
        ValueError: If it is no JSON, is not UTF-8, or is nested too deeply.
    """
    try:
        return json.loads(body.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def mended(text: str) -> str:
    """Replaces lone surrogates, which UTF-8 cannot hold, by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def mend(value: Any) -> Any:
    """JSON values with every text `mended`."""
    match value:
        case str():
            return mended(value)
        case dict():
            return {mend(key): mend(entry) for key, entry in value.items()}
        case list() | tuple():
            return [mend(entry) for entry in value]
        case _:
            return value


def whole(value: Any) -> int | None:
    """A whole number, also as ``7.0`` or ``"7"``; None for anything else."""
    match value:
        case bool():
            return None
        case int():
            return value
        case float():
            return int(value) if value.is_integer() else None
        case str() if value.isascii() and value.isdigit() and len(value) < 20:
            return int(value)
        case _:
            return None


def logprob(value: Any) -> float | None:
    """A log probability; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    if number == -math.inf:
        return _LOWEST_LOGPROB
    return number if math.isfinite(number) else None


def text_of(value: Any) -> str:
    """The text of a value: itself, that of its parts, or that which an object holds; empty if there is none."""
    match value:
        case str():
            return mended(value)
        case list():
            return "".join(map(text_of, value))
        case dict():
            return next((text_of(value[key]) for key in _TEXT_KEYS if value.get(key)), "")
        case _:
            return ""


def name_of(value: Any) -> str | None:
    """A name: itself, or that which an object holds; None if there is none."""
    match value:
        case str():
            return mended(value)
        case dict():
            return next((name_of(value[key]) for key in _NAME_KEYS if isinstance(value.get(key), str)), None)
        case _:
            return None


MOST_TOKENS = 2**40
"""No answer has more; a larger count is none."""

Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class Counted(msgspec.Struct, gc=False):
    """Token counts of one request as the server reports them; None where it reports none."""

    total_tokens: Count | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None

    @property
    def billed(self) -> tuple[int, int] | None:
        """Prompt and completion tokens; None where the counts do not determine the prompt's.

        What the total has beyond both is counted as completion: some servers report the tokens of reasoning only there.
        """
        total, prompt, completion = self.total_tokens, self.prompt_tokens, self.completion_tokens
        if prompt is None:
            return None if total is None else (max(total - (completion or 0), 0), completion or 0)
        return prompt, max(completion or 0, (total or 0) - prompt)

    @property
    def total(self) -> int | None:
        """All tokens; None where the counts do not determine them."""
        billed = self.billed
        return None if billed is None else sum(billed)


class _Billed(msgspec.Struct, gc=False):
    usage: Counted | None = None


_BILLED = msgspec.json.Decoder(_Billed)


def read_usage(body: bytes) -> Counted | None:
    """Reads the token counts of an answer of any kind; None if it has none."""
    try:
        return _BILLED.decode(body).usage
    except (ValueError, RecursionError):
        pass
    try:
        decoded = parsed(body)
    except ValueError:
        return None
    return as_counted(decoded.get("usage")) if isinstance(decoded, dict) else None


def as_counted(usage: Any) -> Counted | None:
    """Reads token counts from a ``usage`` of any shape; counts that are not whole numbers of at least 0 are dropped."""
    if not isinstance(usage, Mapping):
        return None
    counts = {name: whole(usage.get(name)) for name in Counted.__struct_fields__}
    return Counted(**{name: n if n is not None and 0 <= n <= MOST_TOKENS else None for name, n in counts.items()})


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
    """The model's message."""

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
        body: Body as the server sent it.
        logprobs: Whether logprobs were asked for.

    Returns:
        The decoded body; what the server left out is None.

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
