"""A trained policy as a model: turns a request's messages into requests to the frozen model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..agents.bundle import Bundle
from ..agents.policies import TorchPolicy
from ..envs.episode import DialogueState, Observation
from ..envs.interfaces.base import ActionInterface, Request
from ..envs.observation import Observer
from ..envs.policies import Policy
from ..inference.client import InferenceClient
from ..inference.encoders import Encoder
from ..inference.endpoint import Endpoint

_QUICK = ("hashing", "static")
"""Encoders that compute in microseconds, and ask nobody."""

RequestMessages = Sequence[Mapping[str, Any]]
"""Messages as the API takes them, with whatever fields they have."""


@dataclass(frozen=True)
class Decision:
    """The policy's decision for one turn.

    Attributes:
        action: As the interface has it.
        described: In a word or two.
        observation: The observation.
    """

    action: Any
    described: str
    observation: Observation


_SEEDS = 2**31
"""Servers keep seeds in 32 or 64 bits with a sign."""


class Alias:
    """A policy with its frozen model. It keeps no state: a request's messages are all that it goes by.

    A network with an encoder that computes in microseconds decides on the loop that serves requests: another thread would wait
    milliseconds for the interpreter. All others decide on the client's loop, in the client's thread, so that nobody waits for
    them, and a timeout can be kept.

    Args:
        name: The model name that clients use.
        policy: The acting policy.
        interface: Action interface of the policy.
        encoder: Encoder of the observations.
        endpoint: The frozen model.
        client: For encoders that call an endpoint, and for its thread.
        system: The system prompt of requests that have none: the one that the policy was trained with.
        timeout_s: Seconds that observing and deciding may take.
    """

    def __init__(
        self,
        name: str,
        policy: Policy,
        interface: ActionInterface,
        encoder: Encoder,
        endpoint: Endpoint,
        client: InferenceClient,
        system: str = "",
        timeout_s: float = 2.0,
    ) -> None:
        self.name, self.interface, self.endpoint = name, interface, endpoint
        self.routes = interface.endpoints(endpoint)
        self._policy, self._observer, self._client = policy, Observer(encoder, interface), client
        self._system, self._timeout_s = system, timeout_s
        self._at_once = isinstance(policy, TorchPolicy) and encoder.settings["name"] in _QUICK

    @classmethod
    def of(
        cls, name: str, bundle: Bundle, endpoint: Endpoint, client: InferenceClient, timeout_s: float = 2.0
    ) -> Alias:
        """The alias of a bundle."""
        return cls(name, bundle.policy, bundle.interface, bundle.encoder, endpoint, client, bundle.system, timeout_s)

    def messages(self, given: RequestMessages) -> list[Mapping[str, Any]]:
        """The request's messages, with the policy's own system prompt where they have none."""
        if not self._system or any(message["role"] in ("system", "developer") for message in given):
            return list(given)
        return [{"role": "system", "content": self._system}, *given]

    def plain(self, original: RequestMessages, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body that asks the frozen model alone, with the endpoint's sampling where the request has none."""
        defaults = self.endpoint.sampling.body(0)
        if "max_completion_tokens" in body:
            defaults.pop("max_tokens", None)
        return {**defaults, **body, "model": self.endpoint.model, "messages": list(original)}

    async def decide(self, state: DialogueState) -> Decision:
        """Observes a state (with candidates where the interface has two phases) and chooses an action.

        Args:
            state: The dialogue so far.

        Returns:
            The decision.

        Raises:
            TimeoutError: If it took too long.
            Exception: Whatever the encoder or the policy raised.
        """
        if self._at_once:
            return await self._decide(state)
        future = self._client.thread.submit(self._decide(state))
        return await asyncio.wait_for(asyncio.wrap_future(future), self._timeout_s)

    async def _decide(self, state: DialogueState) -> Decision:
        observation = await self._observer.observe(state)
        action = self._policy.act(observation, (state.draw, state.turn))
        return Decision(action, self.interface.describe(action), observation)

    def bodies(
        self, requests: Sequence[Request], state: DialogueState, original: RequestMessages, fields: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Builds the requests to the frozen model, equal to those of rollouts and evaluations.

        Args:
            requests: The interface's.
            state: State that the requests were made from.
            original: The request's messages, one for each of the state's: what the interface left alone is sent as it was.
            fields: The request's other fields, which go before the endpoint's sampling defaults.

        Returns:
            One body per request.
        """
        given = {id(plain): message for plain, message in zip(state.messages, original, strict=True)}
        own = {
            name: value
            for name, value in fields.items()
            if name not in ("model", "messages", "stream", "stream_options", "n")
        }
        made = []
        for request in requests:
            index = state.draw * self.interface.requests_per_turn + request.index
            endpoint = self.routes.get(request.route or "", self.endpoint)
            body = {**endpoint.sampling.body(index), **own, **request.sampling}
            asked = own.get("max_completion_tokens", own.get("max_tokens"))
            if "max_completion_tokens" in own:
                body.pop("max_tokens", None)
            if asked and asked > 0 and "max_tokens" in request.sampling:  # the policy may say less, never more
                name = "max_completion_tokens" if "max_completion_tokens" in own else "max_tokens"
                body[name] = min(asked, request.sampling["max_tokens"])
            if own.get("seed") is not None:
                body["seed"] = _own_seed(own["seed"], self.interface.requests_per_turn * _choices(fields), index)
            if request.logprobs:
                body["logprobs"] = True
                if request.top_logprobs:
                    body["top_logprobs"] = max(request.top_logprobs, int(own.get("top_logprobs") or 0))
            messages = [given.get(id(message), message) for message in request.messages]
            made.append({"model": endpoint.model, "messages": messages, **body})
        return made


def _choices(fields: Mapping[str, Any]) -> int:
    """The number of answers that a request asks for."""
    n = fields.get("n")
    return n if isinstance(n, int) and n > 1 else 1


def _own_seed(seed: int, stride: int, index: int) -> int:
    """The seed of one of a request's upstream calls.

    Clients that want another answer count their seed up by one: each seed owns ``stride`` of them, so that neighbours
    share no candidate. A negative seed asks many servers for chance and stays negative.
    """
    return seed if seed < 0 else seed * stride % _SEEDS + index
