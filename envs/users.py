"""The other side of the dialogue: nobody, a script, a game's rules, or a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from ..core.errors import CallFailed, ConfigError
from ..core.settings import check_template, named
from ..inference.client import InferenceClient
from ..inference.completion import Message
from ..inference.endpoint import Endpoint
from .episode import DialogueState
from .games import make_game
from .scenarios.scenario import GAMES, Scenario


class User(Protocol):
    """Answers the assistant; one object serves all dialogues and keeps no state.

    One that asks nobody may have an attribute ``immediate = True``: it is then asked before the judges instead of beside them.
    One that asks an endpoint should have ``requests_per_turn``, so that `duologue plan` counts it. One that knows beforehand
    how many turns of the assistant it takes at most may have a method ``most_turns(scenario)``; else ``env.max_turns`` is the
    bound.
    """

    async def reply(self, scenario: Scenario, state: DialogueState) -> str | None:
        """The next user turn, after the assistant's turn number ``state.turn - 1``; None ends the dialogue."""
        ...


class NoUser:
    """Asks the scenario's opening question and leaves after the answer."""

    immediate = True

    async def reply(self, scenario: Scenario, state: DialogueState) -> str | None:
        """None."""
        return None

    def most_turns(self, scenario: Scenario) -> int:
        """One."""
        return 1


class ScriptedUser:
    """Sends the scenario's user turns in order, and ends the dialogue after the last one."""

    immediate = True

    async def reply(self, scenario: Scenario, state: DialogueState) -> str | None:
        """The next scripted turn."""
        return scenario.user[state.turn] if state.turn < len(scenario.user) else None

    def most_turns(self, scenario: Scenario) -> int:
        """The number of scripted turns."""
        return len(scenario.user)


class RuleUser:
    """Plays the user's side of a game by its rules: the same dialogue always gets the same answer.

    Args:
        game: A key of `GAMES`; its scenarios hold the facts that the rules need.
    """

    immediate = True

    def __init__(self, game: str) -> None:
        self.name, self._game = game, make_game(game)

    def check(self, scenarios: Sequence[Scenario]) -> None:
        """Refuses scenarios that lack facts which the rules need.

        Args:
            scenarios: The scenarios to be played.

        Raises:
            ConfigError: At the first one.
        """
        facts = self._game.facts()
        for scenario in scenarios:
            if missing := facts - scenario.hidden.keys():
                raise ConfigError(
                    f"`env.user`: the rules of `{self.name}` need the hidden fact `{min(missing)}`, which the scenario "
                    f"`{scenario.id}` does not have: set `env.scenarios={self.name}`, or another `env.user`"
                )

    async def reply(self, scenario: Scenario, state: DialogueState) -> str | None:
        """Replies by the game's rules, from the scenario's hidden facts and the dialogue."""
        return self._game.reply(scenario.hidden, state.messages)


USERS: Mapping[str, str] = {
    "llm": ".envs.users:LLMUser",
    "none": ".envs.users:NoUser",
    "rule": ".envs.users:RuleUser",
    "scripted": ".envs.users:ScriptedUser",
}


def make_user(
    settings: Mapping[str, Any] | str,
    client: InferenceClient | None = None,
    endpoints: Mapping[str, Endpoint] | None = None,
) -> User:
    """Builds the user that ``settings["name"]`` names, or a dotted path ``package.module:Class``.

    Args:
        settings: A name, or a mapping with ``name`` and constructor arguments.
        client: For users that ask an endpoint.
        endpoints: Endpoints by role; a user model is ``endpoints["user"]``, otherwise the assistant.

    Returns:
        The user.

    Raises:
        ConfigError: If the name is unknown or an argument is refused.
    """
    user: User = named(USERS, settings, "env.user", client=client, endpoints=endpoints)
    return user


def check_user(user: User, scenarios: Sequence[Scenario]) -> None:
    """Refuses a user who cannot talk about the scenarios.

    Args:
        user: The user.
        scenarios: The scenarios to be played.

    Raises:
        ConfigError: If a game's rules meet scenarios of something else, or a game's scenarios a user who never answers.
    """
    if isinstance(user, RuleUser):
        user.check(scenarios)
    elif isinstance(user, ScriptedUser | NoUser):
        for scenario in scenarios:
            name = next((tag for tag in scenario.tags[:1] if tag in GAMES), None)
            if (
                name is None
                or len(scenario.user) > 1
                or not (game := make_game(name)).facts() <= scenario.hidden.keys()
            ):
                continue
            if game.max_turns > 1:
                raise ConfigError(
                    f"`env.user` never answers in a dialogue of the game `{name}`, whose scenarios these are: set "
                    f"`env={name}`, or `env.user={{name: rule, game: {name}}}`, or `env.user=llm`"
                )


def most_turns(user: User, scenario: Scenario, max_turns: int) -> int:
    """The most assistant turns with this user."""
    bound = getattr(user, "most_turns", None)
    return max_turns if bound is None else min(int(bound(scenario)), max_turns)


PROMPT = """You play a person who talks to an assistant. You are never the assistant.
{persona}
What you want: {goal}
Write only what this person says next, in one or two short sentences. When you have what you want, or see that you will not get it, write only {stop}."""

_NOBODY = "An ordinary person."
_HELP = "Help with your first message."
_BEGIN = "(The assistant is waiting for you.)"


class LLMUser:
    """Asks the endpoint of role ``user``, or the assistant's where there is none, for the next user turn.

    The model sees the scenario's persona and goal, and the dialogue with the roles exchanged; never the scenario's hidden
    facts, its reference, the assistant's system prompt or the policy's directives.

    Args:
        client: Asks the endpoint.
        endpoints: Endpoints by role.
        prompt: System prompt; must contain ``{persona}``, ``{goal}`` and ``{stop}``.
        stop: The word with which the model ends the dialogue, alone or after its last words.
        max_tokens: Tokens of a turn; None for the endpoint's own.
    """

    requests_per_turn = 1

    def __init__(
        self,
        client: InferenceClient | None,
        endpoints: Mapping[str, Endpoint] | None,
        prompt: str = PROMPT,
        stop: str = "[END]",
        max_tokens: int | None = 80,
    ) -> None:
        if client is None or not endpoints:
            raise ConfigError("the user `llm` needs a client and endpoints")
        check_template("prompt", prompt, ("persona", "goal", "stop"), needed=("persona", "goal", "stop"))
        if not stop.strip():
            raise ValueError("`stop` must not be empty: the model could not end the dialogue")
        self._client = client
        self._endpoint = endpoints.get("user") or endpoints["assistant"]
        own = {} if max_tokens is None else {"max_tokens": max_tokens}
        self._sampling = replace(self._endpoint.sampling, **own)  # type: ignore[arg-type]
        self._prompt, self._stop = prompt, stop

    async def reply(self, scenario: Scenario, state: DialogueState) -> str | None:
        """Asks the model for the user's turn.

        Args:
            scenario: Persona and goal.
            state: The dialogue so far.

        Returns:
            The turn; None where the model ends the dialogue.

        Raises:
            CallFailed: If the call failed after its retries, or the model said nothing.
        """
        completion = await self._client.chat(
            self._endpoint,
            self._messages(scenario, state.messages),
            sampling=self._sampling,
            sample_index=state.draw,
            role="user",
        )
        said, stopped, _ = completion.text.partition(self._stop)
        if stopped:
            return None
        if not said.strip():
            cut = (
                ": all its tokens went into reasoning, so raise the user's `max_tokens`"
                if completion.finish_reason == "length"
                else ""
            )
            raise CallFailed(f"the user's model {self._endpoint.model} said nothing{cut}")
        return said.strip()

    def _messages(self, scenario: Scenario, messages: Sequence[Message]) -> list[Message]:
        """The dialogue from the user's side: assistant turns become the model's input."""
        told = self._prompt.format(persona=scenario.persona or _NOBODY, goal=scenario.goal or _HELP, stop=self._stop)
        exchanged: list[Message] = [
            {"role": "assistant" if m["role"] == "user" else "user", "content": m["content"]}
            for m in messages
            if m["role"] != "system"
        ]
        return [{"role": "system", "content": told}, {"role": "user", "content": _BEGIN}, *exchanged]
