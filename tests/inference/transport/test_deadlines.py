"""Time limits end what they should, when they should, and nothing else."""

import asyncio
import time

import pytest

from duologue.inference.transport.connections import Deadlines


def test_what_takes_too_long_is_ended_and_what_does_not_is_left_alone():
    async def scenario():
        deadlines = Deadlines()

        async def sleeper(limit_s, sleep_s):
            began = time.monotonic()
            try:
                with deadlines.limit(limit_s):
                    await asyncio.sleep(sleep_s)
            except TimeoutError:
                return time.monotonic() - began
            return None

        return await asyncio.gather(
            *(sleeper(limit, sleep) for limit, sleep in [(9, 0), (0.2, 9), (0.05, 9), (9, 0.1)])
        )

    quick, long, short, other = asyncio.run(scenario())
    assert quick is other is None
    assert 0.05 <= short < 0.2 <= long < 1


def test_a_limit_is_kept_although_the_one_that_set_the_timer_has_ended():
    async def scenario():
        deadlines = Deadlines()
        with deadlines.limit(0.01):
            pass
        with pytest.raises(TimeoutError), deadlines.limit(0.05):
            await asyncio.sleep(9)

    asyncio.run(scenario())


def test_whoever_is_cancelled_from_outside_is_cancelled():
    async def scenario():
        deadlines = Deadlines()

        async def waits():
            with deadlines.limit(0.05):
                await asyncio.sleep(9)

        early, both = asyncio.create_task(waits()), asyncio.create_task(waits())
        await asyncio.sleep(0.01)
        early.cancel()
        time.sleep(0.1)  # the limit is over and the cancellation comes in the same round of the loop  # noqa: ASYNC251
        asyncio.get_running_loop().call_soon(both.cancel)
        ended = await asyncio.gather(early, both, return_exceptions=True)
        assert isinstance(ended[0], asyncio.CancelledError)
        assert isinstance(ended[1], asyncio.CancelledError | TimeoutError)

    asyncio.run(scenario())


def test_limits_can_be_nested_and_an_error_passes_through():
    async def scenario():
        deadlines = Deadlines()
        with pytest.raises(TimeoutError), deadlines.limit(0.02), deadlines.limit(9):
            await asyncio.sleep(9)
        with pytest.raises(KeyError, match="mine"), deadlines.limit(9):
            raise KeyError("mine")
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    asyncio.run(scenario())


def test_a_limit_outside_a_task_is_an_error():
    with pytest.raises(RuntimeError), Deadlines().limit(1):
        pass
