"""Runs of commands: folder, summary, lock, signals, resuming, and the jobs of a sweep.

Training curves are written by `agents`, matches by `evaluation`. (The folder `runs/` of a project holds the output.)
"""

__all__: list[str] = []
