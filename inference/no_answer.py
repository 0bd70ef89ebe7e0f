"""The meaning of a body with status 200 that holds no answer: an error, a web page, or damage.

An error inside a 200 is treated as the status that it should have had. Only what may pass is worth asking again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from .endpoint import Endpoint
from .errors import CallFailed, EndpointRefused, InferenceError, NotAnAPI, Rejected, Unreadable
from .lenient import mend, parsed
from .refusals import Meaning, Refusal, read_refusal

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
        body: As the server sent it.
        endpoint: The endpoint that sent it.
        wanted: What should have come, such as ``chat completion``.
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
