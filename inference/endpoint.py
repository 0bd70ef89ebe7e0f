"""An endpoint: address, name of the key's variable, sampling defaults, limits and price."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import ConfigError, EndpointRefused
from ..core.settings import construct

EMBEDDED = "embedded"
"""The scheme of addresses that `inference.embedded` serves from this machine."""

NO_ROLES = ("cassette", "budget", "retries")
"""What else stands among the roles in the configuration's part ``inference``."""

NO_KEY = "none"
"""Sent where a server asks for no key: the client library insists on one."""


@dataclass(frozen=True)
class Sampling:
    """Sampling of a completion. None leaves a field out of the request, so that the server's default holds."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    """Sent as ``seed + sample_index``, so that samples of one prompt differ and can be made again."""
    stop: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request's body, for servers with parameters of their own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop or ()))
        object.__setattr__(self, "extra", dict(self.extra or {}))
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"`max_tokens` must be at least 1, not {self.max_tokens}")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"`temperature` must be at least 0, not {self.temperature}")

    def body(self, sample_index: int) -> dict[str, Any]:
        """The request's fields for one sample."""
        if self.seed is None or "seed" in self.extra:
            return dict(self._fields)
        return self._fields | {"seed": self.seed + sample_index}

    @cached_property
    def _fields(self) -> dict[str, Any]:
        """The fields of the first sample."""
        values: dict[str, Any] = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        values |= {"seed": self.seed, "stop": self.stop or None}
        return {name: value for name, value in values.items() if value is not None} | dict(self.extra)


@dataclass(frozen=True)
class Price:
    """Prices in US dollars, per request and per token; both may be set."""

    per_request_usd: float = 0.0
    per_million_prompt_tokens_usd: float = 0.0
    per_million_completion_tokens_usd: float = 0.0

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The cost of one request."""
        prompt = prompt_tokens * self.per_million_prompt_tokens_usd
        completion = completion_tokens * self.per_million_completion_tokens_usd
        return self.per_request_usd + (prompt + completion) / 1e6


@dataclass(frozen=True)
class Endpoint:
    """One model behind an OpenAI-compatible API.

    Args:
        base_url: Address up to and including ``/v1``; or ``embedded://smollm2`` for the model that runs here.
        model: The name that the server knows it by.
        api_key_env: Name of the environment variable that holds the key; never the key itself. None for servers
            that ask for none.
        sampling: Defaults of every request.
        price: Price for the reported cost; zero if unknown.
        max_concurrency: Requests under way at once, at most.
        requests_per_minute: The provider's quota of requests; None for none.
        tokens_per_minute: The provider's quota of prompt and completion tokens together; None for none.
        adaptive: Whether fewer requests are sent at once while the endpoint refuses them (429, 503, timeouts) or
            while its latency collapses.
        timeout_s: Seconds that one attempt may take.
        deadline_s: Seconds that one call may take with all its attempts and the pauses between them; waiting for
            a place (``max_concurrency``, quotas, a pause that the server asked for) does not count.
        max_retries: Further attempts after a failure that may pass (408, 409, 429, 5xx, disconnects).
    """

    base_url: str
    model: str
    api_key_env: str | None = "OPENAI_API_KEY"
    sampling: Sampling = field(default_factory=Sampling)
    price: Price = field(default_factory=Price)
    max_concurrency: int = 32
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    adaptive: bool = True
    timeout_s: float = 60.0
    deadline_s: float = 300.0
    max_retries: int = 4

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https", EMBEDDED) or not parts.netloc:
            raise ValueError(f"`base_url` must be like https://host/v1, not {self.base_url!r}")
        _ = parts.port  # raises ValueError itself, with the reason
        if parts.username or parts.password:
            raise ValueError("`base_url` must not hold a password; name a variable in `api_key_env`")
        for name, least in (("max_concurrency", 1), ("max_retries", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, not {getattr(self, name)}")
        for name in ("timeout_s", "deadline_s", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"`{name}` must be a number above 0, not {value}")
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> Endpoint:
        """Builds an endpoint from YAML values; errors carry ``where``."""
        if not isinstance(settings, Mapping):
            raise ConfigError(f"`{where}` must hold settings by name, such as `base_url` and `model`, not {settings!r}")
        values = dict(settings)
        for name, part in (("sampling", Sampling), ("price", Price)):
            values[name] = construct(part, values.get(name) or {}, f"{where}.{name}")
        return construct(cls, values, where)

    def to_settings(self) -> dict[str, Any]:
        """The inverse of `from_settings`: plain values that JSON and YAML can hold."""
        settings = asdict(self)
        settings["sampling"]["stop"] = list(self.sampling.stop)
        return settings

    @property
    def embedded(self) -> bool:
        """Whether Duologue serves the model on this machine."""
        return self.base_url.startswith(f"{EMBEDDED}://")

    @property
    def local(self) -> bool:
        """Whether the address is on this machine."""
        return self.embedded or _on_this_machine(self.base_url)

    @cached_property
    def identity(self) -> str:
        """Identity in the cassette: address and model."""
        return f"{self.base_url} {self.model}"

    def api_key(self) -> str:
        """Reads the key from the environment.

        Returns:
            The key, or ``none`` where the server asks for none: ``api_key_env`` is None, or the address is
            this machine and the variable is not set.

        Raises:
            EndpointRefused: If the variable is not set or empty, or holds what is no key.
        """
        if self.api_key_env is None or self.embedded:
            return NO_KEY
        key = os.environ.get(self.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise EndpointRefused(
                f"the key in `{self.api_key_env}` holds a character that no request can carry: copy it again"
            )
        if key or _on_this_machine(self.base_url):
            return key or NO_KEY
        raise EndpointRefused(
            f"no API key for {self.base_url}: the environment variable `{self.api_key_env}` is not set. "
            f"Run `export {self.api_key_env}=…`, or set `api_key_env` to the variable that holds the key, "
            "or to null for a server without keys"
        )


def joined(base_url: str, path: str) -> str:
    """An address with a path after its own; a query stays at the end."""
    parts = urlsplit(base_url)
    return parts._replace(path=parts.path.rstrip("/") + path).geturl() if parts.query else base_url + path


@lru_cache
def _on_this_machine(base_url: str) -> bool:
    return urlsplit(base_url).hostname in ("localhost", "127.0.0.1", "::1")


def endpoints_from_settings(settings: Mapping[str, Any], where: str = "inference") -> dict[str, Endpoint]:
    """Builds the endpoints of all roles; a role that is null shares the assistant's.

    Args:
        settings: Role (``assistant``, ``judge``, ``user``, ``baseline``) to endpoint values, or to an `Endpoint`; `NO_ROLES`
            are skipped.
        where: The settings' place in the configuration.

    Returns:
        Role to endpoint.

    Raises:
        ConfigError: If there is no assistant or a value is refused.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"`{where}` must hold endpoints by role, not {settings!r}")
    if not settings.get("assistant"):
        raise ConfigError(f"`{where}.assistant` is missing: it names the model that answers")
    return {
        role: values if isinstance(values, Endpoint) else Endpoint.from_settings(values, f"{where}.{role}")
        for role, values in settings.items()
        if values and role not in NO_ROLES
    }
