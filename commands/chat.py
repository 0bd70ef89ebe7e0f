"""`duologue chat`: talk to a policy in the terminal and see its actions with their probabilities.

duologue chat policy=runs/train/latest compare=true
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from ..agents.bundle import Bundle, load_bundle
from ..core.console import Console, say
from ..core.errors import InferenceError
from ..core.settings import construct
from ..envs.episode import DialogueState
from ..envs.interfaces.base import Request
from ..envs.observation import Observer
from ..inference.client import InferenceClient
from ..inference.completion import Completion, Message
from ..inference.endpoint import Endpoint

_PLAIN_DRAW = 10_000
"""Samples between the policy's candidates and the plain model's answer, so that it is another one."""

HELP = "/why shows or hides what the policy thought, /new begins another dialogue, /quit or Ctrl-D ends"


@dataclass(frozen=True)
class Settings:
    """The configuration of a chat.

    Attributes:
        policy: The bundle's folder.
        upstream: Settings of the frozen model's endpoint that differ from those of the training.
        trusted: See `load_bundle`.
        compare: Whether the frozen model's own answer is shown, too.
        why: Whether the policy's probabilities are shown.
    """

    policy: str
    upstream: Mapping[str, Any] | None = None
    trusted: bool = False
    compare: bool = False
    why: bool = True


@dataclass(frozen=True)
class Answer:
    """One turn of the policy.

    Attributes:
        reply: The reply to send.
        action: In a word or two.
        options: Every action in words with its probability, and the candidate's text where there are candidates; empty
            for actions of several parts.
        plain: The frozen model's own answer, if it was asked for.
    """

    reply: str
    action: str
    options: list[tuple[str, float, str]]
    plain: str | None


class Chat:
    """A dialogue with a policy.

    Args:
        bundle: The policy.
        endpoint: The frozen model.
        client: Asks it.
    """

    def __init__(self, bundle: Bundle, endpoint: Endpoint, client: InferenceClient) -> None:
        self._bundle, self._endpoint, self._client = bundle, endpoint, client
        self._routes = bundle.interface.endpoints(endpoint)
        self._observer = Observer(bundle.encoder, bundle.interface)
        self.messages: list[Message] = []
        self.restart()

    def restart(self) -> None:
        """Begins another dialogue."""
        system = self._bundle.system
        self.messages = [{"role": "system", "content": system}] if system else []

    async def say(self, text: str, compare: bool) -> Answer:
        """Answers a user turn; both enter the dialogue if the answer comes.

        Args:
            text: The user's turn.
            compare: Whether the plain model answers, too.

        Returns:
            The answer.

        Raises:
            InferenceError: If the frozen model did not answer.
        """
        interface = self._bundle.interface
        state = DialogueState(
            [*self.messages, {"role": "user", "content": text}], sum(m["role"] == "assistant" for m in self.messages)
        )
        plain = asyncio.ensure_future(self._call(Request(tuple(state.messages), _PLAIN_DRAW))) if compare else None
        try:
            state.proposals = await self._ask(interface.propose(state))
            observation = await self._observer.observe(state)
            action = self._bundle.policy.act(observation)
            completion = interface.reply(action, state, await self._ask(interface.compile(action, state)))
            own = None if plain is None else (await plain).text
        finally:
            if plain is not None:
                plain.cancel()
        probabilities = self._bundle.policy.probabilities(observation)
        texts = [proposal.text for proposal in state.proposals]
        options = [
            (interface.describe(choice), float(share), texts[choice] if texts else "")
            for choice, share in enumerate(probabilities[0])
        ]
        self.messages = [*state.messages, {"role": "assistant", "content": completion.text}]
        return Answer(completion.text, interface.describe(action), options if len(probabilities) == 1 else [], own)

    async def _ask(self, requests: Any) -> list[Completion]:
        return list(await asyncio.gather(*(self._call(request) for request in requests)))

    async def _call(self, request: Request) -> Completion:
        endpoint = self._endpoint if request.route is None else self._routes[request.route]
        sampling = replace(endpoint.sampling, **request.sampling) if request.sampling else None
        return await self._client.chat(
            endpoint,
            request.messages,
            sampling=sampling,
            sample_index=request.index,
            logprobs=request.logprobs,
            top_logprobs=request.top_logprobs,
            logprobs_required=False,
        )


def chat(config: Mapping[str, Any], folder: Path) -> None:
    """Talks until the input ends.

    Args:
        config: The resolved configuration.
        folder: Not used: a chat leaves nothing.

    Raises:
        ConfigError: If a value is refused or the bundle cannot be loaded.
    """
    settings = construct(Settings, config, "chat")
    client = InferenceClient()
    try:
        bundle = load_bundle(Path(settings.policy).expanduser(), client, trusted=settings.trusted)
        endpoint = bundle.endpoint(settings.upstream)
        endpoint.api_key()
        console = Console()
        say(f"A `{bundle.interface.name}` policy on {endpoint.model}. {HELP}.", console)
        _talk(Chat(bundle, endpoint, client), client, console, settings)
    finally:
        client.close()


def _talk(talk: Chat, client: InferenceClient, console: Console, settings: Settings) -> None:
    why = settings.why
    while True:
        try:
            said = console.input(Text("you: ", "bold"), markup=False).strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if not sys.stdin.isatty():  # a script's transcript shows what was said
            console.print(said, markup=False, highlight=False)
        if said in ("/quit", "/exit"):
            return
        if said == "/why":
            why = not why
        elif said == "/new":
            talk.restart()
        elif said.startswith("/"):
            say(HELP, console)
        elif said:
            try:
                answer = client.run(talk.say(said, settings.compare))
            except InferenceError as error:
                console.print(f"{error}. Say it again.", style="red", markup=False, highlight=False)
                continue
            show(answer, console, why)


def show(answer: Answer, console: Console, why: bool) -> None:
    """Prints an answer; with ``why`` also every action with its probability, the likeliest first."""
    if why and answer.options:
        table = Table(box=SIMPLE, show_header=True, pad_edge=False, title_justify="left")
        table.add_column("action")
        table.add_column("probability", justify="right")
        texts = any(text for _, _, text in answer.options)
        if texts:
            table.add_column("reply", ratio=1)
        for name, share, text in sorted(answer.options, key=lambda option: -option[1]):
            style = "bold" if name == answer.action else "dim"
            table.add_row(Text(name), f"{share:.1%}", *([Text(text)] if texts else []), style=style)
        console.print(table)
    elif why:
        console.print(f"action: {answer.action}", style="dim", markup=False, highlight=False)
    console.print(Text.assemble(("policy: ", "bold"), answer.reply))
    if answer.plain is not None:
        console.print(Text.assemble(("plain model: ", "bold dim"), (answer.plain, "dim")))
