"""`/v1/chat/completions`: the policy's way with a request, and the frozen model's own where the policy cannot act."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response, StreamingResponse

from ..envs.state import DialogueState
from ..inference.completion import read_completion
from ..inference.errors import near_miss
from .alias import Alias, Decision
from .candidates import events, merge
from .local_writer import WriterAlias
from .metrics import Metrics
from .problem import Problem
from .upstream import Reply, Upstream, passed
from .watch import Watch, share_of, streamed_text

_LOG = logging.getLogger("duologue.serving")


@dataclass
class Service:
    """What answers requests.

    Attributes:
        aliases: Policies by model name.
        upstreams: The frozen models' servers by alias.
        routes: By alias and route, those of interfaces that choose whom to ask.
        metrics: What is counted.
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

    async def answer(self, body: Mapping[str, Any]) -> Response:
        """Answers one chat request.

        Args:
            body: The request, checked by `checked`.

        Raises:
            Problem: If it cannot be answered.
        """
        name = body["model"]
        if (alias := self.aliases.get(name)) is not None:
            return await self._by_policy(alias, body)
        if (writer := self.writers.get(name)) is not None:
            return await writer.answer(body)
        if (upstream := self.base_models.get(name)) is not None:
            return await forward(upstream, "/chat/completions", body)
        known = near_miss(name, [*self.own, *self.base_models])
        raise Problem(404, f"The model `{name}` does not exist here: {known}", code="model_not_found", param="model")

    async def _by_policy(self, alias: Alias, body: Mapping[str, Any]) -> Response:
        original = alias.messages(body["messages"])
        if share_of(original, "canary") < self.canary:
            self.metrics.canaries.labels(alias.name).inc()
            return await self._plain(alias, original, body, {"x-duologue-canary": "true"})
        response = await self._act(alias, original, body)
        if self.watch is not None and response.status_code == 200 and self.watch.wants(original):
            self._shadow(self.watch, alias, original, body, response)
        return response

    async def _act(self, alias: Alias, original: list[Mapping[str, Any]], body: Mapping[str, Any]) -> Response:
        upstream = self.upstreams[alias.name]
        try:
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
            reason = (
                "upstream"
                if isinstance(error, _Refused)
                else "timeout"
                if isinstance(error, TimeoutError)
                else "policy"
            )
            _LOG.warning("%s: the policy could not act (%s: %s)", alias.name, type(error).__name__, error)
            self.metrics.fallbacks.labels(alias.name, reason).inc()
            return await self._plain(alias, original, body, {"x-duologue-fallback": reason})
        kept = {name: body[name] for name in ("stream", "stream_options", "n") if name in body}
        return await forward(upstream, "/chat/completions", {**asked, **kept}, _told(alias, [decision]))

    async def _plain(
        self, alias: Alias, original: list[Mapping[str, Any]], body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Response:
        """The frozen model answers alone."""
        told = {"x-duologue-alias": quote(alias.name), **headers}
        return await forward(self.upstreams[alias.name], "/chat/completions", alias.plain(original, body), told)

    def _shadow(
        self, watch: Watch, alias: Alias, original: list[Mapping[str, Any]], body: Mapping[str, Any], response: Response
    ) -> None:
        """Has the reply compared once it was sent; a stream is heard out first."""
        upstream = self.upstreams[alias.name]
        rest = {name: value for name, value in body.items() if name not in ("stream", "stream_options", "n")}
        plain = alias.plain(original, rest)
        if isinstance(response, StreamingResponse):
            response.body_iterator = _overheard(
                response.body_iterator, lambda said: watch.compare(alias.name, upstream, plain, streamed_text(said))
            )
            return
        message = msgspec.json.decode(bytes(response.body))["choices"][0]["message"]
        watch.compare(alias.name, upstream, plain, message.get("content") or "")

    async def _decide(self, alias: Alias, state: DialogueState) -> Decision:
        began = time.perf_counter()
        decision = await alias.decide(state)
        self.metrics.decision_seconds.labels(alias.name).observe(time.perf_counter() - began)
        self.metrics.actions.labels(alias.name, decision.described[:80]).inc()
        return decision

    async def _select(
        self, alias: Alias, upstream: Upstream, original: list[Mapping[str, Any]], body: Mapping[str, Any]
    ) -> Response:
        """All candidates are asked for at once; what is sent is one of them, whole."""
        choices = body.get("n") or 1
        drawn = await _all([self._draw(alias, upstream, original, body, draw) for draw in range(choices)])
        completion = merge(
            [chosen for chosen, _, _ in drawn], [r for _, asked, _ in drawn for r in asked], bool(body.get("logprobs"))
        )
        completion["model"] = alias.name
        headers = _told(alias, [decision for _, _, decision in drawn])
        if not body.get("stream"):
            return Response(msgspec.json.encode(completion), 200, headers, "application/json")
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return StreamingResponse(_each(events(completion, with_usage)), 200, headers, "text/event-stream")

    async def _draw(
        self, alias: Alias, upstream: Upstream, original: list[Mapping[str, Any]], body: Mapping[str, Any], draw: int
    ) -> tuple[Reply, list[Reply], Decision]:
        """The candidates of one choice, and the one that the policy takes."""
        state = DialogueState.of(original, draw)
        asked = alias.bodies(alias.interface.propose(state), state, original, body)
        replies = await _all([upstream.post("/chat/completions", one) for one in asked])
        if failed := [reply for reply in replies if not reply.ok]:
            raise _Refused(failed[0])
        state.proposals = [_read(alias, one, reply) for one, reply in zip(asked, replies, strict=True)]
        decision = await self._decide(alias, state)
        if requests := alias.interface.compile(decision.action, state):
            (directed,) = alias.bodies(requests, state, original, body)
            answer = await upstream.post("/chat/completions", directed)
            if not answer.ok:
                raise _Refused(answer)
            return answer, [*replies, answer], decision
        chosen = alias.interface.reply(decision.action, state, [])
        return replies[next(i for i, proposal in enumerate(state.proposals) if proposal is chosen)], replies, decision


class _Refused(Exception):
    """The server refused a candidate's request; the plain request may still be served, or refused honestly."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"HTTP {reply.status}: {reply.content[:200]!r}")


def _read(alias: Alias, asked: Mapping[str, Any], reply: Reply) -> Any:
    wanted = bool(asked.get("logprobs"))
    return read_completion(reply.content, alias.endpoint, logprobs=wanted, latency_s=0.0, required=False)


def _told(alias: Alias, decisions: list[Decision]) -> dict[str, str]:
    """Headers that name what was done; percent-encoded, since directives hold any character."""
    actions = ", ".join(decision.described for decision in decisions)
    return {"x-duologue-alias": quote(alias.name), "x-duologue-action": quote(actions[:300], safe=" ,.'?!")}


async def forward(
    upstream: Upstream, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """Hands a request on, and the answer back as it comes: a stream event by event, an error with its status.

    Raises:
        Problem: If the server cannot be reached, or does not answer in time.
    """
    own = dict(headers or {})
    if not body.get("stream"):
        reply = await upstream.post(path, body)
        return Response(reply.content, reply.status, {**reply.headers, **own})
    stack = AsyncExitStack()
    try:
        response = await stack.enter_async_context(upstream.open(path, body))
        if response.status != 200:
            content = await response.read()
            await stack.aclose()
            return Response(content, response.status, {**passed(response), **own})
    except BaseException:
        await stack.aclose()
        raise

    async def chunks() -> AsyncIterator[bytes]:
        async with stack:
            try:
                async for chunk in response.content.iter_any():
                    yield chunk
            except Exception as error:  # noqa: BLE001  (the status is sent: only the stream itself can say it)
                message = f"the stream of `{upstream.endpoint.model}` broke off ({type(error).__name__})"
                problem = {"error": {"message": message, "type": "api_error", "param": None, "code": "stream_broken"}}
                yield b"data: " + msgspec.json.encode(problem) + b"\n\n"

    return StreamingResponse(chunks(), 200, {**passed(response), **own})


async def _overheard(parts: Any, tell: Callable[[bytes], None]) -> AsyncIterator[bytes]:
    """Hands a stream on, and tells what was in it if it came to its end."""
    heard = []
    try:
        async for part in parts:
            heard.append(part)
            yield part
    finally:
        await parts.aclose()
    tell(b"".join(heard))


async def _each(parts: Any) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


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


def checked(body: object, max_messages: int, max_choices: int) -> dict[str, Any]:
    """The fields that this server itself reads; all others are the frozen model's business.

    Raises:
        Problem: If one is missing or is of the wrong kind.
    """
    if not isinstance(body, dict):
        raise Problem(400, f"The body must be a JSON object, not {type(body).__name__}")
    if not isinstance(body.get("model"), str):
        raise Problem(400, "`model` must be a text", param="model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Problem(400, "`messages` must be a list of at least one message", param="messages")
    if len(messages) > max_messages:
        raise Problem(400, f"`messages` holds {len(messages)}, and at most {max_messages} are taken", param="messages")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Problem(400, f"`messages[{number}]` must be an object with a `role`", param="messages")
    n = body.get("n")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= max_choices):
        raise Problem(400, f"`n` must be a whole number from 1 to {max_choices}, not {n!r}", param="n")
    return body
