"""`duologue serve`: trained policies behind an OpenAI-compatible API.

duologue serve policy=runs/train/latest alias=my-model
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch as th

from ..agents.bundle import load_bundle
from ..core.concurrency import calm_collection
from ..core.console import Console, printable, say
from ..core.errors import ConfigError
from ..core.settings import construct
from ..inference.client import InferenceClient
from ..inference.endpoint import Endpoint
from ..plugins.judge import JudgeContext
from ..plugins.manager import plugins
from ..serving.alias import Alias
from ..serving.app import Limits, build_app, on_loopback
from ..serving.completions import Service
from ..serving.connections import Config, Server
from ..serving.feedback import Feedback
from ..serving.local_writer import WriterAlias, holds_adapter
from ..serving.monitoring import Watch
from ..serving.upstream import Upstream


@dataclass(frozen=True)
class Settings:
    """The configuration of a server.

    Attributes:
        policy: The bundle's folder.
        alias: The model name under which it is served.
        upstream: Settings of the frozen model's endpoint that differ from those of the training.
        aliases: Further ones: name to ``policy``, ``upstream`` and ``trusted``.
        trusted: Whether the bundle may name code outside the package, addresses and keys' variables, see `load_bundle`.
        host: The address to listen on.
        port: The port; 0 for a free one.
        keys_env: Name of the variable that holds the keys which clients must send, separated by commas.
        decision_timeout_s: Seconds that observing and deciding may take before the frozen model answers alone.
        drain_s: Seconds that requests under way get after SIGTERM.
        max_choices: ``n`` of a request, at most.
        limits: See `Limits`; the keys come from ``keys_env``.
        cors: Origins of web pages that may ask, see `Limits`.
        public_metrics: Whether `/metrics` is answered without a key.
        canary: Share of the dialogues that the frozen model answers instead of the policy.
        shadow: Share of the replies that are compared with the frozen model's own, off the request's path.
        judge: The comparing judge.
        inference: The judge's endpoint as ``judge``, if it asks one; None for the frozen model's.
        feedback: The file that `/v1/feedback` adds to; None for no such route.
    """

    policy: str
    alias: str
    upstream: Mapping[str, Any] | None = None
    aliases: Mapping[str, Any] = field(default_factory=dict)
    trusted: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    keys_env: str | None = "DUOLOGUE_KEYS"
    decision_timeout_s: float = 2.0
    drain_s: int = 30
    max_choices: int = 8
    limits: Mapping[str, Any] = field(default_factory=dict)
    cors: Sequence[str] = ()
    public_metrics: bool = False
    canary: float = 0.0
    shadow: float = 0.0
    judge: Mapping[str, Any] | None = None
    inference: Mapping[str, Any] = field(default_factory=dict)
    feedback: str | None = None

    def __post_init__(self) -> None:
        if not self.alias.strip():
            raise ValueError("`alias` must be a model name, not empty")
        if self.alias in self.aliases:
            raise ValueError(f"`aliases` holds `{self.alias}`, which `alias` names already")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"`port` must lie in 0 to 65535, not {self.port}")
        for name in ("canary", "shadow"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be a share from 0 to 1, not {getattr(self, name)}")
        if self.shadow and not self.judge:
            raise ValueError("`shadow` needs a judge: add `judge=pairwise`")
        if self.decision_timeout_s <= 0:
            raise ValueError(f"`decision_timeout_s` must be above 0, not {self.decision_timeout_s}")

    def keys(self) -> list[str]:
        """The keys that clients must send; none are needed where only this machine can ask.

        Raises:
            ConfigError: If there are none and others could ask, too.
        """
        held = os.environ.get(self.keys_env, "") if self.keys_env else ""
        keys = [key.strip() for key in held.split(",") if key.strip()]
        if not keys and not on_loopback(self.host):
            raise ConfigError(
                f"`host={self.host}` lets others ask, and no keys are set: `export {self.keys_env or 'DUOLOGUE_KEYS'}=…` "
                "(several are separated by commas), or listen on 127.0.0.1"
            )
        return keys


def serve(config: Mapping[str, Any], folder: Path) -> None:
    """Serves until SIGINT or SIGTERM; running requests are still answered.

    Args:
        config: The resolved configuration.
        folder: Not used: a server leaves nothing.

    Raises:
        ConfigError: If a value is refused, a bundle cannot be loaded, or the address cannot be had.
    """
    settings = construct(Settings, config, "serve")
    _allow_open_files()
    th.set_num_threads(1)  # a decision is a small product: several threads only wait for each other
    asked = {"keys": settings.keys(), "cors": settings.cors, "public_metrics": settings.public_metrics}
    limits = construct(Limits, {**settings.limits, **asked}, "limits")
    client = InferenceClient()
    try:
        service = make_service(settings, client)
        feedback = None if settings.feedback is None else Feedback(Path(settings.feedback).expanduser())
        listener = _listen(settings.host, settings.port)
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again when it has drained: that is the end
            signal.signal(number, lambda *_: None)
        served = Config(build_app(service, limits, feedback), limits, service.metrics, settings.drain_s)
        with _log(), calm_collection():  # a walk through torch's modules holds up every answer
            Server(served, lambda: _announce(service, url, bool(limits.keys))).run(sockets=[listener])
    finally:
        client.close()


def make_service(settings: Settings, client: InferenceClient) -> Service:
    """Loads the bundles.

    Args:
        settings: The command's settings.
        client: Asks endpoints.

    Returns:
        The service.

    Raises:
        ConfigError: If one cannot be loaded, or an endpoint's setting is refused.
    """
    first = {"policy": settings.policy, "upstream": settings.upstream, "trusted": settings.trusted}
    aliases, upstreams, writers = {}, {}, {}
    routes: dict[tuple[str, str], Upstream] = {}
    for name, values in {settings.alias: first, **settings.aliases}.items():
        where = f"aliases.{name}"
        if not isinstance(values, Mapping) or not values.get("policy"):
            raise ConfigError(f"`{where}` must hold `policy`, a bundle's folder, not {values!r}")
        if unknown := set(values) - {"policy", "upstream", "trusted"}:
            raise ConfigError(f"`{where}.{min(unknown)}` is not a setting: known: `policy`, `upstream`, `trusted`")
        if holds_adapter(place := Path(values["policy"]).expanduser()):
            if values.get("upstream") or settings.canary or settings.shadow:
                raise ConfigError(
                    f"`{name}` is a local model with an adapter, so there is no frozen model behind it: leave `upstream`, `canary` and "
                    "`shadow` out"
                )
            writers[name] = WriterAlias(name, place)
            continue
        bundle = load_bundle(place, client, trusted=bool(values.get("trusted")))
        endpoint = bundle.endpoint(values.get("upstream"), capped=False)
        endpoint.api_key()  # a missing key must show now, not at the first request
        aliases[name] = Alias.of(name, bundle, endpoint, client, settings.decision_timeout_s)
        upstreams[name] = Upstream(endpoint)
        for route, other in aliases[name].routes.items():
            other.api_key()
            routes[name, route] = Upstream(other)
    service = Service(
        aliases, upstreams, routes, max_choices=settings.max_choices, canary=settings.canary, writers=writers
    )
    if settings.shadow:
        asked = settings.inference.get("judge")
        judges = {"judge": Endpoint.from_settings(asked, "inference.judge")} if asked else {}
        context = JudgeContext(client, {"assistant": upstreams[settings.alias].endpoint, **judges})
        judge = plugins().build(settings.judge or {}, "judge", context)
        service.watch = Watch(judge, settings.shadow, client, service.metrics)
    return service


def _allow_open_files() -> None:
    """Raises the number of files that the process may open: each request has two connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2**16 if hard == resource.RLIM_INFINITY else min(hard, 2**16)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _log() -> Iterator[None]:
    """Writes the log to standard error; texts from outside cannot steer the terminal, nor begin a line."""

    class OneLine(logging.Formatter):
        def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
            return printable(" ".join(super().formatMessage(record).splitlines()))

    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    levels = {"duologue.serving": logging.INFO, "uvicorn.error": logging.ERROR}
    loggers = {logging.getLogger(name): level for name, level in levels.items()}
    before = {logger: (logger.level, logger.propagate, logger.disabled) for logger in loggers}
    for logger, level in loggers.items():
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = logger.disabled = False
    try:
        yield
    finally:
        for logger, (level, propagate, disabled) in before.items():
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port} ({error.strerror}): choose another `port`, or 0") from error
    return listener


def _announce(service: Service, url: str, with_keys: bool) -> None:
    """Prints how to use the server."""
    console = Console()
    names: Sequence[str] = [*service.own, *service.base_models]
    lines = [
        f"Serving {', '.join(names)} at {url}",
        f'  curl {url}/chat/completions -H "Content-Type: application/json" \\',
    ]
    lines += ['    -H "Authorization: Bearer $KEY" \\'] if with_keys else []
    lines += [f'    -d \'{{"model": "{names[0]}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\'']
    lines += ["Metrics are at /metrics; Ctrl-C or SIGTERM ends it when the requests under way are answered."]
    for line in lines:
        say(line, console)
