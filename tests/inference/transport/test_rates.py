import pytest

from duologue.inference.transport.limiter import TokenBucket


def test_what_is_in_the_bucket_goes_at_once_and_then_at_the_rate():
    bucket = TokenBucket(per_minute=600)  # ten a second, and the bucket holds a second's worth
    for _ in range(10):
        assert bucket.delay_s(0.0) == 0
        bucket.take(1)
    assert bucket.delay_s(0.0) == pytest.approx(0.1)
    assert bucket.delay_s(0.05) == pytest.approx(0.05)
    assert bucket.delay_s(0.1) == pytest.approx(0, abs=1e-9)


def test_a_slow_rate_lets_one_through():
    bucket = TokenBucket(per_minute=6)
    assert bucket.delay_s(0.0) == 0
    bucket.take(1)
    assert bucket.delay_s(0.0) == pytest.approx(10)


def test_more_than_it_holds_is_waited_out_by_those_who_come_later():
    bucket = TokenBucket(per_minute=600)
    assert bucket.delay_s(0.0) == 0
    bucket.take(30)
    assert bucket.delay_s(0.0) == pytest.approx(2.1)


def test_what_was_not_used_is_put_back():
    bucket = TokenBucket(per_minute=600)
    bucket.delay_s(0.0)
    bucket.take(10)
    bucket.take(-10)
    assert bucket.delay_s(0.0) == 0
    bucket.take(-1000)  # but it never holds more than its size
    bucket.take(10)
    assert bucket.delay_s(0.0) > 0


def test_over_a_long_time_the_mean_rate_holds():
    bucket, now, taken = TokenBucket(per_minute=120), 0.0, 0
    while now < 600:
        now += bucket.delay_s(now) + 1e-9
        bucket.take(1)
        taken += 1
    assert taken == pytest.approx(1200, abs=4)
