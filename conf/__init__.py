"""Hydra's configuration: values only. The judges' group comes from the plugins."""

__all__: list[str] = []
