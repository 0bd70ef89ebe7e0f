"""The embedded model: really started, really asked, really killed."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys

import pytest

from duologue.inference import Endpoint, EndpointRefused, InferenceClient, Sampling
from duologue.inference.embedded import EmbeddedServer, shared_server

ASK = [{"role": "user", "content": "Name a colour."}]

PARENT = """
import json, os, sys
from duologue.inference.embedded import EmbeddedServer
server = EmbeddedServer("smollm2")
server.urls()
print(json.dumps([child.pid for child in server._children]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def embedded():
    """One start for all tests here; no cassette, so that every answer is a generation."""
    client = InferenceClient()
    sampling = Sampling(temperature=1.0, max_tokens=6, seed=1)
    yield client, Endpoint("embedded://smollm2", "smollm2-135m-instruct", sampling=sampling, timeout_s=60)
    client.close()
    shared_server("smollm2").stop()


def test_an_unknown_model_is_refused_and_the_known_ones_are_named(client):
    with pytest.raises(EndpointRefused) as refused:
        client.run(client.chat(Endpoint("embedded://smollm3", "m"), ASK))
    assert str(refused.value).startswith(
        "`embedded://smollm3` is unknown: known: embedded://smollm2, embedded://bargain"
    )


@pytest.mark.model
def test_it_answers_with_logprobs_and_usage(embedded):
    client, endpoint = embedded
    answer = client.run(client.chat(endpoint, ASK, logprobs=True, top_logprobs=3))
    assert answer.text
    assert answer.finish_reason in ("stop", "length")
    assert answer.prompt_tokens > 3
    assert 1 <= answer.completion_tokens <= 6
    assert len(answer.logprobs) in (answer.completion_tokens, answer.completion_tokens - 1)  # the end token is silent
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in answer.logprobs)
    assert answer.text in "".join(token.token for token in answer.logprobs)


@pytest.mark.model
def test_a_length_that_is_too_short_is_said(embedded):
    client, endpoint = embedded
    answer = client.run(client.chat(endpoint, ASK, sampling=Sampling(temperature=0.0, max_tokens=1)))
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 1)


@pytest.mark.model
def test_samples_differ_by_their_index(embedded):
    client, endpoint = embedded

    async def samples():
        return await asyncio.gather(*(client.chat(endpoint, ASK, sample_index=i) for i in range(6)))

    assert len({answer.text for answer in client.run(samples())}) > 1


@pytest.mark.model
def test_all_clients_of_a_process_share_one_start(embedded):
    client, endpoint = embedded
    client.run(client.chat(endpoint, ASK))
    urls = shared_server("smollm2").urls()
    assert shared_server("smollm2").urls() == urls
    assert all(url.startswith("http://127.0.0.1:") and url.endswith("/v1") for url in urls)
    assert len(set(urls)) == len(urls)


@pytest.mark.model
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs process file descriptors (Linux)")
def test_the_servers_end_when_their_parent_is_killed():
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        pids = json.loads(parent.stdout.readline())
        handles = [os.pidfd_open(pid) for pid in pids]
        assert not select.select(handles, [], [], 0)[0]  # all alive
        os.kill(parent.pid, signal.SIGKILL)
    for handle in handles:
        assert select.select([handle], [], [], 30)[0], "a server outlived its parent"
        os.close(handle)
    assert pids


@pytest.mark.model
def test_a_model_that_does_not_load_is_refused_with_the_command_that_says_why(tmp_path):
    server = EmbeddedServer("smollm2")
    server.model_path = tmp_path / "broken.gguf"
    server.model_path.write_bytes(b"no model")
    with pytest.raises(EndpointRefused, match="the embedded model did not start") as refused:
        server.urls()
    assert f"embedded_server.py {server.model_path} 1 1` to see why" in str(refused.value)
    server.stop()


@pytest.mark.model
def test_a_stopped_server_can_be_started_again(embedded):
    client, endpoint = embedded
    client.run(client.chat(endpoint, ASK))
    shared_server("smollm2").stop()
    assert client.run(client.chat(endpoint, ASK)).text
