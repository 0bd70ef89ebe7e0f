"""Limits on requests, tokens and money, and what was used.

How fast requests may be sent is in `inference.transport`.
"""

__all__: list[str] = []
