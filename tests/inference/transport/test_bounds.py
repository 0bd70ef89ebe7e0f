"""One budget of retries for a whole run, no storm after a refusal, and an end that loses nothing."""

import asyncio
import time
from collections import Counter
from dataclasses import replace

import pytest

from duologue.inference import CallFailed, Cassette, ConfigError, InferenceClient, Interrupted, RetryBudget, RunStopped
from duologue.tests.inference.fault_server import GOOD, FaultServer, http

HELLO = [{"role": "user", "content": "Hello"}]
BUSY = (503, {"error": {"message": "busy"}})


async def ask_many(client, endpoint, count):
    calls = (client.chat(endpoint, HELLO, sample_index=i) for i in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


def test_single_failures_are_tried_again_and_a_broken_endpoint_is_not_asked_for_ever():
    retries = RetryBudget(share=0.5, reserve=2)
    assert [retries.take() for _ in range(3)] == [True, True, False]
    retries.calls = 4
    assert [retries.take() for _ in range(3)] == [True, True, False]
    assert (retries.taken, retries.refused) == (4, 2)


def test_a_negative_retry_budget_is_refused():
    with pytest.raises(ConfigError, match=r"`inference.retries` was refused.*at least 0"):
        InferenceClient.from_settings({"retries": {"share": -1}, "cassette": {"mode": "off"}})


@pytest.mark.parametrize("broken", [BUSY, b"{"])
def test_all_calls_together_keep_to_the_runs_retries(server, endpoint, broken):
    client = InferenceClient(retries=RetryBudget(share=0.1, reserve=5))
    server.answer = lambda body: broken
    outcomes = client.run(ask_many(client, replace(endpoint, max_retries=10, deadline_s=60), 20))
    client.close()
    assert all(isinstance(outcome, CallFailed) for outcome in outcomes)
    assert len(server.requests) == 20 + 5 + 2
    if broken is BUSY:
        assert "(status 503) and is not tried again" in str(outcomes[-1])


def test_calls_under_way_end_and_are_kept_when_the_run_is_told_to_end(tmp_path, server, endpoint):
    client = InferenceClient(Cassette(tmp_path / "c.sqlite"))
    server.delay_s = lambda body: 0.3
    future = client.thread.submit(ask_many(client, replace(endpoint, max_concurrency=4), 20))
    while len(server.requests) < 4:
        time.sleep(0.005)
    client.stop(Interrupted("enough", 15))
    client.stop(RunStopped("said later"))
    client.run(client.idle())
    outcomes = Counter(type(outcome).__name__ for outcome in future.result(10))
    assert outcomes == {"Completion": 4, "Interrupted": 16}
    assert len(client.cassette) == len(server.requests) == 4
    with pytest.raises(Interrupted, match="enough") as caught:
        client.run(client.chat(endpoint, HELLO, sample_index=0))
    assert caught.value.signal == 15
    client.close()


def test_a_call_between_two_attempts_ends_too(server, endpoint):
    client = InferenceClient()
    server.answer = lambda body: BUSY
    future = client.thread.submit(client.chat(replace(endpoint, max_retries=1000, deadline_s=60), HELLO))
    while not server.requests:
        time.sleep(0.005)
    client.stop(Interrupted("enough", 2))
    with pytest.raises(Interrupted):
        future.result(10)
    client.close()


def test_a_thousand_calls_that_meet_one_refusal_do_not_come_back_together(endpoint):
    """The server bears 40 at once and refuses what is beyond: 960, then at most 460, 210, 85, 22, and then nobody."""
    under_way = 0

    async def step(writer):
        nonlocal under_way
        under_way += 1
        fits = under_way <= 40
        await asyncio.sleep(0.02 if fits else 0.0)
        under_way -= 1
        body = GOOD if fits else b'{"error":{"message":"too many"}}'
        writer.write(http(200 if fits else 429, body, *([] if fits else ["Retry-After: 0.2"])))

    client = InferenceClient(retries=RetryBudget(reserve=10_000))

    async def main():
        async with FaultServer([step]).serving() as server:
            crowd = replace(endpoint, base_url=server.url, max_concurrency=1000, max_retries=20, deadline_s=60)
            return await ask_many(client, crowd, 1000), len(server.asked)

    outcomes, asked = client.run(main())
    client.close()
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert asked < 1000 + 960 + 460 + 210 + 85 + 22 + 100
