"""Pairwise evaluation: contestants, matches, verdicts in both orders, win rates with error bars."""

from .stats.win_rates import WinRate, clustered_standard_error, wilson, win_rate

__all__ = ["WinRate", "clustered_standard_error", "wilson", "win_rate"]
