"""The client against a real server on loopback: what is asked, shared, remembered and counted."""

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from duologue.inference import (
    CallFailed,
    Cassette,
    CassetteMiss,
    ConfigError,
    EndpointRefused,
    InferenceClient,
    Price,
    Rejected,
    Sampling,
    Usage,
)

HELLO = [{"role": "user", "content": "Hello"}]


class Limiter:
    """An answer that waits: `arrived` is set when a request reaches the server, which then waits for `release`."""

    def __init__(self, text="Done."):
        self.text, self.arrived, self.release = text, threading.Event(), threading.Event()

    def __call__(self, body):
        self.arrived.set()
        self.release.wait(10)
        return self.text


async def until(event):
    assert await asyncio.get_running_loop().run_in_executor(None, event.wait, 10)


def test_the_request_is_what_the_endpoint_and_its_sampling_say(client, endpoint, server):
    client.run(client.chat(endpoint, HELLO, sample_index=3))
    assert server.requests == [{"model": "fake", "messages": HELLO, "max_tokens": 20, "seed": 3}]
    assert server.headers["Content-Type"] == "application/json"


def test_a_calls_own_sampling_replaces_the_defaults_as_a_whole(client, endpoint, server):
    client.run(client.chat(endpoint, HELLO, sampling=Sampling(temperature=0.5)))
    assert server.requests == [{"model": "fake", "messages": HELLO, "temperature": 0.5}]


def test_logprobs_are_asked_for_and_come_back(client, endpoint, server):
    server.answer = lambda body: "one two"
    answer = client.run(client.chat(endpoint, HELLO, logprobs=True, top_logprobs=2))
    assert (server.requests[0]["logprobs"], server.requests[0]["top_logprobs"]) == (True, 2)
    assert [(t.token, t.logprob) for t in answer.logprobs] == [("one", -0.1), ("two", -0.2)]


def test_the_key_of_the_named_variable_is_sent(client, endpoint, server, monkeypatch):
    monkeypatch.setenv("MY_TEST_KEY", "sk-mine")
    client.run(client.chat(replace(endpoint, api_key_env="MY_TEST_KEY"), HELLO))
    assert server.headers["Authorization"] == "Bearer sk-mine"


def test_no_real_key_is_sent_to_a_server_without_keys(client, endpoint, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    client.run(client.chat(replace(endpoint, api_key_env=None), HELLO))
    assert "sk-mine" not in str(server.headers)


def test_a_missing_key_is_refused_and_counted(client, endpoint, monkeypatch):
    monkeypatch.delenv("MY_TEST_KEY", raising=False)
    remote = replace(endpoint, base_url="https://api.example.invalid/v1", api_key_env="MY_TEST_KEY")
    with pytest.raises(EndpointRefused, match="`MY_TEST_KEY` is not set"):
        client.run(client.chat(remote, HELLO))
    assert client.meter.total == Usage(failed=1)


def test_what_was_paid_for_is_reused(client, endpoint, server):
    first, again = (client.run(client.chat(endpoint, HELLO)) for _ in range(2))
    assert len(server.requests) == 1
    assert (first.reused, again.reused) == (False, True)
    assert (again.text, again.latency_s, again.cost_usd) == (first.text, first.latency_s, first.cost_usd)


@pytest.mark.parametrize("seed", [0, None])
def test_sample_indices_are_different_samples_of_one_prompt(client, endpoint, server, seed):
    endpoint = replace(endpoint, sampling=Sampling(seed=seed))
    texts = iter(["red.", "blue.", "green."])
    server.answer = lambda body: next(texts)

    def samples():
        return [client.run(client.chat(endpoint, HELLO, sample_index=i)).text for i in range(3)]

    assert samples() == ["red.", "blue.", "green."]
    assert samples() == ["red.", "blue.", "green."]
    assert len(server.requests) == 3


def test_anything_that_may_change_the_answer_is_asked_anew(client, endpoint, server):
    other_model = replace(endpoint, model="other")
    calls = [
        (endpoint, HELLO, {}),
        (other_model, HELLO, {}),
        (endpoint, [*HELLO, {"role": "assistant", "content": "Hi"}], {}),
        (endpoint, HELLO, {"sampling": Sampling(seed=0, max_tokens=21)}),
        (endpoint, HELLO, {"sampling": Sampling(seed=0, max_tokens=20, stop=("x",))}),
        (endpoint, HELLO, {"logprobs": True}),
        (endpoint, HELLO, {"logprobs": True, "top_logprobs": 1}),
    ]
    for to, messages, more in calls * 2:
        client.run(client.chat(to, messages, **more))
    assert len(server.requests) == len(calls)


def test_key_timeout_and_price_do_not_change_the_answer(client, endpoint, server):
    client.run(client.chat(endpoint, HELLO))
    again = replace(endpoint, api_key_env=None, timeout_s=4, price=Price(1.0), max_retries=0)
    assert client.run(client.chat(again, HELLO)).reused
    assert len(server.requests) == 1


def test_without_a_cassette_every_call_is_paid(endpoint, server):
    client = InferenceClient()
    try:
        assert [client.run(client.chat(endpoint, HELLO)).reused for _ in range(2)] == [False, False]
    finally:
        client.close()
    assert len(server.requests) == 2


def test_an_empty_cassette_is_used_although_it_is_falsy(tmp_path, endpoint, server):
    cassette = Cassette(tmp_path / "new.sqlite")
    assert not cassette  # it has a length, and that is 0
    client = InferenceClient(cassette)
    try:
        assert client.cassette is cassette
        client.run(client.chat(endpoint, HELLO))
        assert len(cassette) == 1
    finally:
        client.close()


def test_equal_requests_under_way_are_one_request(client, endpoint, server):
    async def together():
        return await asyncio.gather(*(client.chat(endpoint, HELLO) for _ in range(5)))

    answers = client.run(together())
    assert len(server.requests) == 1
    assert len({answer.text for answer in answers}) == 1
    assert [answer.reused for answer in answers] == [False, True, True, True, True]
    assert (client.meter.total.paid, client.meter.total.reused) == (1, 4)


def test_equal_requests_from_many_threads_are_one_request(client, endpoint, server):
    gate = server.answer = Limiter()
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(client.run, client.chat(endpoint, HELLO)) for _ in range(4)]
        gate.release.set()
        assert {answer.result().text for answer in answers} == {"Done."}
    assert len(server.requests) == 1


def test_a_shared_request_that_fails_fails_for_all_who_wait_and_is_made_once(client, endpoint, server):
    server.answer = lambda body: (400, {"error": {"message": "no"}})

    async def together():
        return await asyncio.gather(*(client.chat(endpoint, HELLO) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in client.run(together())] == [Rejected] * 3
    assert len(server.requests) == 1
    assert client.meter.total == Usage(failed=3)


def test_a_first_asker_that_is_cancelled_does_not_cancel_those_who_wait(client, endpoint, server):
    gate = server.answer = Limiter()

    async def cancel_the_first():
        first, *waiting = [asyncio.create_task(client.chat(endpoint, HELLO)) for _ in range(3)]
        await until(gate.arrived)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.release.set()
        return await asyncio.gather(*waiting)

    answers = client.run(cancel_the_first())
    assert [answer.text for answer in answers] == ["Done.", "Done."]
    assert len(server.requests) == 2  # the cancelled one, and one for both who waited
    assert client.meter.total.paid == 1


def test_a_waiter_that_is_cancelled_does_not_cancel_the_asker(client, endpoint, server):
    gate = server.answer = Limiter()

    async def cancel_the_second():
        first, second = (asyncio.create_task(client.chat(endpoint, HELLO)) for _ in range(2))
        await until(gate.arrived)
        second.cancel()
        gate.release.set()
        return await first

    assert client.run(cancel_the_second()).text == "Done."
    assert len(server.requests) == 1


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_requests_are_under_way_than_the_endpoint_allows(client, endpoint, server, limit):
    under_way, peak = 0, 0

    def arrive(body):
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        return 0.05

    def leave(body):
        nonlocal under_way
        under_way -= 1
        return "Done."

    server.delay_s, server.answer = arrive, leave

    async def many():
        narrow = replace(endpoint, max_concurrency=limit)
        return await asyncio.gather(*(client.chat(narrow, HELLO, sample_index=i) for i in range(9)))

    assert len(client.run(many())) == 9
    assert peak == limit


def test_waiting_for_a_place_does_not_count_against_the_deadline(client, endpoint, server):
    server.delay_s = lambda body: 0.15

    async def queue():
        narrow = replace(endpoint, max_concurrency=1, deadline_s=0.8)
        return await asyncio.gather(*(client.chat(narrow, HELLO, sample_index=i) for i in range(7)))

    assert len(client.run(queue())) == 7  # more than a second in all


def test_a_call_that_takes_longer_than_its_deadline_fails(client, endpoint, server):
    gate = server.answer = Limiter()
    with pytest.raises(CallFailed, match=r"/v1 gave no answer within 0\.1 s$"):
        client.run(client.chat(replace(endpoint, deadline_s=0.1), HELLO))
    gate.release.set()
    server.answer = lambda body: "Late."
    assert client.run(client.chat(endpoint, HELLO)).text == "Late."  # the failure was not kept


def test_the_deadline_holds_over_all_attempts_and_pauses(client, endpoint, server):
    server.answer = lambda body: (503, {"error": {"message": "busy"}})
    client.bounds.retries.reserve = 1_000_000
    with pytest.raises(CallFailed, match=r"within 0\.3 s"):
        client.run(client.chat(replace(endpoint, deadline_s=0.3, max_retries=1_000_000), HELLO))
    assert len(server.requests) > 1


def test_refusals_and_unreadable_answers_share_one_number_of_attempts(client, endpoint, server):
    bad = itertools.cycle([(503, {"error": {"message": "busy"}}), b"{}"])
    server.answer = lambda body: next(bad)
    with pytest.raises(CallFailed):
        client.run(client.chat(replace(endpoint, max_retries=3), HELLO))
    assert len(server.requests) == 4


def test_unreadable_answers_share_the_deadline_of_the_call(client, endpoint, server):
    server.answer = lambda body: b"{}"
    client.bounds.retries.reserve = 1_000_000
    with pytest.raises(CallFailed, match=r"within 2 s"):
        client.run(client.chat(replace(endpoint, deadline_s=2, max_retries=1_000_000), HELLO))
    assert 1 < len(server.requests) < 8  # pauses of about 0.5 and 1 s


def test_a_place_is_given_back_after_a_failure(client, endpoint, server):
    server.answer = lambda body: (400, {"error": {"message": "no"}})
    narrow = replace(endpoint, max_concurrency=1)
    for i in range(3):
        with pytest.raises(Rejected):
            client.run(client.chat(narrow, HELLO, sample_index=i))


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x00\xff",
        {"choices": []},
    ],
)
def test_an_answer_that_cannot_be_read_is_a_failed_call_and_never_kept(client, endpoint, server, bad):
    server.answer = lambda body: bad
    with pytest.raises(CallFailed, match="answered with no chat completion"):
        client.run(client.chat(endpoint, HELLO))
    assert len(client.cassette) == 0
    assert client.meter.total == Usage(failed=1)
    server.answer = lambda body: "Now it works."
    assert client.run(client.chat(endpoint, HELLO)).text == "Now it works."


def test_missing_logprobs_refuse_the_endpoint_and_are_never_kept(client, endpoint, server):
    server.logprobs = False
    with pytest.raises(EndpointRefused, match="returned no logprobs"):
        client.run(client.chat(endpoint, HELLO, logprobs=True))
    assert len(client.cassette) == 0
    assert len(server.requests) == 1


def test_the_meter_counts_paid_reused_and_failed_by_role(client, endpoint, server):
    price = Price(per_request_usd=0.01, per_million_prompt_tokens_usd=2.0, per_million_completion_tokens_usd=10.0)
    endpoint = replace(endpoint, price=price)
    server.answer = lambda body: "one two three"  # 3 tokens; the server counts 7 for every prompt
    for role, index in [("assistant", 0), ("assistant", 1), ("assistant", 0), ("judge", 2), ("judge", 0)]:
        client.run(client.chat(endpoint, HELLO, sample_index=index, role=role))
    server.answer = lambda body: (401, {"error": {"message": "no"}})
    with pytest.raises(EndpointRefused):
        client.run(client.chat(endpoint, HELLO, sample_index=9, role="user"))
    one = 0.01 + 7 * 2e-6 + 3 * 10e-6
    assert client.meter.roles == {
        "assistant": Usage(2, 1, 0, 14, 6, pytest.approx(2 * one)),
        "judge": Usage(1, 1, 0, 7, 3, pytest.approx(one)),
        "user": Usage(failed=1),
    }
    assert client.meter.summary() == {
        "requests": {"paid": 3, "reused": 2, "failed": 1},
        "tokens": {"prompt": 21, "completion": 9},
        "cost_usd": pytest.approx(3 * one, abs=1e-6),
    }


def test_embeddings_are_paid_once_and_counted(client, endpoint):
    endpoint = replace(endpoint, price=Price(per_request_usd=0.5, per_million_prompt_tokens_usd=1e6))
    for _ in range(2):
        vectors = client.run(client.embed(endpoint, ["banana", "x"]))
        assert vectors.tolist() == [[6.0, 1.0, 3.0], [1.0, 1.0, 0.0]]
        assert vectors.dtype == "float32"
    assert client.meter.roles == {"encoder": Usage(1, 1, 0, 3, 0, pytest.approx(0.5 + 3))}


def test_replay_answers_what_was_recorded_and_asks_for_nothing(tmp_path, endpoint, server):
    recorder = InferenceClient(Cassette(tmp_path / "c.sqlite"))
    text = recorder.run(recorder.chat(endpoint, HELLO)).text
    recorder.close()
    client = InferenceClient(Cassette(tmp_path / "c.sqlite", "replay"))
    try:
        assert client.run(client.chat(endpoint, HELLO)).text == text
        with pytest.raises(CassetteMiss, match=r"Set `inference\.cassette\.mode=record`"):
            client.run(client.chat(endpoint, HELLO, sample_index=1))
    finally:
        client.close()
    assert len(server.requests) == 1
    assert client.meter.total == Usage(reused=1)


def test_from_settings_uses_the_described_cassette(tmp_path, endpoint, server):
    path = tmp_path / "deep" / "c.sqlite"
    for reused in (False, True):
        client = InferenceClient.from_settings({"cassette": {"path": str(path), "mode": "record"}})
        assert client.run(client.chat(endpoint, HELLO)).reused is reused
        client.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("cassette", "text"),
    [
        ({"mode": "rekord"}, "`inference.cassette.mode` must be one of record, replay, off, not 'rekord'"),
        ({"file": "x"}, "`inference.cassette.file` is not a setting here"),
    ],
)
def test_bad_cassette_settings_are_named(cassette, text):
    with pytest.raises(ConfigError) as error:
        InferenceClient.from_settings({"cassette": cassette})
    assert text in str(error.value)


def test_closing_ends_calls_under_way_and_closing_twice_does_nothing(tmp_path, endpoint, server):
    gate = server.answer = Limiter()
    client = InferenceClient(Cassette(tmp_path / "c.sqlite"))
    call = client.thread.submit(client.chat(endpoint, HELLO))
    assert gate.arrived.wait(10)
    client.close()
    client.close()
    gate.release.set()
    assert call.done()
    assert call.cancelled() or call.exception() is not None


def test_the_shared_client_is_one_until_it_is_closed(tmp_path, endpoint, monkeypatch):
    InferenceClient.shared().close()  # one that another test left behind
    monkeypatch.setenv("DUOLOGUE_CASSETTE", str(tmp_path / "shared.sqlite"))
    shared = InferenceClient.shared()
    assert InferenceClient.shared() is shared
    shared.run(shared.chat(endpoint, HELLO))
    shared.close()
    assert len(Cassette(tmp_path / "shared.sqlite", "replay")) == 1
    assert InferenceClient.shared() is not shared
    InferenceClient.shared().close()


def test_of_two_processes_that_ask_the_same_the_first_answer_is_everybodys(client, endpoint, server):
    """And it is paid for once: the other one waits for it."""
    other = InferenceClient(Cassette(client.cassette.path))
    arrived = threading.Event()
    texts = iter(["late", "early"])
    server.answer = lambda body: next(texts)
    server.delay_s = lambda body: (arrived.set(), 1.0)[1] if not arrived.is_set() else 0.0
    slow = client.thread.submit(client.chat(endpoint, HELLO))
    assert arrived.wait(10)
    quick = other.run(other.chat(endpoint, HELLO))
    other.close()
    server_said = {quick.text, slow.result(10).text}
    assert server_said == {"late"}
    assert len(server.requests) == 1
