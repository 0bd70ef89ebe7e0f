"""Budgets of a run: limits on requests, tokens and money, by role and in total.

An amount that is certainly enough is set aside before a request is sent, and what it really cost is booked when the answer
is there. What is set aside near a limit may come back, so a request waits for it before the run is ended.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ...core.errors import BudgetSpent
from ..endpoint import Price


@dataclass(frozen=True)
class Limits:
    """At most so many requests, tokens (prompt and completion together) and US dollars; None is no limit."""

    requests: int | None = None
    tokens: int | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None and not value >= 0:
                raise ValueError(f"`{entry.name}` must be at least 0 or null, not {value!r}")

    @property
    def any(self) -> bool:
        """Whether there is a limit."""
        return any(getattr(self, entry.name) is not None for entry in fields(self))


@dataclass(frozen=True)
class Amount:
    """Requests, tokens and US dollars."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.requests + other.requests, self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.requests - other.requests, self.tokens - other.tokens, self.usd - other.usd)

    def over(self, limits: Limits) -> str | None:
        """The first limit that is exceeded, in words; None if all are kept."""
        for entry in fields(self):
            value, limit = getattr(self, entry.name), getattr(limits, entry.name)
            if limit is not None and value > limit + 1e-9 * abs(limit):
                return f"{entry.name}={limit:g}"
        return None


@dataclass(frozen=True)
class BudgetSettings:
    """The configuration's part ``inference.budget``.

    Attributes:
        requests: See `Limits`, as the next two.
        tokens: Likewise.
        usd: Likewise.
        roles: Limits of single roles.
        shared: Common store of all workers of a sweep: a SQLite file, or ``postgresql://user@host/database``.
        scope: Name of the sweep, where one database serves several.
    """

    requests: int | None = None
    tokens: int | None = None
    usd: float | None = None
    roles: Mapping[str, Any] = field(default_factory=dict)
    shared: str | None = None
    scope: str = ""


class Budget:
    """Limits, and the amounts spent so far. Used on one event loop only.

    Args:
        limits: Limits of the whole run.
        roles: Additional limits by role.
        spent: Amounts spent before, by role.

    Attributes:
        spent: Amounts by role, reserved ones included.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        roles: Mapping[str, Limits] | None = None,
        spent: Mapping[str, Amount] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.roles = dict(roles or {})
        self.spent: dict[str, Amount] = dict(spent or {})
        self.on_change: Callable[[], None] = lambda: None
        self._open: Counter[str] = Counter()
        self._held: dict[str, Amount] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()

    def close(self) -> None:
        """Closes the budget."""

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.limits.any or any(own.any for own in self.roles.values())

    @property
    def counts_tokens(self) -> bool:
        """Whether a limit needs the length of the longest answer in advance."""
        every = [self.limits, *self.roles.values()]
        return any(limits.tokens is not None or limits.usd is not None for limits in every)

    def limits_money(self, role: str) -> bool:
        """Whether a limit on money holds for a role."""
        own = self.roles.get(role)
        return self.limits.usd is not None or (own is not None and own.usd is not None)

    @property
    def total(self) -> Amount:
        """The amount spent by all roles, reserved amounts included."""
        return sum(self.spent.values(), Amount())

    async def reserve(self, role: str, amount: Amount) -> None:
        """Sets an amount aside; waits while other calls may give back what is missing.

        Args:
            role: Role of the call.
            amount: What the call may use at most.

        Raises:
            BudgetSpent: If it does not fit, even if all came back that is set aside.
        """
        while self._over(role, amount, self.spent) is not None:
            settled = {name: spent - self._held.get(name, Amount()) for name, spent in self.spent.items()}
            if (reason := self._over(role, amount, settled)) is not None:
                raise BudgetSpent(self._worded(role, reason, self.total))
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        self._open[role] += 1
        self._held[role] = self._held.get(role, Amount()) + amount
        self._book(role, amount)

    def settle(self, role: str, reserved: Amount, actual: Amount) -> None:
        """Replaces a reserved amount by the amount spent."""
        self._open[role] -= 1
        self._held[role] = self._held[role] - reserved if self._open[role] else Amount()
        self._book(role, actual - reserved)
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)

    def _book(self, role: str, amount: Amount) -> None:
        self.spent[role] = self.spent.get(role, Amount()) + amount
        self.on_change()

    def _over(self, role: str, amount: Amount, spent: Mapping[str, Amount]) -> str | None:
        total = sum(spent.values(), Amount())
        if (reason := (total + amount).over(self.limits)) is not None:
            return f"inference.budget.{reason}"
        own = self.roles.get(role)
        if own is None or (reason := (spent.get(role, Amount()) + amount).over(own)) is None:
            return None
        return f"inference.budget.roles.{role}.{reason}"

    @staticmethod
    def _worded(role: str, reason: str, total: Amount, whose: str = "") -> str:
        return (
            f"the budget is spent: the next request of the {role} might exceed `{reason}`. Spent so far{whose}: "
            f"{total.requests:,} requests, {total.tokens:,} tokens, ${total.usd:.4f}"
        )


class Overrun:
    """Tracks how far an endpoint's answers exceed the allowed length, for servers that ignore ``max_tokens``.

    The first request goes alone, so that no others rely on a bound that the server does not keep.

    Attributes:
        factor: The largest ratio so far of an answer's tokens to its request's bound; at least 1.
        alone: Held by the request that goes first.
        known: Whether an answer has come.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self.known = False
        self.alone = asyncio.Lock()

    def see(self, completion_tokens: int, longest: int) -> None:
        """Learns from an answer."""
        self.known = True
        self.factor = max(self.factor, completion_tokens / longest)


class Account:
    """The reservations of one call, attempt by attempt.

    Args:
        budget: Where it is booked.
        role: Role of the call.
        most: Upper bound of one attempt's cost.
        price: Price of the endpoint.
        longest: The completion tokens that are part of ``most``.
        overrun: What is known of the endpoint's answers; None where nobody counts their tokens.
    """

    __slots__ = ("_alone", "_budget", "_held", "_longest", "_most", "_overrun", "_price", "_role")

    def __init__(
        self, budget: Budget, role: str, most: Amount, price: Price, longest: int = 0, overrun: Overrun | None = None
    ) -> None:
        self._budget, self._role, self._most, self._price = budget, role, most, price
        self._longest, self._overrun = longest, overrun if longest else None
        self._held: Amount | None = None
        self._alone = False

    async def open(self) -> None:
        """Sets one attempt aside, before it is sent.

        Raises:
            BudgetSpent: If there is no room for it.
        """
        overrun, most = self._overrun, self._most
        if overrun is not None:
            if not overrun.known:
                await self._go_first(overrun)
            further = math.ceil(self._longest * (overrun.factor - 1))
            most += Amount(0, further, self._price.cost_usd(0, further) - self._price.per_request_usd)
        try:
            await self._budget.reserve(self._role, most)
        except BaseException:
            self._release()
            raise
        self._held = most

    async def _go_first(self, overrun: Overrun) -> None:
        """Goes alone, or waits until an answer has come."""
        await overrun.alone.acquire()
        self._alone = True
        if overrun.known:
            self._release()

    def billed(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Settles an answered attempt with the usage that the server reports."""
        cost_usd = self._price.cost_usd(prompt_tokens, completion_tokens)
        if self._overrun is not None:
            self._overrun.see(completion_tokens, self._longest)
        self._close(Amount(1, prompt_tokens + completion_tokens, cost_usd))

    def free(self) -> None:
        """Settles an attempt that was refused or never sent: it is not billed."""
        self._close(Amount())

    def refused(self) -> None:
        """Settles an attempt refused for its content: it counts as a request and is not billed."""
        self._close(Amount(1))

    def unknown(self) -> None:
        """Settles an attempt of unknown outcome: the reserved amount counts."""
        self._close(self._held or Amount())

    def _close(self, actual: Amount) -> None:
        self._release()
        if self._held is not None:
            held, self._held = self._held, None
            self._budget.settle(self._role, held, actual)

    def _release(self) -> None:
        if self._alone and self._overrun is not None:
            self._alone = False
            self._overrun.alone.release()
