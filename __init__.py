"""Duologue: small reinforcement-learned policies on top of any OpenAI-compatible model."""

import sys

if sys.version_info >= (3, 14):
    raise ImportError(
        f"Duologue runs on Python 3.11 to 3.13, and this is {sys.version_info.major}.{sys.version_info.minor}: "
        "Hydra 1.3, which reads its configuration, cannot start on 3.14. Use `python3.13 -m venv .venv`"
    )

__version__ = "0.1.0"

__all__ = ["__version__"]
