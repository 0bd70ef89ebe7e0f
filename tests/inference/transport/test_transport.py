"""How often a failing server is asked, and which of our errors its failure becomes."""

import asyncio
import socket
import threading
from dataclasses import replace

import pytest

from duologue.inference import CallFailed, EndpointRefused, Rejected

HELLO = [{"role": "user", "content": "Hello"}]
SECRET = "sk-very-secret-0123456789"


def refusal(status, message="the server's own words"):
    return lambda body: (status, {"error": {"message": message}})


@pytest.fixture
def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize("max_retries", [0, 2])
@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_failure_that_may_pass_is_asked_again_within_bounds(client, endpoint, server, status, max_retries):
    server.answer = refusal(status)
    with pytest.raises(CallFailed) as failed:
        client.run(client.chat(replace(endpoint, max_retries=max_retries), HELLO))
    assert len(server.requests) == max_retries + 1
    assert str(failed.value) == (
        f"{server.url} (model `fake`) failed {max_retries + 1} times, last with {status}: the server's own words"
    )


@pytest.mark.parametrize("status", [429, 500])
def test_a_failure_that_passes_is_never_seen(client, endpoint, server, status):
    server.answer = lambda body: "Back again." if len(server.requests) == 3 else refusal(status)(body)
    answer = client.run(client.chat(replace(endpoint, max_retries=2), HELLO))
    assert answer.text == "Back again."
    assert (client.meter.total.paid, client.meter.total.failed) == (1, 0)


@pytest.mark.parametrize(
    ("status", "words", "cure"),
    [
        (401, "the server's own words", "check the key in `OPENAI_API_KEY`"),
        (403, "the server's own words: access denied", "check the key in `OPENAI_API_KEY`"),
        (404, "the server's own words", "`model` must be a name that the server lists under /models"),
        (402, "the server's own words", "check its credits and billing"),
    ],
)
def test_a_failure_that_cannot_pass_is_asked_once_and_refused_with_the_cure(
    client, endpoint, server, status, words, cure
):
    server.answer = refusal(status, words)
    with pytest.raises(EndpointRefused) as refused:
        client.run(client.chat(replace(endpoint, max_retries=3), HELLO))
    assert len(server.requests) == 1
    text = str(refused.value)
    assert text.startswith(f"{server.url} (model `fake`) ")
    assert f"({status}: {words})" in text
    assert cure in text


def prompts(client, endpoint, count):
    """Asks different prompts at once; the outcomes in order."""

    async def ask():
        calls = (client.chat(endpoint, [{"role": "user", "content": f"Prompt {i}"}]) for i in range(count))
        return await asyncio.gather(*calls, return_exceptions=True)

    return client.run(ask())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (
            429,
            {"message": "You exceeded your current quota.", "type": "insufficient_quota", "code": "insufficient_quota"},
        ),
        (402, {"message": "Insufficient Balance", "code": "invalid_request_error"}),
        (400, {"message": "Your credit balance is too low to access the API."}),
        (403, {"message": "Your team has used all available credits."}),
    ],
)
def test_an_account_without_credit_ends_the_run_at_once_although_it_answered_before(
    client, endpoint, server, status, error
):
    client.run(client.chat(endpoint, HELLO))
    server.answer = lambda body: (status, {"error": error})
    with pytest.raises(EndpointRefused, match="does not serve this account") as refused:
        client.run(client.chat(replace(endpoint, max_retries=3), HELLO, sample_index=1))
    assert error["message"] in str(refused.value)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "Too long.", "code": "context_length_exceeded"}),
        (400, {"message": "The response was filtered.", "code": "content_filter"}),
        (403, {"message": "The model requires moderation. Your input was flagged.", "metadata": {"reasons": ["hate"]}}),
        (500, {"message": "the request exceeds the available context size"}),
    ],
)
def test_a_prompt_that_is_refused_fails_alone_whoever_came_first(client, endpoint, server, status, error):
    server.answer = lambda body: (status, {"error": error})
    outcomes = prompts(client, replace(endpoint, max_retries=3), 5)
    assert [type(outcome) for outcome in outcomes] == [Rejected] * 5
    assert len(server.requests) == 5
    assert error["message"] in str(outcomes[0])


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_an_endpoint_that_refuses_every_prompt_is_given_up_after_three(client, endpoint, server, status):
    server.answer = refusal(status)
    outcomes = [prompts(client, endpoint, i + 1)[-1] for i in range(3)]
    assert [type(outcome) for outcome in outcomes] == [Rejected, Rejected, EndpointRefused]
    assert f"rejected the request ({status}: the server's own words), and all 3 prompts so far" in str(outcomes[-1])


def test_refusals_that_are_quicker_than_answers_do_not_end_the_run(client, endpoint, server):
    """Four of twelve prompts are refused at once, while the answers of the others take a moment."""
    slow = threading.Event()

    def answer(body):
        if int(body["messages"][0]["content"].split()[1]) % 3 == 0:
            return refusal(400)(body)
        slow.wait(0.5)
        return "Fine."

    server.answer = answer
    server.delay_s = lambda body: 0.0 if int(body["messages"][0]["content"].split()[1]) % 3 == 0 else 0.4
    outcomes = prompts(client, endpoint, 12)
    assert [type(outcome) for outcome in outcomes[::3]] == [Rejected] * 4
    assert [outcome.text for outcome in outcomes[1::3]] == ["Fine."] * 4


def test_a_refused_key_without_a_variable_says_to_name_one(client, endpoint, server):
    server.answer = refusal(401)
    with pytest.raises(EndpointRefused, match="set `api_key_env`$"):
        client.run(client.chat(replace(endpoint, api_key_env=None), HELLO))


def test_the_error_is_one_short_line_whatever_the_server_says(client, endpoint, server):
    server.answer = refusal(400, "first line\n\n  second \x1b[31mline " + "x" * 5000)
    with pytest.raises(Rejected) as refused:
        client.run(client.chat(endpoint, HELLO))
    assert "first line second  [31mline xxx" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", "only text", ["a", "list"], {"detail": "gone"}])
def test_an_error_of_any_shape_is_translated(client, endpoint, server, body):
    server.answer = lambda request: (502, body)
    with pytest.raises(CallFailed, match="last with 502"):
        client.run(client.chat(replace(endpoint, max_retries=0), HELLO))


def test_the_word_that_stands_for_no_key_is_an_ordinary_word_elsewhere(client, endpoint, server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.answer = refusal(400, "tool_choice: none is unknown")
    with pytest.raises(Rejected, match="tool_choice: none is unknown"):
        client.run(client.chat(endpoint, HELLO))


def test_a_key_that_the_server_repeats_is_not_shown(client, endpoint, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server.answer = refusal(401, f"Incorrect API key provided: {SECRET}.")
    with pytest.raises(EndpointRefused, match="Incorrect API key provided") as refused:
        client.run(client.chat(endpoint, HELLO))
    assert server.headers["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_key_that_the_server_repeats_reaches_neither_the_answer_nor_the_cassette(
    client, endpoint, server, monkeypatch, status
):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    words = f"You sent {SECRET}, did you not?"
    server.answer = lambda body: words if status == 200 else (status, {"error": {"message": words}})
    try:
        said = client.run(client.chat(replace(endpoint, max_retries=0), HELLO)).text
    except CallFailed as error:
        said = str(error)
    assert "You sent ***, did you not?" in said
    if status == 200:
        again = client.run(client.chat(endpoint, HELLO))
        assert (again.reused, again.text) == (True, said)


@pytest.mark.parametrize("key", [f"{SECRET}\nX-Evil: 1", f"{SECRET}é"])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(client, endpoint, server, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EndpointRefused, match="the key in `OPENAI_API_KEY` holds a character") as refused:
        client.run(client.chat(replace(endpoint, max_retries=0), HELLO))
    assert SECRET not in str(refused.value)
    assert server.requests == []


def test_each_endpoint_of_one_server_keeps_its_own_number_of_retries(client, endpoint, server):
    server.answer = refusal(429)
    for max_retries, asked in [(2, 3), (0, 4), (1, 6)]:
        with pytest.raises(CallFailed, match=f"failed {max_retries + 1} times"):
            client.run(client.chat(replace(endpoint, max_retries=max_retries), HELLO))
        assert len(server.requests) == asked


def test_each_endpoint_of_one_server_keeps_its_own_timeout(client, endpoint, server):
    assert client.run(client.chat(replace(endpoint, timeout_s=60), HELLO)).text
    release = threading.Event()
    server.answer = lambda body: "Late." if release.wait(10) else "Never."
    with pytest.raises(CallFailed, match="could not be reached 1 times"):
        client.run(client.chat(replace(endpoint, timeout_s=0.1, max_retries=0), HELLO, sample_index=1))
    release.set()


def test_a_server_that_was_never_there_refuses_the_endpoint(client, endpoint, free_port):
    nowhere = f"http://127.0.0.1:{free_port}/v1"
    with pytest.raises(EndpointRefused) as refused:
        client.run(client.chat(replace(endpoint, base_url=nowhere, max_retries=0), HELLO))
    assert str(refused.value).startswith(f"{nowhere} (model `fake`) cannot be reached (")
    assert "check `base_url` and that the server is running" in str(refused.value)


def test_a_server_that_went_away_fails_the_call_only(client, endpoint, server):
    passing = type(server)()
    there = replace(endpoint, base_url=passing.url, max_retries=0)
    client.run(client.chat(there, HELLO))
    passing.stop()
    with pytest.raises(CallFailed, match="could not be reached 1 times"):
        client.run(client.chat(there, HELLO, sample_index=1))
    assert client.run(client.chat(there, HELLO)).reused  # what was paid for is still there
    with pytest.raises(EndpointRefused):  # a success elsewhere says nothing about another address
        client.run(client.chat(replace(there, base_url=f"{passing.url}/other"), HELLO))


def test_a_connection_that_breaks_inside_the_answer_is_asked_again(client, endpoint):
    """The first answer ends before its declared length."""
    whole = b'{"choices": [{"message": {"content": "Whole."}}]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    listener = socket.create_server(("127.0.0.1", 0))
    served = []

    def serve():
        for answer in (whole[:10], whole):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                served.append(answer)
                connection.sendall(head % len(whole) + answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        there = replace(endpoint, base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", max_retries=1)
        assert client.run(client.chat(there, HELLO)).text == "Whole."
        thread.join(10)
    assert len(served) == 2


@pytest.mark.parametrize("host", ["ex☃.invalid", "a" * 80 + ".invalid", ".invalid"])
def test_a_host_that_no_request_can_be_sent_to_refuses_the_endpoint(client, endpoint, host):
    with pytest.raises(EndpointRefused) as refused:
        client.run(client.chat(replace(endpoint, base_url=f"http://{host}/v1", api_key_env=None), HELLO))
    assert str(refused.value).startswith(f"`base_url` is no address that can be asked: http://{host}/v1 (")
