"""The token counts of an answer: the ``usage`` that a server reports for one request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from .lenient import parsed, whole

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
    """Token counts from a parsed ``usage`` of any shape; counts that are no whole numbers of at least 0 are left out."""
    if not isinstance(usage, Mapping):
        return None
    counts = {name: whole(usage.get(name)) for name in Counted.__struct_fields__}
    return Counted(**{name: n if n is not None and 0 <= n <= MOST_TOKENS else None for name, n in counts.items()})
