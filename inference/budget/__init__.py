"""Limits on requests, tokens and money, and their usage.

How fast requests may be sent is in `inference.transport`.
"""

__all__: list[str] = []
