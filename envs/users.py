"""The other side of the dialogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..inference.settings import named
from .scenarios import Scenario
from .state import DialogueState


class User(Protocol):
    """Answers the assistant. One object serves all dialogues, so it keeps no state of its own.

    One that asks nobody may have an attribute ``immediate = True``: it is then asked before the judges instead of beside them.
    """

    async def reply(self, scenario: Scenario, state: DialogueState) -> str | None:
        """The next user turn, after the assistant's turn number ``state.turn - 1``; None ends the dialogue."""
        ...


class ScriptedUser:
    """Says the scenario's user turns in order, whatever the assistant answers; ends when they are used up."""

    immediate = True

    async def reply(self, scenario: Scenario, state: DialogueState) -> str | None:
        """The next scripted turn."""
        return scenario.user[state.turn] if state.turn < len(scenario.user) else None


USERS: Mapping[str, str] = {"scripted": ".envs.users:ScriptedUser"}


def make_user(settings: Mapping[str, Any] | str) -> User:
    """Builds the user that ``settings["name"]`` names, or a dotted path ``package.module:Class``.

    Raises:
        ConfigError: If the name is unknown or an argument is refused.
    """
    user: User = named(USERS, settings, "env.user")
    return user
