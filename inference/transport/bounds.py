"""Client-wide budget, retry budget and stop flag."""

from __future__ import annotations

import asyncio
import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import ConfigError, RunStopped
from ..budget.budget import Account, Amount, Budget, Overrun
from ..endpoint import Endpoint, Price
from .retries import RetryBudget

LONGEST = ("max_tokens", "max_completion_tokens")
"""The request's fields that bound an answer."""


@dataclass
class Bounds:
    """The bounds of one client.

    Attributes:
        budget: Limits of the run; None for no limits.
        retries: Retries of the whole run.
        stopped: Why no further call is begun; None while the run goes on.
    """

    budget: Budget | None = None
    retries: RetryBudget = field(default_factory=RetryBudget)
    stopped: RunStopped | None = None
    _under_way: int = 0
    _idle: asyncio.Event | None = None
    _overruns: dict[str, Overrun] = field(default_factory=dict)
    _unpriced: set[str] = field(default_factory=set)

    def check(self) -> None:
        """Refuses a call if the run was stopped.

        Raises:
            RunStopped: As it was given.
        """
        if self.stopped is not None:
            raise copy.copy(self.stopped)  # one object raised by a thousand calls would hold all their frames

    def __enter__(self) -> None:
        """A call begins."""
        self._under_way += 1

    def __exit__(self, *error: object) -> None:
        self._under_way -= 1
        if not self._under_way and self._idle is not None:
            self._idle.set()

    async def idle(self) -> None:
        """Waits until no call is running."""
        while self._under_way:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def account(self, endpoint: Endpoint, role: str, body: Mapping[str, Any], content: bytes) -> Account | None:
        """Opens the budget's account of one call.

        A prompt has no more tokens than its request has bytes, since every token stands for at least one.

        Args:
            endpoint: Called endpoint, for its price.
            role: Role of the call.
            body: The request.
            content: The request as bytes.

        Returns:
            The account; None without a budget.

        Raises:
            ConfigError: If there is a limit on tokens or money, and the request does not bound its answer.
        """
        if self.budget is None:
            return None
        longest = 0
        if "messages" in body:
            named = [body[name] for name in LONGEST if isinstance(body.get(name), int)]
            if not named and self.budget.counts_tokens:
                raise ConfigError(
                    "`inference.budget` limits tokens or money, which cannot be kept while answers have no bound: set "
                    f"`sampling.max_tokens` of model `{endpoint.model}`"
                )
            longest = max(named, default=0) * int(body.get("n") or 1)
        most = Amount(1, len(content) + longest, endpoint.price.cost_usd(len(content), longest))
        if self.budget.limits_money(role):
            self._ask_for_price(endpoint)
        overrun = self._overruns.setdefault(endpoint.identity, Overrun()) if self.budget.counts_tokens else None
        return Account(self.budget, role, most, endpoint.price, longest, overrun)

    def _ask_for_price(self, endpoint: Endpoint) -> None:
        """Warns once of a model that costs nothing although money is limited; what runs on this machine may."""
        if endpoint.price != Price() or endpoint.local or endpoint.identity in self._unpriced:
            return
        self._unpriced.add(endpoint.identity)
        warnings.warn(
            f"a limit on money does not hold for model `{endpoint.model}` at {endpoint.base_url}, which has no price: "
            "set its `price`, such as `price.per_million_prompt_tokens_usd=0.1`",
            stacklevel=2,
        )
