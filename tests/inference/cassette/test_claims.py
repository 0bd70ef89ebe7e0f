"""Of several processes that need the same answers each is paid for once, whoever dies meanwhile."""

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from duologue.inference import Cassette, CassetteError, InferenceClient
from duologue.inference.cassette import claims

HELLO = [{"role": "user", "content": "Hello"}]

WORKER = """
import asyncio, random, sys
from duologue.inference import Cassette, Endpoint, InferenceClient, Sampling

place, url, count, seed = sys.argv[1:]
endpoint = Endpoint(url, "fake", sampling=Sampling(max_tokens=20), max_retries=1, timeout_s=60)
client = InferenceClient(Cassette(place))
order = list(range(int(count)))
random.Random(int(seed)).shuffle(order)

async def main():
    calls = (client.chat(endpoint, [{"role": "user", "content": "Hello"}], sample_index=i) for i in order)
    return [answer.text for answer in await asyncio.gather(*calls)]

texts = dict(zip(order, client.run(main())))
client.close()
print([texts[i] for i in sorted(texts)])
"""


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    return str(tmp_path / "c.sqlite") if request.param == "sqlite" else request.getfixturevalue("postgres")


def worker(place, url, count, seed):
    command = [sys.executable, "-c", WORKER, place, url, str(count), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_ask_the_same_at_the_same_time_pay_once(server, place):
    numbers = iter(range(10_000))
    server.answer = lambda body: f"answer {next(numbers)}"
    server.delay_s = lambda body: 0.2
    workers = [worker(place, server.url, 60, seed) for seed in range(3)]
    said = {process.communicate(timeout=120)[0] for process in workers}
    assert len(said) == 1  # all go on with the same answers
    assert len(server.requests) == 60


def test_what_a_killed_process_was_asking_is_asked_by_another(server, place, endpoint):
    server.answer = lambda body: f"answer {len(server.requests)}"
    server.delay_s = lambda body: 60.0
    first = worker(place, server.url, 5, 0)
    while len(server.requests) < 5:
        time.sleep(0.01)
    second = worker(place, server.url, 5, 1)
    server.delay_s = lambda body: 0.0
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=30)
    assert second.communicate(timeout=120)[0].count("answer") == 5
    assert len(server.requests) == 10


def test_a_call_that_failed_leaves_its_request_to_others_at_once(server, place, endpoint, client):
    other = InferenceClient(Cassette(place))
    try:
        server.answer = lambda body: (400, {"error": {"message": "no", "code": "content_filter"}})
        with pytest.raises(Exception, match="no"):
            other.run(other.chat(endpoint, HELLO, sample_index=77))
        assert other.run(other.cassette.claim([b"another"])) == [True]  # the release before it has been written
        third = Cassette(place)
        key = third.key(
            {
                "endpoint": endpoint.identity,
                "path": "/chat/completions",
                "body": {"model": "fake", "messages": HELLO, "max_tokens": 20, "seed": 77},
                "sample_index": 77,
            }
        )[0]
        assert asyncio.run(third.claim([key, b"another"])) == [True, False]
        third.close()
    finally:
        other.close()


def test_a_lease_that_is_not_renewed_ends_and_one_that_is_lasts(place, monkeypatch):
    monkeypatch.setattr(claims, "LEASE_S", 0.4)
    monkeypatch.setattr(claims, "_is_gone", lambda owner: False)  # as if it were on another machine
    one, two = Cassette(place), Cassette(place)
    try:
        key = os.urandom(8)
        assert asyncio.run(one.claim([key])) == [True]
        assert asyncio.run(two.claim([key])) == [False]
        for _ in range(4):
            time.sleep(0.15)
            one.renew()
        if asyncio.run(two.claim([key])) == [False]:  # else this machine was too busy to renew in time
            time.sleep(0.6)
            assert asyncio.run(two.claim([key])) == [True]
    finally:
        one.close()
        two.close()


def test_an_answer_ends_the_claim_and_closing_ends_them_all(place):
    one, two = Cassette(place), Cassette(place)
    try:
        keys = [os.urandom(8) for _ in range(3)]

        async def play():
            assert await one.claim(keys) == [True] * 3
            await one.keep(keys[0], b"{}", b"{}", 0.1)
            return await two.claim(keys)

        assert asyncio.run(play()) == [False] * 3  # answered, and two that are claimed
        one.close()
        assert asyncio.run(two.claim(keys)) == [False, True, True]
    finally:
        two.close()


def test_a_process_of_this_machine_that_ended_is_gone():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    assert claims._is_gone(f"{host}/{ended.pid}/x")
    assert not claims._is_gone(f"{host}/{os.getpid()}/x")
    assert not claims._is_gone(f"elsewhere/{ended.pid}/x")


@pytest.mark.parametrize(
    ("owner", "ahead_s"),
    [("nobody", 5), ("host/0/x", 5), ("host/-1/x", 5), ("elsewhere/7/x", 1e300), ("elsewhere/7/x", None), (b"x", 5)],
)
def test_a_claim_that_nobody_can_have_made_holds_up_no_run(tmp_path, owner, ahead_s):
    """A cassette may come from somebody else."""
    cassette = Cassette(tmp_path / "c.sqlite")
    try:
        assert asyncio.run(cassette.claim([b"another"])) == [True]
        with sqlite3.connect(tmp_path / "c.sqlite") as connection:
            until = float("inf") if ahead_s is None else time.time() + ahead_s
            connection.execute("INSERT INTO claims VALUES (?, ?, ?)", (b"key", owner, until))
        connection.close()
        assert asyncio.run(cassette.claim([b"key"])) == [True]
    finally:
        cassette.close()


def test_replay_claims_nothing_and_needs_no_right_to_write(tmp_path, endpoint, server):
    recorder = InferenceClient(Cassette(tmp_path / "c.sqlite"))
    text = recorder.run(recorder.chat(endpoint, HELLO)).text
    recorder.close()
    for name in ("c.sqlite-wal", "c.sqlite-shm"):
        assert not (tmp_path / name).exists()
    (tmp_path / "c.sqlite").chmod(0o444)
    replayer = InferenceClient(Cassette(tmp_path / "c.sqlite", "replay"))
    assert replayer.run(replayer.chat(endpoint, HELLO)).text == text
    replayer.close()


def test_a_failure_that_was_recorded_as_an_answer_is_asked_for_again(server, client, endpoint, tmp_path):
    """Earlier versions kept an answer that ends with `error` as an empty reply."""
    client.run(client.chat(endpoint, HELLO))
    failed = b'{"choices": [{"message": {"content": ""}, "finish_reason": "error", "error": {"code": 502}}]}'
    from duologue.inference.cassette.archive import opened
    from duologue.inference.cassette.cassette import pack

    with opened(tmp_path / "cassette.sqlite") as connection, connection:
        connection.execute("UPDATE answers SET body = ?", (pack(failed),))
    server.answer = lambda body: "Better."
    for _ in range(2):
        assert client.run(client.chat(endpoint, HELLO)).text == "Better."
    assert len(server.requests) == 2


def test_a_database_that_cannot_be_reached_does_not_stop_the_event_loop(endpoint):
    """Nobody answers at that address: looking an answer up must not keep other dialogues waiting."""
    pytest.importorskip("psycopg")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = InferenceClient(Cassette(f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/nothing"))
        turned = threading.Event()

        async def main():
            call = asyncio.create_task(client.chat(endpoint, HELLO))
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert not call.done()
            turned.set()
            return await asyncio.gather(call, return_exceptions=True)

        future = client.thread.submit(main())
        assert turned.wait(8)
        assert isinstance(future.result(60)[0], CassetteError)
        client.close()
