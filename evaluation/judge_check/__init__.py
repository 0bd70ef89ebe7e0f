"""A judge measured on labelled data. The command is `commands.judge_check`."""

__all__: list[str] = []
