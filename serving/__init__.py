"""The trained policy behind an OpenAI-compatible API: just another model name. Needs the `serve` extra."""

from .alias import Alias, Decision
from .app import Limits, build_app

__all__ = ["Alias", "Decision", "Limits", "build_app"]
