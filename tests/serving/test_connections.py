"""Clients that mean no good, and such as are cut off: they hold nothing up, and everybody else is answered."""

import gzip
import json
import logging
import socket
import time
import zlib

import httpx2 as httpx
import pytest

from duologue.serving import Limits
from duologue.serving.requests import Inflater, TooLarge, inflated
from duologue.tests.serving.test_app import ASKED, metric, post, wait_for

KEY = {"Authorization": "Bearer secret"}
HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def connect(running):
    return socket.create_connection(("127.0.0.1", running.port), timeout=30)


def until_closed(connection):
    """What a connection brings until the server closes it."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionError:
        pass
    return received


def flood(connection, start, piece, most=200_000_000):
    """Sends a piece again and again until the server closes the connection: how many bytes it took."""
    sent = len(start)
    try:
        connection.sendall(start)
        while sent < most:
            connection.sendall(piece)
            sent += len(piece)
    except (ConnectionError, BrokenPipeError):
        pass
    return sent


def refused(running, reason):
    return metric(running, f'duologue_refused_connections_total{{reason="{reason}"}}')


ENDLESS = {
    "one header": (HEAD.encode() + b"X: ", b"x" * 100_000),
    "many headers": (HEAD.encode(), b"X-Name: value\r\n" * 1000),
    "address": (b"POST /", b"x" * 100_000),
    "trailer": (HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: ", b"x" * 100_000),
    "size of a chunk": (HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n1;x=", b"x" * 100_000),
    "empty lines": (b"\r\n", b"\r\n" * 50_000),
}


@pytest.mark.parametrize("attack", list(ENDLESS.values()), ids=list(ENDLESS))
def test_a_head_that_does_not_end_is_cut_off_while_others_are_answered(serving, attack):
    running = serving("strategy", Limits(keys=("secret",), public_metrics=True))
    with connect(running) as connection:
        assert flood(connection, *attack) < 50_000_000  # what fits into the buffers of both sides
        until_closed(connection)
    assert post(running, headers=KEY).status_code == 200


def test_who_sends_too_long_a_head_is_told(serving):
    running = serving("strategy", Limits(max_header_bytes=2000))
    with connect(running) as connection:
        connection.sendall(HEAD.encode() + b"X: " + b"x" * 2000)
        assert until_closed(connection).startswith(b"HTTP/1.1 431")
    assert refused(running, "head too long") == 1
    assert post(running, headers={"X-Long": "x" * 1500}).status_code == 200
    assert post(running, {"messages": [{"role": "user", "content": "x" * 500_000}]}).status_code == 200


def test_requests_that_are_not_finished_end_after_their_time_and_keep_no_place(serving):
    limits = Limits(keys=("secret",), max_concurrency=2, client_timeout_s=2.0, public_metrics=True)
    running = serving("strategy", limits)
    begun = HEAD + "Authorization: Bearer secret\r\nContent-Length: 100\r\n\r\n{"
    connections = [connect(running) for _ in range(24)]
    for number, connection in enumerate(connections):
        connection.sendall((begun if number % 3 == 0 else HEAD[:70] if number % 3 == 1 else "").encode())
    assert [post(running, headers=KEY).status_code for _ in range(3)] == [200] * 3
    answers = [until_closed(connection) for connection in connections]
    for number, answer in enumerate(answers):
        assert answer.startswith(b"HTTP/1.1 408") == (number % 3 < 2)
        assert bool(answer) == (number % 3 < 2)  # who has asked nothing is told nothing
    assert refused(running, "too slow") == 24
    for connection in connections:
        connection.close()


def test_a_slow_answer_is_no_slow_client(serving, server):
    server.delay_s = lambda body: 1.5
    running = serving("strategy", Limits(client_timeout_s=0.3))
    with httpx.Client() as caller:
        for _ in range(2):
            assert caller.post(f"{running.url}/chat/completions", json=ASKED, timeout=30).status_code == 200
            time.sleep(0.8)  # idle, which is no request


def test_an_answer_that_nobody_reads_ends(serving, server):
    server.answer = lambda body: "word " * 4_000_000
    running = serving("strategy", Limits(client_timeout_s=1.0))
    body = json.dumps(ASKED)
    with connect(running) as connection:
        connection.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        assert wait_for(lambda: refused(running, "answer not read") == 1)
        assert wait_for(lambda: metric(running, "duologue_in_flight") == 0)


def test_with_too_many_connections_the_one_that_waits_longest_goes(serving, server):
    running = serving("strategy", Limits(max_connections=8))
    idle = [connect(running) for _ in range(30)]
    assert post(running).status_code == 200
    assert wait_for(lambda: refused(running, "too many") >= 22)
    assert until_closed(idle[0]) == b""
    for connection in idle:
        connection.close()


def test_uploads_that_are_broken_off_are_counted_and_not_logged(serving, caplog):
    running = serving("strategy")
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            with connect(running) as connection:
                connection.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode())
                time.sleep(0.01)
        assert wait_for(lambda: metric(running, "duologue_clients_gone_total") == 20)
    assert not [record for record in caplog.records if not record.name.startswith("httpx")]


def test_refusals_without_a_key_do_not_read_the_body(serving):
    running = serving("strategy", Limits(keys=("secret",), max_body_bytes=100_000, public_metrics=True))
    start = HEAD.encode() + b"Content-Length: 100000000000\r\n\r\n"
    with connect(running) as connection:
        assert flood(connection, start, b"x" * 100_000) < 50_000_000
    assert post(running, headers=KEY).status_code == 200


def compressed(content, **headers):
    return {
        "content": content,
        "headers": {"Content-Type": "application/json", "Content-Encoding": "gzip", **headers},
    }


def test_compressed_bodies_are_read_within_the_bound(serving, server):
    running = serving("strategy", Limits(max_body_bytes=100_000))
    url = f"{running.url}/chat/completions"
    body = json.dumps(ASKED).encode()
    assert httpx.post(url, **compressed(gzip.compress(body))).status_code == 200
    assert httpx.post(url, **compressed(zlib.compress(body), **{"Content-Encoding": "deflate"})).status_code == 200
    bomb = gzip.compress(b'{"a": "' + b" " * 80_000_000)
    assert len(bomb) < 100_000
    assert httpx.post(url, **compressed(bomb)).status_code == 413
    for damaged in (gzip.compress(body)[:-9], b"no gzip", gzip.compress(body) + b"x"):
        assert httpx.post(url, **compressed(damaged)).status_code == 400
    assert httpx.post(url, **compressed(body, **{"Content-Encoding": "br"})).status_code == 415
    assert len(server.requests) == 2


def test_no_more_is_decompressed_than_the_bound_allows():
    bomb = gzip.compress(b"x" * 1000) + gzip.compress(b"y" * 1000)  # of two members
    assert inflated(bomb, 2000) == b"x" * 1000 + b"y" * 1000
    with pytest.raises(TooLarge):
        inflated(bomb, 1999)
    inflater = Inflater(2000)
    assert b"".join(inflater.feed(bytes([byte])) for byte in bomb) == b"x" * 1000 + b"y" * 1000
    assert inflater.complete
