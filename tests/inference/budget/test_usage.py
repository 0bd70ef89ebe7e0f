import threading

import pytest

from duologue.inference import Completion, Meter, Usage

PAID = Completion("x", prompt_tokens=3, completion_tokens=5, cost_usd=0.25)
REUSED = Completion("x", prompt_tokens=3, completion_tokens=5, cost_usd=0.25, reused=True)


def test_a_new_meter_is_all_zero():
    meter = Meter()
    assert meter.total == Usage()
    assert meter.tokens_per_s == 0.0
    assert meter.summary() == {
        "requests": {"paid": 0, "reused": 0, "failed": 0},
        "tokens": {"prompt": 0, "completion": 0},
        "cost_usd": 0,
    }


def test_only_paid_completions_cost():
    meter = Meter()
    meter.count("judge", PAID)
    meter.count("judge", REUSED)
    assert meter.roles == {"judge": Usage(paid=1, reused=1, prompt_tokens=3, completion_tokens=5, cost_usd=0.25)}


def test_the_total_is_the_sum_over_roles():
    meter = Meter()
    meter.count("assistant", PAID)
    meter.count("judge", PAID)
    meter.count_reused("user")
    meter.count_failed("user")
    meter.count_paid("encoder", 7, 0, 0.5)
    meter.count_paid("encoder", 1, 0, 0.5)
    assert meter.total == Usage(4, 1, 1, 14, 10, 1.5)
    assert meter.summary() == {
        "requests": {"paid": 4, "reused": 1, "failed": 1},
        "tokens": {"prompt": 14, "completion": 10},
        "cost_usd": 1.5,
    }


def test_the_rate_is_of_sampled_tokens_only():
    meter = Meter()
    meter.count("a", REUSED)
    meter.count_paid("encoder", 1000, 0, 0.0)
    assert meter.tokens_per_s == 0.0
    meter.count("a", PAID)
    meter.count("a", PAID)
    assert 0 < meter.tokens_per_s <= 10  # ten tokens within at least a second


def test_what_is_older_than_the_window_no_longer_counts():
    meter = Meter(window_s=0.0)
    meter.count("a", PAID)
    threading.Event().wait(0.001)  # so that the clock moves on
    assert meter.tokens_per_s == 0.0
    assert meter.total.completion_tokens == 5


def test_threads_that_count_at_once_lose_nothing():
    meter = Meter()

    def count():
        for _ in range(500):
            meter.count("a", PAID)
            meter.count_paid("a", 1, 0, 0.0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.total == Usage(4000, 0, 0, 4 * 500 * 4, 4 * 500 * 5, pytest.approx(500))
