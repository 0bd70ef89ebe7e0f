"""The arithmetic of the adaptive limit, and how it finds what a simulated endpoint bears."""

import heapq
import random

import pytest

from duologue.inference.transport.limiter import COLLAPSE_CUT, CUT, WINDOW, AdaptiveLimit


def test_it_starts_at_what_is_allowed_and_never_exceeds_it():
    limit = AdaptiveLimit(8)
    for now in range(1000):
        limit.answered(float(now), 0.1, full=True)
        assert limit.value == 8


def test_a_refusal_halves_and_a_round_of_them_halves_once():
    limit = AdaptiveLimit(64)
    assert limit.refused(10.0, sent_at=9.5)
    assert [limit.refused(10.0 + i / 100, sent_at=9.9) for i in range(50)] == [False] * 50
    assert limit.value == 64 * CUT
    assert limit.refused(11.0, sent_at=10.5)
    assert limit.value == 64 * CUT**2


def test_it_never_falls_below_one():
    limit = AdaptiveLimit(4)
    for now in range(20):
        limit.refused(float(now), sent_at=float(now))
    assert limit.value == 1


def test_one_more_for_every_round_of_good_answers():
    limit = AdaptiveLimit(64)
    limit.refused(0.0, 0.0)
    for i in range(32):
        limit.answered(1.0 + i / 100, 0.1, full=True)
    assert limit.value == pytest.approx(33, abs=0.05)


def test_an_idle_endpoint_tells_nothing():
    limit = AdaptiveLimit(64)
    limit.refused(0.0, 0.0)
    for i in range(1000):
        limit.answered(1.0 + i, 0.1, full=False)
    assert limit.value == 32


def feed(limit, start, n, latency_s, per_s):
    for i in range(n):
        limit.answered(start + i / per_s, latency_s, full=True)
    return start + n / per_s


def test_a_collapse_of_latency_lowers_the_limit_once():
    limit = AdaptiveLimit(16)
    now = feed(limit, 0.0, 3 * WINDOW, 0.2, per_s=80)
    assert limit.value == 16
    feed(limit, now, WINDOW + 1, 2.0, per_s=8)
    assert limit.value == pytest.approx(16 * COLLAPSE_CUT, abs=0.2)


def test_slower_answers_at_an_undiminished_rate_are_no_collapse():
    """A server that batches answers more slowly when more is asked, and that is what it is for."""
    limit = AdaptiveLimit(16)
    now = feed(limit, 0.0, 3 * WINDOW, 0.2, per_s=80)
    feed(limit, now, 3 * WINDOW, 2.0, per_s=80)
    assert limit.value == 16


def test_noise_is_no_collapse():
    """Log-normal latencies with sigma 1.2, a hundred windows: never cut."""
    rng = random.Random(0)
    limit = AdaptiveLimit(32)
    done, now = [], 0.0
    for _ in range(32):
        heapq.heappush(done, (rng.lognormvariate(-1.5, 1.2), 0.0))
    for _ in range(100 * WINDOW):
        now, sent = heapq.heappop(done)
        limit.answered(now, now - sent, full=True)
        heapq.heappush(done, (now + rng.lognormvariate(-1.5, 1.2), now))
    assert limit.value == 32


def test_it_settles_near_what_an_endpoint_bears():
    """An endpoint that refuses whatever is above 20 at once; the user allows 200."""
    rng = random.Random(1)
    limit, capacity = AdaptiveLimit(200), 20
    under_way: list[tuple[float, float, bool]] = []
    now, refused, good, history = 0.0, 0, 0, []
    while now < 120:
        while len(under_way) < int(limit.value):
            busy = sum(accepted for *_, accepted in under_way)
            accepted = busy < capacity
            heapq.heappush(under_way, (now + (rng.uniform(0.5, 1.5) if accepted else 0.01), now, accepted))
        now, sent, accepted = heapq.heappop(under_way)
        if accepted:
            limit.answered(now, now - sent, full=True)
        else:
            limit.refused(now, sent)
        if now > 60:
            history.append(limit.value)
            good, refused = good + accepted, refused + (not accepted)
    assert 10 <= sum(history) / len(history) <= 21
    assert good > 0.7 * 60 * capacity  # of what the endpoint could have answered
    assert refused < 0.1 * good
