"""A scripted model answers as a server does: whole, or as a stream."""

import openai
import pytest

from duologue.inference.scripted import ScriptedServer

ASKED = {"model": "rules", "messages": [{"role": "user", "content": "Well?"}]}


@pytest.fixture
def client():
    server = ScriptedServer(lambda messages, seed, model: f"{messages[-1]['content']} It depends on you.")
    with openai.OpenAI(base_url=server.url, api_key="none") as asking:
        yield asking
    server.stop()


def test_a_stream_is_the_same_answer_in_words(client):
    whole = client.chat.completions.create(**ASKED)
    chunks = list(client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    spoken = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert [part for part in spoken if part] == ["Well?", " It", " depends", " on", " you."]
    assert whole.choices[0].message.content == "Well? It depends on you."
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage


def test_a_stream_that_is_cut_says_so(client):
    chunks = list(client.chat.completions.create(**ASKED, stream=True, max_tokens=2))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Well? It"
    assert chunks[-1].choices[0].finish_reason == "length"
