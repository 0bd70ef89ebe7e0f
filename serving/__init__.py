"""The trained policy behind an OpenAI-compatible API: just another model name. Needs the `serve` extra."""

from .alias import Alias, Decision
from .app import Limits, build_app
from .completions import Service

__all__ = ["Alias", "Decision", "Limits", "Service", "build_app"]
