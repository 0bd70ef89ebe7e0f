"""Prices in a bargain, as text: read by the judge and by both sides of the rule-played dialogue."""

from __future__ import annotations

import re

_PRICE = re.compile(r"\$\s?(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d{1,2}))?(?!\d|,\d)")
_DEAL = re.compile(r"\bdeal\s+at\s+(?=\$)", re.IGNORECASE)


def prices(text: str) -> list[float]:
    """The sums in dollars that a text names, in order: ``$85``, ``$1,200``, ``$9.50``."""
    return [float(f"{whole.replace(',', '')}.{cents or 0}") for whole, cents in _PRICE.findall(text)]


def closed_at(text: str) -> float | None:
    """The price of a ``Deal at $N``, which closes the bargain; None if the text closes nothing."""
    found = _DEAL.search(text)
    return next(iter(prices(text[found.end() :])), None) if found else None
