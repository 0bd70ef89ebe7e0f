"""Strangers' plugins as users install them, for the commands that list them."""

from duologue.tests.plugins.conftest import install, only_our_plugins

__all__ = ["install", "only_our_plugins"]
