"""Places, turns, pauses and quotas of one endpoint, on a clock of the test's own where time matters."""

import asyncio
from collections import Counter

import pytest

from duologue.inference.transport.limiter import FIRST_PAUSE_S, LONGEST_PAUSE_S, Limiter


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_no_more_than_allowed_are_under_way():
    async def main():
        gate = Limiter(3)
        most = now = 0

        async def work():
            nonlocal most, now
            place = await gate.enter("assistant")
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1
            gate.leave(place, status=200)

        await asyncio.gather(*(work() for _ in range(20)))
        return most, gate.under_way["assistant"]

    assert asyncio.run(main()) == (3, 0)


def test_those_who_wait_are_served_in_order():
    async def main():
        gate, order = Limiter(1), []

        async def work(number):
            place = await gate.enter("assistant")
            order.append(number)
            gate.leave(place, status=200)

        await asyncio.gather(*(work(i) for i in range(10)))
        return order

    assert asyncio.run(main()) == list(range(10))


def test_a_role_that_waits_alone_does_not_wait_for_the_crowd_of_another():
    """1,000 generations wait; a judge that comes last is among the next to be let in."""

    async def main():
        gate, order = Limiter(4), []

        async def work(role):
            place = await gate.enter(role)
            order.append(role)
            await asyncio.sleep(0)
            gate.leave(place, status=200)

        crowd = [asyncio.create_task(work("assistant")) for _ in range(1000)]
        await asyncio.sleep(0)
        judge = asyncio.create_task(work("judge"))
        await judge
        served_before = len(order)
        await asyncio.gather(*crowd)
        return served_before

    assert asyncio.run(main()) <= 16


def test_roles_that_both_wait_share_the_places_evenly():
    async def main():
        gate, served = Limiter(4), Counter()

        async def work(role):
            place = await gate.enter(role)
            served[role] += 1
            await asyncio.sleep(0)
            gate.leave(place, status=200)

        tasks = [asyncio.create_task(work(role)) for role in ["assistant"] * 400 + ["judge"] * 100]
        while served["judge"] < 100:
            await asyncio.sleep(0)
        before = dict(served)
        await asyncio.gather(*tasks)
        return before

    assert asyncio.run(main())["assistant"] == pytest.approx(100, abs=10)


def test_who_goes_away_while_waiting_takes_no_place():
    async def main():
        gate = Limiter(1)
        place = await gate.enter("assistant")
        waiting = [asyncio.create_task(gate.enter("assistant")) for _ in range(3)]
        await settle()
        waiting[0].cancel()
        await settle()
        gate.leave(place, status=200)
        waiting[1].cancel()  # granted a moment ago, and cancelled before it could notice
        await settle()
        assert waiting[2].done()
        gate.leave(waiting[2].result(), status=200)
        return sum(gate.under_way.values()), gate.try_enter("assistant") is not None

    assert asyncio.run(main()) == (0, True)


def test_a_server_that_names_a_time_is_left_alone_until_then():
    async def main():
        clock = Clock()
        gate = Limiter(8, clock=clock)
        first = gate.try_enter("assistant")
        gate.leave(first, status=429, retry_after_s=5.0)
        assert gate.try_enter("assistant") is None
        clock.now += 4.9
        assert gate.try_enter("assistant") is None
        clock.now += 0.2
        assert gate.try_enter("assistant") is not None
        gate.leave(first, status=503, retry_after_s=3600.0)
        clock.now += LONGEST_PAUSE_S + 0.1
        assert gate.try_enter("assistant") is not None

    asyncio.run(main())


def test_refusals_without_a_time_pause_longer_each_round_until_a_good_answer():
    clock, pauses = Clock(), []
    gate = Limiter(8, clock=clock)

    def refused():
        place = gate.try_enter("assistant")
        start = clock.now
        gate.leave(place, status=429)
        while (again := gate.try_enter("assistant")) is None:
            clock.now += 0.01
        gate.leave(again)
        return clock.now - start

    pauses = [refused() for _ in range(4)]
    for round_, pause in enumerate(pauses):
        assert FIRST_PAUSE_S * 2**round_ / 2 <= pause + 0.01
        assert pause <= FIRST_PAUSE_S * 2**round_ + 0.02
    gate.leave(gate.try_enter("assistant"), status=200)
    clock.now += 0.01
    assert refused() <= FIRST_PAUSE_S + 0.02


def test_a_refusal_of_a_thousand_pauses_once_and_halves_once():
    clock = Clock()
    gate = Limiter(1000, clock=clock)
    places = [gate.try_enter("assistant") for _ in range(1000)]
    clock.now += 0.1
    for place in places:
        gate.leave(place, status=429)
    assert gate.limit.value == 500
    clock.now += FIRST_PAUSE_S + 0.01
    assert gate.try_enter("assistant") is not None


def test_a_pause_ends_by_itself_for_those_who_wait():
    async def main():
        gate = Limiter(2)
        gate.leave(await gate.enter("assistant"), status=429, retry_after_s=0.05)
        start = asyncio.get_running_loop().time()
        await asyncio.wait_for(gate.enter("assistant"), 5)
        return asyncio.get_running_loop().time() - start

    assert asyncio.run(main()) >= 0.045


def test_requests_a_minute_are_held():
    async def main():
        gate = Limiter(100, requests_per_minute=60 * 50)
        start = asyncio.get_running_loop().time()

        async def work():
            gate.leave(await gate.enter("assistant"), status=200)

        await asyncio.gather(*(work() for _ in range(60)))
        return asyncio.get_running_loop().time() - start

    assert asyncio.run(main()) >= 0.19  # fifty at once, ten more at 50 a second


def test_tokens_a_minute_are_held_and_settled_by_what_was_counted():
    clock = Clock()
    gate = Limiter(100, tokens_per_minute=60_000, clock=clock)  # 1,000 a second
    place = gate.try_enter("assistant", tokens=3000)
    assert gate.try_enter("assistant", tokens=10) is None
    gate.leave(place, status=200, tokens=500)
    assert gate.try_enter("assistant", tokens=400) is not None
    clock.now += 0.01
    assert gate.try_enter("assistant", tokens=200) is not None
    assert gate.try_enter("assistant", tokens=1) is None


def test_timeouts_lower_the_limit_and_nothing_else_does():
    clock = Clock()
    gate = Limiter(8, clock=clock)
    for status in (400, 401, 404, 500, None):
        gate.leave(gate.try_enter("assistant"), status=status)
        assert gate.limit.value == 8
    clock.now += 1
    gate.leave(gate.try_enter("assistant"), timed_out=True)
    assert gate.limit.value == 4


def test_without_adaptation_the_limit_stays_and_the_servers_word_holds():
    clock = Clock()
    gate = Limiter(8, adaptive=False, clock=clock)
    gate.leave(gate.try_enter("assistant"), status=429)
    assert gate.limit.value == 8
    assert gate.try_enter("assistant") is not None
    gate.leave(gate.try_enter("assistant"), status=429, retry_after_s=1.0)
    assert gate.try_enter("assistant") is None
