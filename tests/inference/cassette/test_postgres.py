"""The cassette in PostgreSQL, against a real server."""

import asyncio
import subprocess
import sys

import pytest

from duologue.inference import Cassette, CassetteError, CassetteMiss, ConfigError, InferenceClient
from duologue.inference.cassette.database import Connection, is_address

ASK = """
import sys
from duologue.inference import Cassette, Endpoint, InferenceClient, Sampling
client = InferenceClient(Cassette(sys.argv[1]))
endpoint = Endpoint(sys.argv[2], "fake", sampling=Sampling(seed=0, max_tokens=20))
print([client.run(client.chat(endpoint, [{"role": "user", "content": f"shared {i}"}])).text for i in range(5)])
print(client.meter.total.paid, client.meter.total.reused)
client.close()
"""


def test_what_one_process_paid_for_is_free_for_another(postgres, server):
    once, again = (
        subprocess.run(
            [sys.executable, "-c", ASK, postgres, server.url], capture_output=True, text=True, timeout=60, check=True
        ).stdout.splitlines()
        for _ in range(2)
    )
    assert once == [again[0], "5 0"]
    assert again[1] == "0 5"
    assert len(server.requests) == 5


def test_processes_that_begin_at_once_make_one_table_and_lose_nothing(postgres, server):
    begun = [
        subprocess.Popen([sys.executable, "-c", ASK, postgres, server.url], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=60)[0].splitlines()[0] for process in begun]
    assert [process.returncode for process in begun] == [0, 0, 0]
    assert len(set(said)) == 1


@pytest.fixture
def cassette(postgres):
    made = Cassette(postgres)
    yield made
    made.close()


def kept(cassette: Cassette, text: str, body: bytes):
    key, canonical = cassette.key({"ask": text})
    return key, asyncio.run(cassette.keep(key, canonical, body, 0.5))


def test_the_first_answer_stays(cassette, postgres):
    key, _ = kept(cassette, "first", b'{"a": 1}')
    other = Cassette(postgres)
    _, earlier = kept(other, "first", b'{"a": 2}')
    assert earlier.body == cassette.find(key).body == b'{"a": 1}'
    assert earlier.latency_s == 0.5
    other.close()


def test_a_long_answer_and_one_that_is_no_json_come_back_as_they_were(cassette):
    for text, body in (("long", b"{" + b"x" * 100_000 + b"}"), ("html", b"\x00<html>\xff")):
        key, _ = kept(cassette, text, body)
        assert cassette.find(key).body == body


def test_a_lost_connection_is_made_again(cassette):
    key, _ = kept(cassette, "lost", b"{}")
    before = len(cassette)
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    breaker = Connection(str(cassette.place), "SELECT 1")
    breaker.run(lambda cursor: cursor.execute(ended), "broken")
    breaker.close()
    assert cassette.find(key).body == b"{}"
    kept(cassette, "after it", b"{}")
    assert len(cassette) == before + 1


def test_replay_pays_for_nothing(postgres, endpoint, server):
    client = InferenceClient(Cassette(postgres, "replay"))
    with pytest.raises(CassetteMiss, match="holds no answer"):
        client.run(client.chat(endpoint, [{"role": "user", "content": "never asked"}]))
    client.close()
    assert not server.requests


def test_a_password_in_the_address_is_refused():
    with pytest.raises(ConfigError, match="PGPASSWORD"):
        Cassette("postgresql://me:secret@host/database")


def test_nobody_at_the_address_is_said_in_one_line():
    pytest.importorskip("psycopg")
    cassette = Cassette("postgresql://me@127.0.0.1:9/database")
    with pytest.raises(CassetteError, match="cannot be read.*Check that it runs") as refused:
        cassette.find(b"key")
    assert "\n" not in str(refused.value)


def test_what_is_an_address():
    assert is_address("postgresql://host/database")
    assert not is_address(".cache/cassette.sqlite")
