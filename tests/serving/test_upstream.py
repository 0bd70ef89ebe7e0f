"""Servers behind ours that answer with anything: what is handed on is an answer, or a failure that names no address and no key."""

import gzip
import json
import logging
import socket
import threading
from contextlib import suppress

import httpx2 as httpx
import pytest

from duologue.tests.conftest import chat_body
from duologue.tests.serving.test_app import ASKED, SELECT, metric, post, sdk, wait_for

BODY = json.dumps(chat_body("It boils.")).encode()


def http(content=BODY, status="200 OK", **headers):
    """An answer in bytes."""
    lines = [f"HTTP/1.1 {status}".encode(), b"Content-Type: application/json"]
    lines += [name.replace("_", "-").encode() + b": " + value for name, value in headers.items()]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(content), b"", content])


class RawServer:
    """Answers in bytes.

    Args:
        answer: The number of a connection, and of a request on it, to what is sent; None to hang up.

    Attributes:
        heads: Of the requests, in order.
    """

    def __init__(self, answer):
        self.answer, self.heads = answer, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        for number in range(1000):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection, number):
        with suppress(ConnectionError), connection, connection.makefile("rb") as file:
            for turn in range(1000):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    if not (line := file.readline()):
                        return  # the client hung up
                    head += line
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                file.read(int(length.partition(b":")[2]))
                self.heads.append(head)
                if (answer := self.answer(number, turn)) is None:
                    return
                connection.sendall(answer)

    def stop(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()


@pytest.fixture
def before(bundled, serving):
    """Our server before a raw one: `before(answer, interface)` makes both."""
    made = []

    def make(answer, interface="strategy", **settings):
        raw = RawServer(answer)
        made.append(raw)
        bundle = bundled(interface)
        bundle.settings["assistant"] |= {"base_url": raw.url, **settings}
        return raw, serving(bundle=bundle)

    yield make
    for raw in made:
        raw.stop()


def test_a_connection_that_was_closed_meanwhile_is_replaced(before):
    raw, running = before(lambda connection, turn: http() if turn == 0 else None)
    assert [post(running).status_code for _ in range(6)] == [200] * 6
    assert len(raw.heads) == 9  # every second one met a connection that closes at its second request


def test_a_new_connection_without_an_answer_is_not_tried_again(before):
    raw, running = before(lambda connection, turn: None)
    response = post(running)
    assert (response.status_code, len(raw.heads)) == (502, 1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "status", ["999 Odd", "101 Switching Protocols", "307 Elsewhere", "304 Not Modified", "600 No"]
)
def test_statuses_that_are_no_answers(before, status, stream):
    _, running = before(
        lambda connection, turn: http(b"", status, Upgrade=b"x", Connection=b"upgrade", Location=b"/v1/x")
    )
    response = post(running, {"stream": stream})
    assert response.status_code == 502
    assert status[:3] in response.json()["error"]["message"]
    assert metric(running, 'duologue_requests_total{model="my-model",status="502"}') == 1


@pytest.mark.parametrize("stream", [False, True])
def test_headers_that_no_answer_can_carry_are_left_out(before, stream):
    odd = {"x_request_id": "ключ".encode(), "retry_after": b"1\x0b2", "openai_processing_ms": b"12"}
    _, running = before(lambda connection, turn: http(b'{"error": {}}', "429 Slow", **odd))
    response = post(running, {"stream": stream})
    assert (response.status_code, response.headers["openai-processing-ms"]) == (429, "12")
    assert "x-request-id" not in response.headers


def test_addresses_are_not_told(before, monkeypatch):
    logger, kept = logging.getLogger("duologue.serving"), []
    handler = logging.Handler()
    handler.emit = lambda record: kept.append(record.getMessage())
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "disabled", False)  # Hydra's set-up of logging disables it
    raw, running = before(lambda connection, turn: None)
    raw.stop()
    port = raw.url.split(":")[2][:-3]
    for _ in range(2):
        response = post(running)
        assert response.status_code == 502
        assert "127.0.0.1" not in response.text
        assert port not in response.text
    assert port in "".join(kept)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
def test_a_key_that_the_server_repeats_is_not_told(before, monkeypatch, interface, stream):
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    refusal = b'{"error": {"message": "Incorrect API key: sk-very-secret", "type": "x", "code": null, "param": null}}'
    raw, running = before(lambda connection, turn: http(refusal, "401 No"), interface, api_key_env="SOME_KEY")
    response = post(running, {"stream": stream})
    assert (response.status_code, response.json()["error"]["message"]) == (401, "Incorrect API key: ***")
    assert b"Bearer sk-very-secret" in raw.heads[0]


BOMB = gzip.compress(b'{"a": "' + b" " * 70_000_000)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_unpacks_to_too_much_is_not_read(before, stream):
    raw, running = before(lambda connection, turn: http(BOMB, Content_Encoding=b"gzip"))
    if stream:
        with httpx.stream("POST", f"{running.url}/chat/completions", json=ASKED | {"stream": True}) as response:
            seen = 0
            for piece in response.iter_raw():
                seen += len(piece)
        assert seen <= 2**26 + 200  # and the event that says so
    else:
        assert post(running).status_code == 502
    assert b"Accept-Encoding: identity" in raw.heads[0]


def test_a_compressed_answer_is_unpacked(before):
    _, running = before(lambda connection, turn: http(gzip.compress(BODY), Content_Encoding=b"gzip"))
    response = post(running)
    assert response.json()["choices"][0]["message"]["content"] == "It boils."
    assert "content-encoding" not in response.headers
    _, running = before(lambda connection, turn: http(BODY[:40], Content_Encoding=b"br"))
    assert post(running).status_code == 502


def test_a_netrc_entry_for_the_servers_host_changes_nothing(before, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1\nlogin someone\npassword else\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    raw, running = before(lambda connection, turn: http(), api_key_env="SOME_KEY")
    assert post(running).status_code == 200
    assert b"Authorization: Bearer sk-very-secret" in raw.heads[0]


def test_the_environments_proxy_is_asked(before, monkeypatch):
    raw, running = before(lambda connection, turn: http(), base_url="http://model.example/v1", api_key_env=None)
    monkeypatch.setenv("HTTP_PROXY", raw.url.removesuffix("/v1"))
    monkeypatch.setenv("http_proxy", raw.url.removesuffix("/v1"))
    assert post(running, trust_env=False).status_code == 200
    assert raw.heads[0].startswith(b"POST http://model.example/v1/chat/completions")


def events(*lines):
    """A stream, its events as they are."""
    return http(b"".join(line + b"\n\n" for line in lines))


CHUNK = b'{"id":"x","object":"chat.completion.chunk","model":"fake","choices":[{"index":0,"delta":{"content":"%s"}}]}'


class Judged:
    """Takes the place of a watch that compares: notes what it was given."""

    def __init__(self):
        self.replies = []

    async def score(self, batch):
        from duologue.plugins import Score

        self.replies += [turn.reply for turn in batch]
        return [Score(1.0) for _ in batch]

    async def aclose(self):
        pass


@pytest.fixture
def watched(before, client):
    from duologue.serving.monitoring import Watch

    def make(answer, interface="strategy"):
        _, running = before(answer, interface)
        judge = Judged()
        running.service.watch = Watch(judge, 1.0, client, running.service.metrics)
        return running, judge

    return make


def test_streams_of_other_shapes_are_handed_on_whole_and_compared(watched):
    odd = [
        b"data:" + CHUNK % b"It",
        b": a comment",
        b'data: {"model":"fake","choices":[{"index":0,"finish_reason":null}]}',
        b'data: {"model":"fake","choices":[{"index":0,"delta":null}]}',
        b'data: {"model":"fake","choices":null}',
        b"data:   " + CHUNK % b" boils.",
        b"data: [DONE]",
    ]
    answers = iter([events(*odd)])
    running, judge = watched(lambda connection, turn: next(answers, http()))
    text = post(running, {"stream": True}).text
    assert text.count("data:") == 6
    assert text.rstrip().endswith("data: [DONE]")
    assert wait_for(lambda: sorted(judge.replies) == ["It boils.", "It boils."])


def test_a_stream_that_cannot_be_read_reaches_the_client_all_the_same(watched):
    answers = iter([events(b"data: " + CHUNK % b"It", b"data: {broken", b'data: {"choices": 3}', b"data: [DONE]")])
    running, judge = watched(lambda connection, turn: next(answers, http()))
    text = post(running, {"stream": True}).text
    assert "data: {broken" in text
    assert text.rstrip().endswith("data: [DONE]")
    assert wait_for(lambda: metric(running, 'duologue_shadow_matches_total{model="my-model",result="failed"}') == 1)
    assert not judge.replies


@pytest.mark.parametrize("content", [b"no JSON", b'{"choices": []}', b'{"choices": [{"message": 3}]}', b"[" * 100_000])
def test_an_odd_answer_is_handed_on_although_it_cannot_be_compared(watched, content):
    running, _ = watched(lambda connection, turn: http(content))
    response = post(running)
    assert (response.status_code, response.content) == (200, content)
    assert wait_for(lambda: metric(running, 'duologue_shadow_matches_total{model="my-model",result="failed"}') == 1)


def test_a_call_of_a_tool_is_not_compared(watched):
    call = {"id": "1", "type": "function", "function": {"name": "boil", "arguments": "{}"}}
    body = chat_body("", finish_reason="tool_calls", tool_calls=[call])
    body["choices"][0]["message"]["content"] = None
    running, judge = watched(lambda connection, turn: http(json.dumps(body).encode()))
    post(running)
    assert wait_for(lambda: metric(running, 'duologue_shadow_matches_total{model="my-model",result="left out"}') == 1)
    assert not judge.replies


def test_events_that_are_torn_apart_keep_their_names(before):
    """However the network cuts a stream, the client sees whole events under the alias's name."""
    stream = b"".join(b"data: " + CHUNK % word + b"\n\n" for word in (b"one", "zwölf".encode(), b"three"))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    for size in (1, 7, 50, 1000):
        pieces = [stream[i : i + size] for i in range(0, len(stream), size)] + [b"data: [DONE]\n\n"]
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        answer = head.replace(b"Connection: close", b"Transfer-Encoding: chunked") + chunked
        _, running = before(lambda connection, turn, answer=answer: answer)
        chunks = list(sdk(running).chat.completions.create(**ASKED, stream=True))
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["one", "zwölf", "three"]
        assert {chunk.model for chunk in chunks} == {"my-model"}
