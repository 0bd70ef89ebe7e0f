"""What the policy sees."""

import asyncio
import math

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from duologue.envs import Observer, make_interface
from duologue.envs.episode import DialogueState
from duologue.envs.observation import SCALARS
from duologue.inference import ConfigError, Encoder, make_encoder


class Table(Encoder):
    """Plane vectors chosen by the test."""

    name = "table"
    dim = 2

    def __init__(self, vectors):
        super().__init__()
        self._vectors = vectors

    async def _encode_new(self, texts):
        return np.array([self._vectors[text] for text in texts], np.float32)


def messages(*turns: str, system: str | None = None):
    first = [{"role": "system", "content": system}] if system is not None else []
    return first + [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]


def observe(state, encoder=None):
    observer = Observer(encoder or make_encoder({"name": "hashing", "dim": 8}), make_interface("plain"))
    return asyncio.run(observer.observe(state))


def test_scalars_by_hand():
    state = DialogueState(messages("Hi there", "One two three.", "What is 2 and 2?", system="Be kind now."), turn=1)
    scalars = dict(zip(SCALARS, observe(state)["scalars"].tolist(), strict=True))
    assert scalars == pytest.approx(
        {
            "turn": 0.1,
            "user_words": math.log(1 + 5) / 6,
            "question": 1,
            "digits": 1,
            "reply_words": math.log(1 + 3) / 6,
            "history": math.log(1 + 3 + 2 + 3 + 5) / 10,  # the system prompt counts
        }
    )


def test_scalars_of_an_opening_turn_by_hand():
    scalars = observe(DialogueState(messages("Tell me more")))["scalars"].tolist()
    assert scalars == pytest.approx([0, math.log(4) / 6, 0, 0, 0, math.log(4) / 10])


def test_scalars_end_at_1():
    state = DialogueState(messages("word " * 10_000, "word " * 10_000, "word " * 10_000), turn=25)
    assert observe(state)["scalars"].tolist() == [1, 1, 0, 0, 1, 1]


def test_a_dialogue_without_turns_has_an_empty_history():
    found = observe(DialogueState([{"role": "system", "content": "Be brief."}]))
    assert not found["history"].any()
    assert all(np.isfinite(value).all() for value in found.values())


def test_message_is_the_latest_user_turn_and_history_the_mean_of_all_turns():
    vectors = {"one": (1, 0), "two": (0, 1), "three": (0.6, 0.8)}
    found = observe(DialogueState(messages("one", "two", "three", system="never encoded")), Table(vectors))
    assert found["message"].tolist() == pytest.approx([0.6, 0.8])
    assert found["history"].tolist() == pytest.approx([1.6 / 3, 1.8 / 3])


def test_after_the_assistants_last_turn_the_message_is_still_the_users():
    vectors = {"one": (1, 0), "two": (0, 1)}
    found = observe(DialogueState(messages("one", "two"), turn=1), Table(vectors))
    assert found["message"].tolist() == [1, 0]
    assert found["history"].tolist() == [0.5, 0.5]


def test_every_observation_is_made_of_new_arrays():
    encoder = make_encoder({"name": "hashing", "dim": 8})
    state = DialogueState(messages("Hello."))
    first, second = observe(state, encoder), observe(state, encoder)
    for name in first:
        first[name][:] = 0.5
        assert not np.shares_memory(first[name], second[name])
    assert observe(state, encoder)["message"].tolist() == second["message"].tolist()


@pytest.mark.parametrize("name", ["plain", "strategy", "select"])
def test_the_space_is_a_dict_of_float32_boxes(name):
    interface = make_interface(name)
    space = Observer(make_encoder({"name": "hashing", "dim": 8}), interface).space
    shapes = {"message": (8,), "history": (8,), "scalars": (6,)}
    if name == "select":
        shapes |= {"candidates": (4, 11), "candidate_embeddings": (4, 8)}
    assert {key: box.shape for key, box in space.items()} == shapes
    assert all(isinstance(box, spaces.Box) and box.dtype == np.float32 for box in space.values())


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5), st.integers(0, 100), st.none() | st.text(max_size=20))
def test_an_observation_lies_in_its_space_whatever_was_said(turns, turn, system):
    observer = Observer(make_encoder({"name": "hashing", "dim": 8}), make_interface("plain"))
    found = asyncio.run(observer.observe(DialogueState(messages(*turns, system=system), turn=turn)))
    assert observer.space.contains(found)


def test_an_unknown_encoder_gets_the_near_miss(make_task):
    with pytest.raises(ConfigError, match=r"`encoder.name=hashin` is unknown: did you mean `hashing`\?"):
        make_task(encoder="hashin")
    with pytest.raises(ConfigError, match=r"`encoder.dims` is not a setting here: did you mean `dim`\?"):
        make_task(encoder={"name": "hashing", "dims": 8})
