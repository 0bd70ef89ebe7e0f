"""Request parameters that an endpoint does not take, learnt from its refusals.

Models differ in the parameters that they take (`temperature`, `max_tokens`, `logprobs` …), and no list of models stays true.
A refusal names the parameter; from then on requests to this endpoint go without it, or with its successor.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..refusals import Meaning, Refusal

_SUCCESSORS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""Two names of one bound. It is never left out: it is what keeps answers, and budgets, bounded."""

_OPTIONAL = (
    "temperature",
    "top_p",
    "seed",
    "stop",
    "n",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "parallel_tool_calls",
)
"""What may be left out: the answer is of the same kind without it."""

MOST_CHANGES = len(_OPTIONAL) + 1
"""Changes that one endpoint may need. For each at most as many requests are refused as may be under way at once."""

_STATUSES = (400, 403, 404, 405, 422, 500, 501)

_UNSUPPORTED = re.compile(
    r"unsupported|not support|n't support|unknown|unrecogni[sz]ed|unexpected|extra (?:fields|inputs)|extra_forbidden|"
    r"extraneous|not permitted|not allowed|not available|not implemented|not enabled|disabled|deprecated|no longer|"
    r"cannot find field|cannot (?:both )?be|can't be|incompatible|not compatible|only (?:the )?default|may only be|"
    r"only \S+ is (?:supported|allowed)|not (?:a )?valid (?:parameter|argument|field)",
    re.IGNORECASE,
)
_TOO_MANY = re.compile(r"max(?:imum)? allowed|above maximum|less than or equal|at most|between 0 and|<=", re.IGNORECASE)
"""How a server says that it gives fewer alternatives than were asked for."""

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_QUOTES = "'\"`[("


@dataclass
class Parameters:
    """The changes to requests that one endpoint needs. Used on one event loop only.

    Attributes:
        changes: A parameter to the name under which it is sent instead; None if it is left out.
        refused: Requests that were refused for a parameter.
    """

    changes: dict[str, str | None] = field(default_factory=dict)
    refused: int = 0
    _learning: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    @property
    def learning(self) -> asyncio.Lock:
        """Held by the request that finds out what else is refused; the others wait for it."""
        return self._learning

    def adapt(self, body: Mapping[str, Any], keep: Collection[str] = ()) -> Mapping[str, Any]:
        """Adapts a request to the parameters that the endpoint takes.

        Args:
            body: The request.
            keep: Parameters that are not left out.

        Returns:
            The adapted request.
        """
        if not self.changes or not any(name in body for name in self.changes):
            return body
        adapted = {}
        for name, value in body.items():
            sent = self.changes.get(name, name)
            if sent is None and name in keep:
                sent = name
            if sent is not None:
                adapted[sent] = value
        if "logprobs" not in adapted:
            adapted.pop("top_logprobs", None)
        return adapted

    def learn(self, refusal: Refusal, sent: Mapping[str, Any], keep: Collection[str] = ()) -> bool:
        """Learns an unsupported parameter from a refusal.

        Args:
            refusal: The server's refusal.
            sent: The body that was refused.
            keep: Parameters that must not be left out.

        Returns:
            Whether the request can be sent again without it.
        """
        name = refused_parameter(refusal, sent)
        if name is None:
            return False
        successor = _SUCCESSORS.get(name)
        if successor is not None:
            if successor in self.changes or successor in sent:
                return False
        elif name in keep:
            return False
        self.changes[name] = successor
        return True

    def summary(self) -> dict[str, Any]:
        """The changes as `summary.json` and `doctor` show them."""
        renamed = {name: sent for name, sent in self.changes.items() if sent is not None}
        left_out = sorted(name for name, sent in self.changes.items() if sent is None)
        return {"left_out": left_out, "renamed": renamed, "refused_requests": self.refused}

    def __str__(self) -> str:
        renamed = [f"`{name}` is sent as `{sent}`" for name, sent in self.changes.items() if sent is not None]
        left_out = [f"`{name}` is left out" for name, sent in self.changes.items() if sent is None]
        return ", ".join([*renamed, *left_out])


def refused_parameter(refusal: Refusal, sent: Mapping[str, Any]) -> str | None:
    """Finds the parameter that a refusal names as unsupported.

    Args:
        refusal: The server's refusal.
        sent: The body that was refused.

    Returns:
        Its name; None if the refusal names none that can be changed.
    """
    if refusal.status not in _STATUSES or refusal.meaning in (Meaning.ACCOUNT, Meaning.PROMPT):
        return None
    known = {_plain(name): name for name in sent if name in _OPTIONAL or name in _SUCCESSORS}
    phrases = [match.span() for match in _UNSUPPORTED.finditer(refusal.words)]
    if "top_logprobs" in sent and not phrases and "logprobs" in refusal.words and _TOO_MANY.search(refusal.words):
        return "top_logprobs"
    if not phrases:
        return None
    for named in refusal.parameters:
        if (name := known.get(_plain(named))) is not None:
            return name
    if refusal.parameters and "body" not in refusal.parameters:
        return None  # it names something else
    found = [
        (min(max(start - after, before - end, 0) for before, after in phrases), start, known[plain])
        for start, end, plain in _mentions(refusal.words)
        if plain in known
    ]
    return min(found)[2] if found else None


def _mentions(text: str) -> Iterator[tuple[int, int, str]]:
    """Finds names of parameters in a text; ordinary words like `stop` count only in quotes."""
    for match in _IDENTIFIER.finditer(text):
        start, end = match.span()
        quoted = text[start - 1 : start] in tuple(_QUOTES) and start > 0
        introduced = text[:start].lower().rstrip(" :").endswith(("parameter", "parameters", "argument", "field"))
        if quoted or introduced or len(match[0]) > 4:
            yield start, end, _plain(match[0])


def _plain(name: str) -> str:
    """A name without its style: ``presencePenalty`` is ``presence_penalty``."""
    return name.rpartition(".")[2].replace("_", "").lower()
