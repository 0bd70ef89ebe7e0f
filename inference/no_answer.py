"""What a body with status 200 is that holds no answer: an error, a web page, or damage.

An error inside a 200 is treated as the status that it should have had. Only what may pass is worth asking again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .endpoint import Endpoint
from .errors import CallFailed, EndpointRefused, InferenceError, NotAnAPI, Unreadable
from .lenient import mended, parsed, whole

_PAGE = re.compile(rb"\s*(?:<|(?!data:|event:)[a-z])", re.IGNORECASE)
"""How a web page or a plain text begins, which is neither JSON nor a stream of it."""

_PASSING_STATUSES = (408, 409, 425, 429)
_PASSING = re.compile(
    r"overload|rate.?limit|time.?out|timed out|temporar|unavailable|try again|retry|busy|capacity|internal|bad gateway",
    re.IGNORECASE,
)
_ACCOUNT = re.compile(
    r"quota|credit|billing|payment|balance|funds|api.?key|unauthori[sz]ed|authenticat|subscription", re.IGNORECASE
)
_ADDRESS = re.compile(
    r"model.?not.?found|(?:no|unknown|invalid) (?:such )?model|model .{0,80}(?:not exist|not found)|"
    r"\bnot found\b|no such (?:route|path|endpoint)|cannot post",
    re.IGNORECASE,
)
_CHECK_ADDRESS = "`base_url` must be the API's address, which ends in /v1 for most servers"


class ServerError(NamedTuple):
    """An error as a server words it inside a body; ``status`` is None where it names none."""

    status: int | None
    text: str


def no_answer(body: bytes, endpoint: Endpoint, wanted: str, reason: object, *, cut: bool = False) -> InferenceError:
    """The error of a 2xx answer that is none.

    Args:
        body: As the server sent it.
        endpoint: Who answered.
        wanted: What should have come, such as ``chat completion``.
        reason: Why it is not that.
        cut: Whether the server broke off while it answered, so that the same question may well be answered next time.

    Returns:
        `Unreadable` if asking again may help, `EndpointRefused` if only the user can mend it, else `CallFailed`.
    """
    where = f"{endpoint.base_url} (model `{endpoint.model}`)"
    try:
        found = server_error(parsed(body))
    except (ValueError, RecursionError):
        found = None
        if _PAGE.match(body):
            return NotAnAPI(f"{where} answered with no {wanted} but with {_start(body)}: {_CHECK_ADDRESS}")
    if found is None:
        return Unreadable(f"{endpoint.base_url} answered with no {wanted} ({reason}): {_start(body)}")
    status, text = found
    failed = f"{where} answered with an error inside a status of 200: {text}"
    if status in (401, 402) or _ACCOUNT.search(text):
        key = f"`{endpoint.api_key_env}`" if endpoint.api_key_env else "`api_key_env`"
        return EndpointRefused(f"{failed}. Check the account's credits and the key in {key}")
    if status == 404 or (status is None and _ADDRESS.search(text)):
        return EndpointRefused(f"{failed}. {_CHECK_ADDRESS}, and `model` a name that the server lists under /models")
    if status is None and (cut or _PASSING.search(text)):
        return Unreadable(failed)
    if status is not None and (status in _PASSING_STATUSES or status >= 500):
        return Unreadable(failed)
    return CallFailed(
        f"{failed}. If every call fails like this, check the account's credits, and that {_CHECK_ADDRESS}"
    )


def server_error(decoded: Any) -> ServerError | None:
    """The error that a parsed body holds in one of the usual shapes; None if it holds none."""
    for error in _candidates(decoded):
        if isinstance(error, str) and error.strip():
            return ServerError(None, _line(error))
        if isinstance(error, Mapping) and error:
            texts = (error.get(name) for name in ("message", "detail", "msg", "error_message", "error"))
            text = next((text for text in texts if isinstance(text, str) and text.strip()), None)
            codes = [error.get(name) for name in ("code", "status", "type")]
            status = next((n for n in map(whole, codes) if n is not None and 400 <= n < 600), None)
            names = [str(code) for code in codes if isinstance(code, str | int) and not isinstance(code, bool)]
            if text is not None or error is not decoded:
                return ServerError(
                    status, _line(" ".join([text or str(dict(error)), f"({', '.join(names)})" * bool(names)]))
                )
    return None


def _candidates(decoded: Any) -> Iterator[Any]:
    """Where a body may hold its error."""
    if isinstance(decoded, list):
        decoded = decoded[0] if decoded else None
    if not isinstance(decoded, Mapping):
        return
    yield decoded.get("error")
    errors = decoded.get("errors")
    yield errors[0] if isinstance(errors, list) and errors else errors
    choices = decoded.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        yield choices[0].get("error")
    elif not {"choices", "data", "results"} & set(decoded):
        detail = decoded.get("detail")
        yield detail[0] if isinstance(detail, list) and detail else detail
        yield decoded


def _line(text: str) -> str:
    return " ".join(mended(text).split())[:200]


def _start(body: bytes) -> str:
    return repr(body[:80].decode("utf-8", "replace"))
