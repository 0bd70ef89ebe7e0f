"""One budget for all workers of a sweep."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from .budget import Amount, Budget, Limits
from .errors import BudgetSpent, CassetteError
from .pot import STALE_S, Pot, Refusal

_AGAIN_S = 0.2
"""Between two looks whether other workers gave something back."""


class SharedBudget(Budget):
    """Limits that hold for all workers together; `spent` is this worker's own share.

    Args:
        pot: The common account.
        limits: For all workers.
        roles: For single roles, on top.
    """

    def __init__(self, pot: Pot, limits: Limits | None = None, roles: Mapping[str, Limits] | None = None) -> None:
        super().__init__(limits, roles)
        self._pot = pot
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="duologue-budget")  # of one thread: in order
        self._beating: asyncio.Task[None] | None = None
        self._broken: BaseException | None = None

    async def reserve(self, role: str, amount: Amount) -> None:
        """Sets an amount aside; waits while this or another worker may give back what is missing.

        Raises:
            BudgetSpent: If it does not fit, and nothing is set aside that could come back.
            CassetteError: If the common account cannot be used, or could not be when something was settled.
        """
        if self._broken is not None:
            raise CassetteError(str(self._broken)) from self._broken
        while (refusal := await self._take(role, amount)) is not None:
            if not refusal.may_come_back:
                raise BudgetSpent(self._worded(role, refusal.reason, refusal.total, " by all workers"))
            await asyncio.sleep(_AGAIN_S)
        self._open[role] += 1
        self._held[role] = self._held.get(role, Amount()) + amount
        self._book(role, amount)
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat())

    async def _take(self, role: str, amount: Amount) -> Refusal | None:
        def over(spent: Mapping[str, Amount]) -> str | None:
            return self._over(role, amount, spent)

        def give_back(ended: Future[Refusal | None]) -> None:
            if not ended.cancelled() and ended.exception() is None and ended.result() is None:
                self._submit(role, Amount() - amount)

        taking = self._thread.submit(self._pot.take, role, amount, over)
        try:
            return await asyncio.shield(asyncio.wrap_future(taking))
        except asyncio.CancelledError:
            taking.add_done_callback(give_back)  # whoever asked went away: what was set aside must not stay so
            raise

    def settle(self, role: str, reserved: Amount, actual: Amount) -> None:
        """Books what was really spent in place of what was set aside."""
        super().settle(role, reserved, actual)
        self._submit(role, actual - reserved)

    def _submit(self, role: str, difference: Amount) -> None:
        with suppress(RuntimeError):  # the run is over: what is set aside stays booked, which errs on the safe side
            self._thread.submit(self._pot.settle, role, difference).add_done_callback(self._note)

    def _note(self, settled: Future[Any]) -> None:
        """Remembers the first failure to book something; the next request raises it."""
        if self._broken is None and not settled.cancelled():
            self._broken = settled.exception()

    async def _beat(self) -> None:
        """While something is set aside, says now and then that this worker lives."""
        while self._open.total():
            await asyncio.sleep(STALE_S / 6)
            self._thread.submit(self._pot.beat).add_done_callback(self._note)

    def close(self) -> None:
        """Books what is on its way, and closes the common account; warns if anything could not be booked."""
        self._thread.shutdown(wait=True)
        self._pot.close()
        if self._broken is not None:
            warnings.warn(f"the shared budget lacks what was spent last: {self._broken}", stacklevel=2)
