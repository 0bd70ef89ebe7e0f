"""From verdicts to the reward, and the alarms for rewards that go wrong.

The judges that give the verdicts are in `plugins.judges`.
"""

__all__: list[str] = []
