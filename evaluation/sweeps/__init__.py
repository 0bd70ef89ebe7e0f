"""The jobs of a sweep compared: means over seeds, effects of parameters, a plot.

Sweeps are run by `multirun` and `job_processes`.
"""

__all__: list[str] = []
