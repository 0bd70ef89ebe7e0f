"""A user played by a model, from a persona and a goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..inference.client import InferenceClient
from ..inference.completion import Message
from ..inference.endpoint import Endpoint
from ..inference.errors import CallFailed, ConfigError
from ..inference.settings import check_template
from .scenarios import Scenario
from .state import DialogueState

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
        endpoints: By role.
        prompt: What the model is told; must hold ``{persona}``, ``{goal}`` and ``{stop}``.
        stop: The word with which the model ends the dialogue, alone or after its last words.
        max_tokens: Of a turn; None for the endpoint's own.
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
        """The model's turn; None where it ended the dialogue.

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
            raise CallFailed(f"the user's model {self._endpoint.model} said nothing")
        return said.strip()

    def _messages(self, scenario: Scenario, messages: Sequence[Message]) -> list[Message]:
        """The dialogue as the user sees it: what the assistant said is said to the model."""
        told = self._prompt.format(persona=scenario.persona or _NOBODY, goal=scenario.goal or _HELP, stop=self._stop)
        exchanged: list[Message] = [
            {"role": "assistant" if m["role"] == "user" else "user", "content": m["content"]}
            for m in messages
            if m["role"] != "system"
        ]
        return [{"role": "system", "content": told}, {"role": "user", "content": _BEGIN}, *exchanged]
