"""Shared foundations: errors, settings, the terminal, files, and asyncio in a thread.

Nothing here knows endpoints, judges, dialogues or training.
"""

__all__: list[str] = []
