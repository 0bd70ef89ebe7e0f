"""A cassette that somebody else wrote: rows of every kind end in an error that names the cure, never in a traceback or a full memory."""

import contextlib
import json
import sqlite3
import time
import zlib

import pytest

from duologue.inference import Cassette, CassetteError, DuologueError, InferenceClient
from duologue.inference.cassette import archive
from duologue.inference.cassette import cassette as packing
from duologue.inference.transport import connections as wire
from duologue.tests.conftest import chat_body

ASKED = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
def recorded(tmp_path, client, endpoint):
    """The place of a cassette with one answer."""
    client.run(client.chat(endpoint, ASKED))
    client.close()
    return tmp_path / "cassette.sqlite"


@pytest.fixture
def replayed(recorded, endpoint):
    """Asks the same again, of the cassette alone."""

    def ask():
        again = InferenceClient(Cassette(recorded, "replay"))
        try:
            return again.run(again.chat(endpoint, ASKED))
        finally:
            again.close()

    return ask


def poisoned(path, body, latency_s=0.1):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE answers SET body = ?, latency_s = ?", (body, latency_s))


def bomb(size):
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(b" " * 2**20) for _ in range(size >> 20)), packer.flush()])


def packed(value):
    return zlib.compress(value if isinstance(value, bytes) else json.dumps(value).encode())


def deep(levels):
    return b'{"choices":' + b"[" * levels + b"]" * levels + b"}"


BODIES = [
    "text",
    7,
    None,
    1.5,
    b"",
    b"{",
    b"\x78\x9c",
    packed(chat_body("Hi"))[:-4],
    packed(b"\xff\xfe"),
    packed([]),
    packed({"choices": []}),
    packed({"choices": 7}),
    packed(b'{"choices": [], "usage": {"prompt_tokens": ' + b"9" * 400 + b"}}"),
    packed(deep(100_000)),
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_row_that_is_no_answer_is_an_error_of_ours(recorded, replayed, body):
    assert replayed().text
    with contextlib.suppress(sqlite3.IntegrityError):  # the column takes no null
        poisoned(recorded, body)
        with pytest.raises(DuologueError) as caught:
            replayed()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("latency_s", ["long", b"long", 1e999, -1e999, -5])
def test_seconds_that_are_none_are_an_error_of_ours(recorded, replayed, latency_s):
    poisoned(recorded, packed(chat_body("Hi")), latency_s)
    with pytest.raises(CassetteError, match="seconds"):
        replayed()


def test_a_small_row_cannot_fill_the_memory(recorded, replayed, tmp_path):
    assert packing.MOST_BYTES >= wire.MOST_BYTES  # what was paid for can be read again
    poisoned(recorded, bomb(packing.MOST_BYTES + 2**21))
    with pytest.raises(CassetteError, match="longer than"):
        replayed()
    assert archive.stats(recorded).damaged == 1
    assert archive.export(recorded, tmp_path / "out.jsonl") == 0
    assert archive.prune(recorded) == 1


def test_a_view_in_the_place_of_the_answers_is_refused(recorded, replayed):
    """A view computes for as long as its author likes."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT x'00', x'00', x'00', i, i FROM n"
    with contextlib.closing(sqlite3.connect(recorded)) as connection, connection:
        connection.execute("DROP TABLE answers")
        connection.execute(f"CREATE VIEW answers (key, request, body, latency_s, created) AS {endless}")
    for use in (replayed, lambda: archive.stats(recorded), lambda: len(Cassette(recorded))):
        with pytest.raises(CassetteError, match="table"):
            use()


def test_a_trigger_does_not_run_when_an_answer_is_kept(recorded, endpoint, server):
    with contextlib.closing(sqlite3.connect(recorded)) as connection, connection:
        connection.execute("CREATE TRIGGER t BEFORE INSERT ON answers BEGIN DELETE FROM answers; END")
    again = InferenceClient(Cassette(recorded))
    try:
        with pytest.raises(CassetteError, match="table"):
            again.run(again.chat(endpoint, [{"role": "user", "content": "Another?"}]))
    finally:
        again.close()
    assert not server.requests[1:]  # nothing is paid for what cannot be kept


def test_figures_of_a_row_that_are_none_do_not_stop_the_tools(recorded, tmp_path):
    with contextlib.closing(sqlite3.connect(recorded)) as connection, connection:
        connection.execute("UPDATE answers SET latency_s = 'long', created = x'00'")
    assert archive.stats(recorded).answers == 1
    assert archive.export(recorded, tmp_path / "out.jsonl") == 1
    assert archive.import_(tmp_path / "new.sqlite", tmp_path / "out.jsonl") == (1, 1)
    assert archive.prune(recorded, older_than_days=1) == 1


@pytest.mark.parametrize("until", [1e300, 1e999, "never", -1.0])
@pytest.mark.parametrize("owner", ["elsewhere/1/abcdef", "nobody", 7])
def test_a_claim_that_never_ends_holds_nobody_up(tmp_path, endpoint, client, server, until, owner):
    """In a cassette from somebody else, or after a clock was set back."""
    if until == -1.0 and owner == "elsewhere/1/abcdef":
        until = time.time() + 10**6
    client.run(client.chat(endpoint, [{"role": "user", "content": "Another?"}]))  # makes the tables
    client.close()
    path = tmp_path / "cassette.sqlite"
    again = InferenceClient(Cassette(path))
    body = {"model": endpoint.model, "messages": ASKED, **endpoint.sampling.body(0)}
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            (known,) = connection.execute("SELECT request FROM answers").fetchone()
            request = json.loads(packing.unpack(known)) | {"body": body}
            request.pop("version")
            connection.execute("INSERT INTO claims VALUES (?, ?, ?)", (Cassette.key(request)[0], owner, until))
        assert again.run(again.chat(endpoint, ASKED)).text
    finally:
        again.close()
