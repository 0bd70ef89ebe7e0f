"""Statistics of evaluations: pure functions over arrays. Nothing here reads a file or asks a model."""

from .win_rates import WinRate, clustered_standard_error, wilson, win_rate

__all__ = ["WinRate", "clustered_standard_error", "wilson", "win_rate"]
