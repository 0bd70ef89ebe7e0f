"""The results of an evaluation for people: leaderboard, page, tables, plots.

The arithmetic is in `evaluation.stats`.
"""

__all__: list[str] = []
