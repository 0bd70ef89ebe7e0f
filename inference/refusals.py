"""The meaning of refusals, and of bodies with status 200 that hold no answer.

Error bodies have no common form: `error` is an object, a text or absent; the whole is a list or a page of HTML; the cause lies
in `detail`, `metadata.raw` or `innererror`. All strings under the names that servers use are collected, and read together.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from http import HTTPStatus
from typing import Any

import msgspec

from ..core.errors import CallFailed, EndpointRefused, InferenceError, NotAnAPI, Rejected, Unreadable
from .answers import mend, parsed
from .endpoint import Endpoint

_TEXTS = ("message", "msg", "error", "detail", "error_message", "error_description", "description", "title", "raw")
_CODES = ("code", "type", "status", "reason", "reasons", "error_type", "error_code")
_PARAMETERS = ("param", "parameter", "loc", "field")
_INNER = ("error", "errors", "detail", "details", "message", "metadata", "innererror", "raw")
"""Names under which error bodies hold their words, their codes, the refused parameter, and further objects."""

_DEEPEST = 6
_LONGEST = 300  # characters of a message that are shown


class Meaning(Enum):
    """The caller's consequence of a refusal."""

    ACCOUNT = "no credit, no quota or a closed account"
    KEY = "a wrong key, or one without permission"
    ADDRESS = "no such address or model"
    PROMPT = "this prompt: too long, or refused for its content"
    UNCLEAR = "the server does not say whose fault it is"


_MEANINGS: tuple[tuple[Meaning, re.Pattern[str]], ...] = tuple(
    (meaning, re.compile(pattern, re.IGNORECASE))
    for meaning, pattern in (
        (
            Meaning.ACCOUNT,
            (
                r"insufficient[ _](?:quota|credits?|balance|funds)|billing_|budget_exceeded|budget has been exceeded|arrear|"
                r"credit balance is too low|out of credits|all available credits|spending limit|more credits|account[ _](?:deactivated|suspended|disabled)|"
                r"payment[ _]required|account is (?:not active|in good standing|suspended|deactivated)|in good standing"
            ),
        ),
        (
            Meaning.PROMPT,
            (
                r"context[ _](?:length|window|size)|exceed_context|string_above_max_length|prompt is too long|"
                r"(?:prompt|input|inputs|request|message) (?:is |are )?too (?:long|large)|too many (?:input )?tokens|"
                r"(?:tokens|length) .{0,60}(?:exceeds?|must be <=)|exceeds? .{0,40}(?:token|context)|"
                r"content[ _](?:filter|policy|management)|responsibleai|invalid_prompt|usage polic|flagged|"
                r"data_inspection|inappropriate|prohibited_content|safety|moderation"
            ),
        ),
        (
            Meaning.KEY,
            (
                r"invalid_api_key|api_key_invalid|unauthenticated|authentication_error|invalid_authentication|"
                r"(?:incorrect|invalid|missing|no|wrong) api[ _-]?key|api[ _-]?key (?:not valid|is invalid|provided is)"
            ),
        ),
        (
            Meaning.ADDRESS,
            (
                r"model_not_found|unknown_model|deploymentnotfound|(?:invalid|unknown|no such) model\b|"
                r"model .{0,80}(?:not exist|not found|do not have access|not available)|not have access to model"
            ),
        ),
    )
)

_FORBIDDEN = re.compile(
    r"key|token|permission|authori[sz]|authenticat|access|forbidden|denied|country|region", re.IGNORECASE
)
"""Words of a 403 that concern whoever asks; others concern what was asked."""

_NOT_THE_PROMPT = (401, 404, 405, 429, 503, 529)


@dataclass(frozen=True)
class Refusal:
    """An answer with an error status.

    Attributes:
        status: The HTTP status.
        text: The server's words on one line; the status's name if there are none.
        codes: Its codes and types, in lower case.
        parameters: The request's fields that it names as the cause.
    """

    status: int
    text: str
    codes: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Text and codes together, to search in."""
        return " ".join((*self.codes, self.text))

    @property
    def meaning(self) -> Meaning:
        """The consequence for the caller."""
        if self.status == 402:
            return Meaning.ACCOUNT
        for meaning, pattern in _MEANINGS:
            if pattern.search(self.words) and not (meaning is Meaning.PROMPT and self.status in _NOT_THE_PROMPT):
                return meaning
        if self.status == 401 or (self.status == 403 and _FORBIDDEN.search(self.words)):
            return Meaning.KEY
        if self.status in (404, 405) or "model" in self.parameters:
            return Meaning.ADDRESS
        return Meaning.UNCLEAR

    def __str__(self) -> str:
        return f"{self.status}: {self.text}"


def read_refusal(status: int, body: bytes) -> Refusal:
    """Reads the body of an answer with an error status.

    Args:
        status: The HTTP status.
        body: Body as the server sent it.

    Returns:
        The status with the server's message and its meaning.
    """
    try:
        decoded = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return Refusal(status, _line([_plain(body)]) or _phrase(status))
    texts, codes, parameters = (list(dict.fromkeys(found)) for found in _collect(decoded))
    text = _line(texts) or _line([body.decode("utf-8", "replace")] if decoded else []) or _phrase(status)
    return Refusal(status, text, tuple(code.lower() for code in codes), tuple(parameters))


def _collect(decoded: Any) -> tuple[list[str], list[str], list[str]]:
    """The texts, codes and parameters of a parsed body."""
    found: tuple[list[str], list[str], list[str]] = [], [], []
    if isinstance(decoded, str):
        found[0].append(decoded)
    for entry in _objects(decoded, 0):
        for names, values in zip((_TEXTS, _CODES, _PARAMETERS), found, strict=True):
            for name in names:
                values.extend(_strings(entry.get(name), last=name == "loc"))
    return found


def _objects(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """The objects of an error body, the outer ones first."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):  # an error that a gateway quotes
        try:
            value = msgspec.json.decode(value)
        except (ValueError, RecursionError):
            return
    if depth > _DEEPEST:
        return
    if isinstance(value, list):
        for item in value[:8]:
            yield from _objects(item, depth + 1)
    elif isinstance(value, Mapping):
        yield value
        for name in _INNER:
            yield from _objects(value.get(name), depth + 1)


def _strings(value: Any, *, last: bool) -> Iterator[str]:
    """The strings of a field: itself, or those of a list; of a path only the last."""
    if last and isinstance(value, list):
        value = [item for item in value if isinstance(item, str)][-1:]
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int) and not isinstance(item, bool):
            item = str(item)
        if isinstance(item, str) and item.strip() and item not in ("None", "null") and item.lstrip()[:1] not in "{[":
            yield item.strip()


def _plain(body: bytes) -> str:
    """The words of a body that is no JSON: a page's title, else its text without tags."""
    text = body[:20_000].decode("utf-8", "replace")
    if not text.lstrip().startswith("<"):
        return text
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    shown = (
        title[1] if title else re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
    )
    return html.unescape(shown)


def _line(texts: Iterable[str]) -> str:
    joined = " ".join("; ".join(texts).split())
    printable = "".join(character if character.isprintable() else " " for character in joined)
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]}…"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


_PAGE = re.compile(rb"\s*(?:<|(?!data:|event:)[a-z])", re.IGNORECASE)
"""The beginning of a web page or of a plain text, which is neither JSON nor a stream of it."""

_PASSING_STATUSES = (408, 409, 425, 429)
_PASSING = re.compile(
    r"overload|rate.?limit|time.?out|timed out|temporar|unavailable|try again|retry|busy|capacity|internal|bad gateway",
    re.IGNORECASE,
)
_ADDRESS = "`base_url` must be the API's address, which ends in /v1 for most servers"


def no_answer(body: bytes, endpoint: Endpoint, wanted: str, reason: object, *, cut: bool = False) -> InferenceError:
    """The error of a 2xx answer that is none.

    Args:
        body: Body as the server sent it.
        endpoint: The endpoint that sent it.
        wanted: The expected kind of answer, for example ``chat completion``.
        reason: Why it is not that.
        cut: Whether the server broke off while it answered, so that the same question may well be answered next time.

    Returns:
        `Unreadable` if asking again may help, `EndpointRefused` if only the user can mend it, else `CallFailed`.
    """
    where = f"{endpoint.base_url} (model `{endpoint.model}`)"
    start = repr(body[:80].decode("utf-8", "replace"))
    try:
        found = error_inside(parsed(body))
    except (ValueError, RecursionError):
        found = None
        if _PAGE.match(body):
            return NotAnAPI(f"{where} answered with no {wanted} but with {start}: {_ADDRESS}")
    if found is None:
        return Unreadable(f"{endpoint.base_url} answered with no {wanted} ({reason}): {start}")
    failed = f"{where} answered with an error inside a status of 200 ({found.text if found.status == 200 else found})"
    match found.meaning:
        case Meaning.ACCOUNT:
            return EndpointRefused(f"{failed}: check the account's credits and billing")
        case Meaning.KEY:
            cure = f"check the key in `{endpoint.api_key_env}`" if endpoint.api_key_env else "set `api_key_env`"
            return EndpointRefused(f"{failed}: {cure}")
        case Meaning.ADDRESS:
            return EndpointRefused(f"{failed}: {_ADDRESS}, and `model` a name that the server lists under /models")
        case Meaning.PROMPT:
            return Rejected(failed)
        case _ if _may_pass(found, cut=cut):
            return Unreadable(failed)
        case _:
            return CallFailed(f"{failed}. If every call fails so, check the account's credits, and that {_ADDRESS}")


def _may_pass(found: Refusal, *, cut: bool) -> bool:
    if found.status == 200:
        return cut or bool(_PASSING.search(found.words))
    return found.status in _PASSING_STATUSES or found.status >= 500


def error_inside(decoded: Any) -> Refusal | None:
    """The error that a parsed body holds; None if it holds none. Its status is 200 if it names none."""
    if isinstance(decoded, list):
        decoded = decoded[0] if decoded else None
    if not isinstance(decoded, Mapping):
        return None
    choices = decoded.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    error = decoded.get("error") or decoded.get("errors") or choice.get("error")
    if not error:
        if {"choices", "data", "results"} & decoded.keys() or not {"detail", "message", "msg"} & decoded.keys():
            return None
        error = decoded
    refusal = read_refusal(200, msgspec.json.encode(mend({"error": error})))
    codes = (int(code) for code in refusal.codes if code.isascii() and code.isdigit() and len(code) == 3)
    return replace(refusal, status=next((code for code in codes if 400 <= code < 600), 200))
