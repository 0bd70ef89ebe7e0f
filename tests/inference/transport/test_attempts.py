"""A call's clock: it stands still at the gate; and what a server says of when to come back."""

import asyncio
import email.utils

import pytest

from duologue.inference.transport.attempts import Attempts
from duologue.inference.transport.connections import Answer
from duologue.inference.transport.limiter import Limiter
from duologue.inference.transport.retries import retry_after


def answer(*headers, status=429, body=b""):
    return Answer(status, headers, body)


def test_waiting_for_a_place_is_neither_latency_nor_deadline():
    async def main():
        gate = Limiter(1)
        first = await gate.enter("assistant")
        asyncio.get_running_loop().call_later(0.2, gate.leave, first)
        attempts = Attempts(gate, "assistant", 5.0, 0.15)
        place = await attempts.begin()
        await asyncio.sleep(0.02)
        attempts.answered(place, answer(status=200))
        return attempts.latency_s

    assert 0.02 <= asyncio.run(main()) < 0.15


def test_no_attempt_is_begun_after_a_pause_that_exceeds_the_deadline():
    async def main():
        attempts = Attempts(Limiter(1), "assistant", 5.0, 10.0)
        attempts.answered(await attempts.begin(), answer(status=500))
        return await attempts.retry(answer((b"retry-after", b"60"))), attempts.retries

    assert asyncio.run(main()) == (False, 0)


def test_the_first_attempt_alone_is_bounded_by_the_deadline():
    assert Attempts(Limiter(1), "assistant", 60.0, 5.0).bound_s == 5.0
    assert Attempts(Limiter(1), "assistant", 5.0, 60.0).bound_s == 5.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([(b"Retry-After", b"7")], 7.0),
        ([(b"retry-after", b"0.5")], 0.5),
        ([(b"retry-after", b"7"), (b"retry-after-ms", b"250")], 0.25),
        ([(b"retry-after", b"7"), (b"retry-after-ms", b"soon")], 7.0),
        ([(b"retry-after", b"soon")], None),
        ([(b"retry-after", b"nan")], None),
        ([(b"retry-after", b"inf")], None),
        ([(b"retry-after", email.utils.formatdate(1_000_030, usegmt=True).encode())], 30.0),
        ([(b"retry-after", b"Fri, 99 Foo 2026 00:00:00 GMT")], None),
    ],
)
def test_when_to_come_back(headers, expected):
    found = retry_after(answer(*headers), now=1_000_000.0)
    assert found == (None if expected is None else pytest.approx(expected))
