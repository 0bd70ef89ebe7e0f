import asyncio
import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.inference import CallFailed, ConfigError, Encoder, EndpointRefused, make_encoder

SENTENCES = ["The cat sat on the mat.", "A cat is sitting on a mat.", "Interest rates rose by half a point."]


def encode(encoder, texts):
    return asyncio.run(encoder.encode(texts))


class Counting(Encoder):
    """A stranger's encoder: letters counted, and every batch that reaches it noted."""

    name = "counting"
    dim = 2

    def __init__(self):
        super().__init__()
        self.batches = []

    async def _encode_new(self, texts):
        self.batches.append(texts)
        await asyncio.sleep(0)
        return np.array([[len(text), text.count("a")] for text in texts], np.float32)


@given(st.lists(st.text(), max_size=6), st.integers(1, 40))
def test_hashing_gives_unit_rows_or_zero(texts, dim):
    rows = encode(make_encoder({"name": "hashing", "dim": dim}), texts)
    assert rows.shape == (len(texts), dim)
    assert rows.dtype == np.float32
    assert all(abs(n - 1) < 1e-5 or n == 0 for n in np.linalg.norm(rows, axis=1))


@pytest.mark.parametrize("text", ["", "   ", "?!"])
def test_a_text_without_words_is_zero(text):
    assert not encode(make_encoder("hashing"), [text]).any()


def test_hashing_counts_signed_buckets_of_words_pairs_and_trigrams():
    """By hand, with a digest that is the same in every process, as `hash` is not."""
    expected = np.zeros(7)
    for gram in ["go", "on", "go on", "<go", "go>", "<on", "on>"]:
        digest = hashlib.blake2b(gram.encode(), digest_size=8).digest()
        expected[int.from_bytes(digest[:7], "big") % 7] += 1 if digest[7] % 2 else -1
    row = encode(make_encoder({"name": "hashing", "dim": 7}), ["Go, on!"])[0]
    assert row == pytest.approx(expected / np.linalg.norm(expected))


def test_hashing_finds_the_paraphrase_closer():
    cat, paraphrase, bank = encode(make_encoder("hashing"), SENTENCES)
    assert cat @ paraphrase > cat @ bank


def test_texts_are_encoded_once_and_come_back_in_their_order():
    encoder = Counting()
    assert encode(encoder, ["aa", "b", "aa"]).tolist() == [[2, 2], [1, 0], [2, 2]]
    assert encode(encoder, ["b", "ccc", "aa"]).tolist() == [[1, 0], [3, 0], [2, 2]]
    assert encoder.batches == [["aa", "b"], ["ccc"]]


def test_no_texts_are_no_rows():
    encoder = Counting()
    assert encode(encoder, []).shape == (0, 2)
    assert encoder.batches == []


def test_a_result_that_is_changed_does_not_change_what_is_remembered():
    encoder = Counting()
    encode(encoder, ["aa"])[:] = 99
    assert encode(encoder, ["aa"]).tolist() == [[2, 2]]


def test_more_texts_than_are_remembered_are_still_right():
    encoder = Counting()
    encoder.cache_size = 2
    texts = ["a", "bb", "cca", "dddd", "a"]
    expected = [[1, 1], [2, 0], [3, 1], [4, 0], [1, 1]]
    assert encode(encoder, texts).tolist() == expected
    assert encode(encoder, texts).tolist() == expected
    assert encode(encoder, ["dddd"]).tolist() == [[4, 0]]


def test_a_text_forgotten_while_others_are_encoded_is_still_returned():
    encoder = Counting()
    encoder.cache_size = 1

    async def together():
        await encoder.encode(["a"])
        return await asyncio.gather(encoder.encode(["bb"]), encoder.encode(["a", "ccc"]))

    first, second = asyncio.run(together())
    assert first.tolist() == [[2, 0]]
    assert second.tolist() == [[1, 1], [3, 0]]


def test_a_failure_is_not_remembered():
    class Failing(Counting):
        async def _encode_new(self, texts):
            if len(self.batches) == 1:
                self.batches.append(texts)
                raise CallFailed("no answer")
            return await super()._encode_new(texts)

    encoder = Failing()
    encode(encoder, ["aa"])
    with pytest.raises(CallFailed):
        encode(encoder, ["aa", "b"])
    assert encode(encoder, ["aa", "b"]).tolist() == [[2, 2], [1, 0]]
    assert encoder.batches == [["aa"], ["b"], ["b"]]


def endpoint_encoder(server, client, **settings):
    values = {"name": "endpoint", "base_url": server.url, "model": "e", "dim": 3, "api_key_env": None}
    return make_encoder(values | settings, client)


def test_the_endpoint_encoder_gives_unit_rows_in_order(client, server):
    rows = client.run(endpoint_encoder(server, client, batch_size=2).encode(["banana", "x", "aa"]))
    raw = np.array([[6, 1, 3], [1, 1, 0], [2, 1, 2]])  # the server: length, 1, number of a
    assert rows == pytest.approx(raw / np.linalg.norm(raw, axis=1, keepdims=True))
    assert rows.dtype == np.float32


def test_the_endpoint_encoder_asks_in_batches_and_pays_once(client, server):
    texts = ["a" * n for n in range(1, 6)]
    for _ in range(2):
        client.run(endpoint_encoder(server, client, batch_size=2).encode(texts))
    usage = client.meter.roles["encoder"]
    assert (usage.paid, usage.reused, usage.prompt_tokens) == (3, 3, 9)


def test_a_wrong_dimension_is_an_error_that_says_the_right_one(client, server):
    encoder = endpoint_encoder(server, client, dim=4)
    with pytest.raises(ConfigError) as error:
        client.run(encoder.encode(["x"]))
    assert str(error.value) == "`encoder.dim=4`, but `e` gives vectors of length 3: set `encoder.dim=3`"


@pytest.mark.parametrize(("name", "value"), [("dim", 0), ("batch_size", 0)])
def test_endpoint_settings_that_cannot_be_are_refused_by_name(client, server, name, value):
    with pytest.raises(ConfigError, match=f"`encoder` was refused: `{name}` must be at least 1, not 0"):
        endpoint_encoder(server, client, **{name: value})


def test_a_bad_address_is_refused_at_once(client):
    settings = {"name": "endpoint", "base_url": "nowhere", "model": "e", "dim": 3}
    with pytest.raises(ConfigError, match="`encoder` was refused: `base_url` must be like"):
        make_encoder(settings, client)


def test_a_missing_key_is_the_endpoints_error(client, monkeypatch):
    monkeypatch.delenv("MY_TEST_KEY", raising=False)
    settings = {"base_url": "https://api.example.invalid/v1", "model": "e", "dim": 3, "api_key_env": "MY_TEST_KEY"}
    with pytest.raises(EndpointRefused, match="`MY_TEST_KEY` is not set"):
        client.run(make_encoder({"name": "endpoint", **settings}, client).encode(["x"]))


def test_an_address_without_embeddings_refuses_the_endpoint(client, server):
    encoder = endpoint_encoder(server, client, base_url=f"{server.url}/other")
    with pytest.raises(EndpointRefused, match="was not found"):
        client.run(encoder.encode(["x"]))


def test_an_encoder_can_be_built_again_from_its_settings(client, server):
    for encoder in (make_encoder({"name": "hashing", "dim": 9}), endpoint_encoder(server, client, batch_size=5)):
        again = make_encoder(encoder.settings, client)
        assert again.settings == encoder.settings
        assert np.array_equal(client.run(again.encode(SENTENCES)), client.run(encoder.encode(SENTENCES)))


def test_an_encoders_settings_name_the_keys_variable_and_never_the_key(client, server, monkeypatch):
    monkeypatch.setenv("MY_TEST_KEY", "sk-secret")
    settings = endpoint_encoder(server, client, api_key_env="MY_TEST_KEY").settings
    assert settings["api_key_env"] == "MY_TEST_KEY"
    assert "sk-secret" not in str(settings)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ("hashin", "`encoder.name=hashin` is unknown: did you mean `hashing`?"),
        ({"dim": 3}, "`encoder.name` is missing: known: `endpoint`, `hashing`, `minilm`, `static`"),
        ({"name": "hashing", "dims": 3}, "`encoder.dims` is not a setting here: did you mean `dim`?"),
        ({"name": "hashing", "dim": 0}, "`encoder` was refused: `dim` must be at least 1, not 0"),
        ({"name": "endpoint", "model": "e", "dim": 3}, "`encoder.base_url` is missing"),
        ({"name": "endpoint", "client": 1}, "`encoder.client` is not a setting here"),
    ],
)
def test_bad_settings_are_named(client, settings, text):
    with pytest.raises(ConfigError) as error:
        make_encoder(settings, client)
    assert text in str(error.value)


def test_a_strangers_encoder_is_found_by_its_path_unless_the_settings_are_a_strangers(client):
    assert make_encoder({"name": "duologue.inference.encoders:HashingEncoder", "dim": 4}, client).dim == 4
    with pytest.raises(ConfigError, match="trusted=true"):
        make_encoder({"name": "duologue.inference.encoders:HashingEncoder"}, client, custom=False)


@pytest.mark.model
def test_static_embeddings_load_and_work_without_any_connection():
    script = f"""
import asyncio, os, sys
sys.addaudithook(lambda event, _: event in ("socket.connect", "socket.getaddrinfo") and os._exit(9))
from duologue.inference import make_encoder
print(asyncio.run(make_encoder("static").encode({SENTENCES!r})).tobytes().hex())
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = np.frombuffer(bytes.fromhex(done.stdout.strip()), np.float32).reshape(3, 256)
    assert np.array_equal(rows, encode(make_encoder("static"), SENTENCES))


@pytest.mark.model
def test_static_embeddings_are_unit_rows_that_know_meaning_and_not_case():
    encoder = make_encoder("static")
    cat, paraphrase, bank = encode(encoder, SENTENCES)
    assert cat @ paraphrase > cat @ bank + 0.2
    rows = encode(encoder, ["", "word", *SENTENCES])
    assert np.linalg.norm(rows, axis=1) == pytest.approx([0, 1, 1, 1, 1], abs=1e-5)


@pytest.mark.model
def test_a_static_embedding_does_not_depend_on_its_batch():
    alone = make_encoder("static")
    rows = np.concatenate([encode(alone, [text]) for text in SENTENCES])
    assert np.array_equal(encode(make_encoder("static"), SENTENCES), rows)
