"""What a run of a command leaves behind: its folder, summary, lock and signals, resuming, and the jobs of a sweep.

Training curves are written by `agents`, matches by `evaluation`. (The folder `runs/` of a project holds the output.)
"""

__all__: list[str] = []
