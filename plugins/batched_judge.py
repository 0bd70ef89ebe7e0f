"""Runs one judge for many dialogues at once: gathers turns into batches, retries, checks what comes back.

A judge that says `concurrent = True` gets every turn alone and at once instead, so that nobody waits for another's verdict.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..core.concurrency import Batches
from ..core.errors import CallFailed, DuologueError
from .judge import POINTS, Abstain, Failure, Judge, PairwiseJudge, Preference, Score, Turn, Verdict


class BatchedJudge:
    """One judge's seat. Turns that arrive while a batch is being judged form the next one.

    Args:
        name: Name in error messages.
        judge: The scoring judge.
        batch_size: Turns in a batch, at most.
        retries: Further attempts for turns whose verdict was a failure.

    Raises:
        ValueError: If a batch could hold nothing, or retries are negative.
    """

    def __init__(self, name: str, judge: Judge, batch_size: int = 64, retries: int = 1) -> None:
        if batch_size < 1 or retries < 0:
            raise ValueError(
                f"`batch_size` must be at least 1 and `retries` at least 0, not {batch_size} and {retries}"
            )
        self.name = name
        self.judge = judge
        self._retries = retries
        self._batches: Batches[Turn, Verdict] = Batches(self._judge, batch_size)
        self._concurrent = bool(getattr(judge, "concurrent", False))

    async def score(self, turn: Turn) -> Verdict:
        """Judges one turn in a batch with the turns that wait; alone if the judge is concurrent.

        Args:
            turn: The turn.

        Returns:
            The verdict.

        Raises:
            DuologueError: What no retry can mend: a wrong key, a missing recording, a refused setting.
        """
        if self._concurrent:
            return (await self._judge([turn]))[0]
        return await self._batches.ask(turn)

    async def _judge(self, turns: Sequence[Turn]) -> list[Verdict]:
        verdicts = await self._attempt(turns)
        for attempt in range(1, self._retries + 1):
            again = [i for i, verdict in enumerate(verdicts) if isinstance(verdict, Failure)]
            if not again:
                break
            later = [replace(turns[i], attempt=turns[i].attempt + attempt) for i in again]
            for i, verdict in zip(again, await self._attempt(later), strict=True):
                verdicts[i] = verdict
        return verdicts

    async def _attempt(self, turns: Sequence[Turn]) -> list[Verdict]:
        try:
            verdicts = list(await self.judge.score(turns))
        except CallFailed as error:
            return [Failure(str(error))] * len(turns)
        except DuologueError:
            raise
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001  (whatever a stranger's judge does, `sys.exit` too)
            return [Failure.raised(error)] * len(turns)
        if len(verdicts) != len(turns):
            return [Failure(f"returned {len(verdicts)} verdicts for {len(turns)} turns")] * len(turns)
        return [_checked(verdict) for verdict in verdicts]


def _checked(verdict: Any) -> Verdict:
    """Checks a verdict: anything else than a verdict with a finite number becomes a failure."""
    if isinstance(verdict, Abstain | Failure):
        return verdict
    if not isinstance(verdict, Score):
        return Failure(f"returned {type(verdict).__name__} instead of `Score`, `Abstain` or `Failure`")
    try:
        finite = math.isfinite(verdict.value)
    except (TypeError, OverflowError):
        finite = False
    return verdict if finite else Failure(f"the score is {verdict.value!r}")


async def compared(judge: PairwiseJudge, first: Turn, second: Turn) -> Preference | Failure:
    """Compares one pair in one order; an error of the judge becomes a failure.

    Args:
        judge: The judge.
        first: The turn shown first.
        second: The turn shown second.

    Returns:
        The preference, or the failure.

    Raises:
        DuologueError: What no retry can mend.
    """
    try:
        answers = list(await judge.compare([(first, second)]))
    except CallFailed as error:
        return Failure(str(error))
    except DuologueError:
        raise
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001  (whatever a stranger's judge does, `sys.exit` too)
        return Failure.raised(error)
    if len(answers) != 1:
        return Failure(f"returned {len(answers)} preferences for 1 pair")
    answer: Any = answers[0]
    if isinstance(answer, Failure):
        return answer
    if not isinstance(answer, Preference) or answer.winner not in POINTS:
        return Failure(f"returned {answer!r}, not a `Preference` with the winner {', '.join(POINTS)}, nor a `Failure`")
    if answer.score is not None and not 0 <= answer.score <= 1:
        return Failure(f"the preference's score is {answer.score!r}, not in [0, 1]")
    return answer
