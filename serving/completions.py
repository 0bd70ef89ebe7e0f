"""`/v1/chat/completions`: the policy's way with a request, and the frozen model's own where the policy cannot act."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from ..core.errors import near_miss
from ..envs.episode import DialogueState
from ..inference.completion import read_completion
from .alias import Alias, Decision
from .answers import as_asked, forward, merge, overheard
from .local_writer import WriterAlias
from .monitoring import Metrics, Watch, share_of, streamed_text, whole_text
from .requests import Problem
from .upstream import Reply, Upstream

_LOG = logging.getLogger("duologue.serving")


@dataclass
class Service:
    """Answers chat requests by policies, with the frozen model as fallback.

    Attributes:
        aliases: Policies by model name.
        upstreams: The frozen models' servers by alias.
        routes: Upstreams by alias and route, for interfaces that choose the model.
        metrics: The metrics.
        max_choices: ``n`` of a request, at most.
        canary: Share of the dialogues that the frozen model answers instead of the policy.
        watch: Compares a share of the replies with the frozen model's own.
        writers: Local models by model name.
    """

    aliases: Mapping[str, Alias]
    upstreams: Mapping[str, Upstream]
    routes: Mapping[tuple[str, str], Upstream] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    max_choices: int = 8
    canary: float = 0.0
    watch: Watch | None = None
    writers: Mapping[str, WriterAlias] = field(default_factory=dict)

    @property
    def base_models(self) -> dict[str, Upstream]:
        """The frozen models by their own names; one that is an alias's name, too, is hidden by it."""
        served = [*self.routes.values(), *self.upstreams.values()]
        found = {upstream.endpoint.model: upstream for upstream in served}
        return {name: upstream for name, upstream in found.items() if name not in self.own}

    @property
    def own(self) -> list[str]:
        """The names of policies and of local models."""
        return [*self.aliases, *self.writers]

    async def answer(self, body: Mapping[str, Any], session: str = "") -> Response:
        """Answers one chat request.

        Args:
            body: The request, checked by `checked`.
            session: The dialogue's id, where the client names one.

        Returns:
            The response.

        Raises:
            Problem: If it cannot be answered.
        """
        name = body["model"]
        if (alias := self.aliases.get(name)) is not None:
            return await self._by_policy(alias, body, session)
        if (writer := self.writers.get(name)) is not None:
            return await writer.answer(body)
        if (upstream := self.base_models.get(name)) is not None:
            return await forward(upstream, "/chat/completions", body)
        raise self.unknown_model(name)

    async def embeddings(self, body: Any) -> Response:
        """Forwards a request for embeddings to the upstream of the model that it names, otherwise to the first one.

        Args:
            body: The request, decoded.

        Returns:
            The response.

        Raises:
            Problem: If it is no object, or no server is behind any model here.
        """
        if not isinstance(body, dict):
            raise Problem(400, f"The body must be a JSON object, not {type(body).__name__}")
        name = str(body.get("model"))
        upstream = self.upstreams.get(name) or self.base_models.get(name)
        if upstream is not None:
            body = {**body, "model": upstream.endpoint.model}
        elif name in self.own or not self.upstreams:
            raise Problem(404, f"The model `{name}` makes no embeddings", code="model_not_found", param="model")
        else:
            upstream = next(iter(self.upstreams.values()))
        return await forward(upstream, "/embeddings", body)

    def unknown_model(self, name: str) -> Problem:
        """The refusal of a model's name that is not served."""
        known = near_miss(name, [*self.own, *self.base_models])
        said = f"The model `{name[:200]}` does not exist here: {known}"
        return Problem(404, said, code="model_not_found", param="model")

    async def _by_policy(self, alias: Alias, body: Mapping[str, Any], session: str) -> Response:
        original = alias.messages(body["messages"])
        if share_of(original, "canary", session) < self.canary:
            self.metrics.canaries.labels(alias.name).inc()
            return await self._plain(alias, original, body, {"x-duologue-canary": "true"})
        response = await self._act(alias, original, body)
        if self.watch is not None and response.status_code == 200 and self.watch.wants(original, session):
            self._shadow(self.watch, alias, original, body, response)
        return response

    async def _act(self, alias: Alias, original: list[Mapping[str, Any]], body: Mapping[str, Any]) -> Response:
        upstream = self.upstreams[alias.name]
        try:
            if not any(message["role"] == "user" for message in original):
                raise _NoUserTurn
            if alias.interface.two_phase:
                return await self._select(alias, upstream, original, body)
            state = DialogueState.of(original)
            decision = await self._decide(alias, state)
            requests = alias.interface.compile(decision.action, state)
            (asked,) = alias.bodies(requests, state, original, body)
            upstream = self.routes.get((alias.name, requests[0].route or ""), upstream)
        except Problem:
            raise
        except Exception as error:  # noqa: BLE001  (whatever a policy, an encoder or an interface does)
            reason = _reason(error)
            _LOG.warning("%s: the policy could not act (%s: %s)", alias.name, type(error).__name__, error)
            self.metrics.fallbacks.labels(alias.name, reason).inc()
            return await self._plain(alias, original, body, {"x-duologue-fallback": reason})
        kept = {name: body[name] for name in ("stream", "stream_options", "n") if name in body}
        told = _told(alias, [decision])
        return await forward(upstream, "/chat/completions", {**asked, **kept}, told, alias.name, keep=body)

    async def _plain(
        self, alias: Alias, original: list[Mapping[str, Any]], body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Response:
        """The frozen model answers alone."""
        told = {"x-duologue-alias": quote(alias.name), **headers}
        plain = alias.plain(original, body)
        return await forward(self.upstreams[alias.name], "/chat/completions", plain, told, alias.name, keep=body)

    def _shadow(
        self, watch: Watch, alias: Alias, original: list[Mapping[str, Any]], body: Mapping[str, Any], response: Response
    ) -> None:
        """Has the reply compared once it was sent; a stream is heard out first."""
        upstream = self.upstreams[alias.name]
        rest = {name: value for name, value in body.items() if name not in ("stream", "stream_options", "n")}
        plain = alias.plain(original, rest)
        if isinstance(response, StreamingResponse):
            response.body_iterator = overheard(
                response.body_iterator,
                lambda said: watch.compare(alias.name, upstream, plain, said, streamed_text),
                watch.MAX_REPLY_BYTES,
            )
            return
        watch.compare(alias.name, upstream, plain, bytes(response.body), whole_text)

    async def _decide(self, alias: Alias, state: DialogueState) -> Decision:
        began = time.perf_counter()
        decision = await alias.decide(state)
        self.metrics.decision_seconds.labels(alias.name).observe(time.perf_counter() - began)
        self.metrics.actions.labels(alias.name, decision.described[:80]).inc()
        return decision

    async def _select(
        self, alias: Alias, upstream: Upstream, original: list[Mapping[str, Any]], body: Mapping[str, Any]
    ) -> Response:
        """Asks for all candidates at once and sends one of them."""
        choices = body.get("n") or 1
        drawn = await _all([self._draw(alias, upstream, original, body, draw) for draw in range(choices)])
        completion = merge(
            [chosen for chosen, _, _ in drawn], [r for _, asked, _ in drawn for r in asked], bool(body.get("logprobs"))
        )
        completion["model"] = alias.name
        return as_asked(completion, body, _told(alias, [decision for _, _, decision in drawn]))

    async def _draw(
        self, alias: Alias, upstream: Upstream, original: list[Mapping[str, Any]], body: Mapping[str, Any], draw: int
    ) -> tuple[Reply, list[Reply], Decision]:
        """The candidates of one choice, and the one that the policy takes."""
        state = DialogueState.of(original, draw)
        asked = alias.bodies(alias.interface.propose(state), state, original, body)
        replies = await _all([upstream.post("/chat/completions", one, body) for one in asked])
        if failed := [reply for reply in replies if not reply.ok]:
            raise _Refused(failed[0])
        state.proposals = [_read(alias, one, reply) for one, reply in zip(asked, replies, strict=True)]
        decision = await self._decide(alias, state)
        if requests := alias.interface.compile(decision.action, state):
            (directed,) = alias.bodies(requests, state, original, body)
            answer = await upstream.post("/chat/completions", directed, body)
            if not answer.ok:
                raise _Refused(answer)
            return answer, [*replies, answer], decision
        chosen = alias.interface.reply(decision.action, state, [])
        return replies[next(i for i, proposal in enumerate(state.proposals) if proposal is chosen)], replies, decision


class _Refused(Exception):
    """The server refused a candidate's request; the plain request may still be served, or refused honestly."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"HTTP {reply.status}: {reply.content[:200]!r}")


class _NoUserTurn(Exception):
    """Nothing was said by a user, and policies act on what users say."""

    def __init__(self) -> None:
        super().__init__("there is no user's message")


def _reason(error: Exception) -> str:
    """Why the frozen model answers alone, as the header and the metrics say it."""
    if isinstance(error, _NoUserTurn):
        return "no-user"
    if isinstance(error, _Refused):
        return "upstream"
    return "timeout" if isinstance(error, TimeoutError) else "policy"


def _read(alias: Alias, asked: Mapping[str, Any], reply: Reply) -> Any:
    wanted = bool(asked.get("logprobs"))
    return read_completion(reply.content, alias.endpoint, logprobs=wanted, latency_s=0.0, required=False)


def _told(alias: Alias, decisions: list[Decision]) -> dict[str, str]:
    """Headers that name the action, percent-encoded because directives hold any character."""
    actions = ", ".join(decision.described for decision in decisions)
    return {"x-duologue-alias": quote(alias.name), "x-duologue-action": quote(actions[:300], safe=" ,.'?!")}


async def _all(coroutines: list[Any]) -> list[Any]:
    """Waits for all; where one fails, or the client hangs up, the others are cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
