"""The commands: one file each, read from top to bottom.

`table` lists them, `help` prints their settings. Each composes the rooms below; none holds logic that another room needs.
"""

__all__: list[str] = []
