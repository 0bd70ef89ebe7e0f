"""Files of other projects: prompts and answers, verdicts of public benchmarks, preference pairs.

Datasets that become scenarios are read in `envs.scenarios`.
"""

__all__: list[str] = []
