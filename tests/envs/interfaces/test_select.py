"""`select`: candidates, their features, and the one that is sent."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.envs import DialogueEnv
from duologue.envs.episode import DialogueState
from duologue.envs.interfaces import Select
from duologue.envs.interfaces.select import FEATURES
from duologue.inference import Completion, Encoder, EndpointRefused, Sampling, TokenLogprob, make_encoder


class Table(Encoder):
    """Plane vectors chosen by the test."""

    name = "table"
    dim = 2

    def __init__(self, vectors: dict[str, tuple[float, float]]) -> None:
        super().__init__()
        self._vectors = vectors

    async def _encode_new(self, texts):
        return np.array([self._vectors[text] for text in texts], np.float32)


def candidate(text: str, logprobs=None, finish_reason="stop", tops=()) -> dict:
    """A chat completion's body with these token logprobs and, at each position, these alternatives."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    if logprobs is not None:
        top_logprobs = [{"token": "t", "logprob": top} for top in tops]
        choice["logprobs"] = {
            "content": [{"token": "t", "logprob": value, "top_logprobs": top_logprobs} for value in logprobs]
        }
    return {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


def column(observation, name):
    return observation["candidates"][:, FEATURES.index(name)].tolist()


@pytest.fixture
def open_turn(server, make_task, scenarios):
    """The first observation when the server answers sample i with ``candidates[i]``."""

    def open_turn(candidates, **settings):
        server.answer = lambda body: candidates[body["seed"]]
        task = make_task(interface={"name": "select", "n": len(candidates), **settings}, scenarios=scenarios[:1])
        return DialogueEnv(task).reset(seed=0)[0]

    return open_turn


def test_similarity_and_agreement_by_hand(server, make_task, scenarios):
    server.answer = lambda body: candidate(["east", "north", "between"][body["seed"]])
    vectors = {scenarios[0].user[0]: (1, 0), "east": (1, 0), "north": (0, 1), "between": (0.6, 0.8)}
    interface = {"name": "select", "n": 3, "logprobs": False}
    env = DialogueEnv(make_task(interface=interface, encoder=Table(vectors), scenarios=scenarios[:1]))
    observation, _ = env.reset(seed=0)
    assert column(observation, "similarity") == pytest.approx([1, 0, 0.6])
    # east·north = 0, east·between = 0.6, north·between = 0.8
    assert column(observation, "agreement") == pytest.approx([0.3, 0.4, 0.7])
    assert observation["candidate_embeddings"] == pytest.approx(np.array([(1, 0), (0, 1), (0.6, 0.8)]))


def test_echo_is_lexical_and_start_covers_six_tokens(open_turn):
    words = "Question number 0, please?"  # the user's own words
    texts = [candidate(words, logprobs=[-1.0] * 6 + [-4.0] * 6), candidate("Nothing alike here", logprobs=[-2.0, -3.0])]
    observation = open_turn(texts)
    echo = column(observation, "echo")
    assert echo[0] == pytest.approx(1.0, abs=1e-6)
    assert abs(echo[1]) < 0.2
    assert column(observation, "logprob_start") == pytest.approx([-1.0, -2.5])
    assert column(observation, "logprob_mean") == pytest.approx([-2.5, -2.5])


def test_words_distinct_and_finished_by_hand(open_turn):
    texts = [candidate("One two, three four."), candidate("A a A b!", finish_reason="length"), candidate("")]
    observation = open_turn([*texts, candidate("word " * 300)], logprobs=False)
    assert column(observation, "words") == pytest.approx([math.log(n) / 4 for n in (5, 5, 1, 301)])
    assert column(observation, "distinct") == pytest.approx([1, 2 / 4, 0, 1 / 300])
    assert column(observation, "finished") == [1, 0, 1, 1]


def test_logprobs_by_hand(open_turn):
    answers = [
        candidate("a b c", [-0.1, -0.2, -0.6]),
        candidate("a", [0.0]),
        candidate("a b", [-30.0, -10.0]),  # below the lowest values, which are -5 and -20
        candidate("a", []),  # a server that lists no token
    ]
    observation = open_turn(answers)
    assert column(observation, "logprob_mean") == pytest.approx([-0.3, 0, -5, 0])
    assert column(observation, "logprob_min") == pytest.approx([-0.06, 0, -2, 0])
    assert column(observation, "entropy") == [0, 0, 0, 0]
    assert column(observation, "has_logprobs") == [1, 1, 1, 0]


def test_entropy_of_the_alternatives_by_hand(open_turn):
    half, quarter = math.log(0.5), math.log(0.25)
    answers = [
        candidate("a b", [half, half], tops=[half, quarter]),  # the rest, a quarter, counts as one more
        candidate("a", [half], tops=[half, half]),  # nothing is left
        candidate("a", [0.0], tops=[0.0]),
        candidate("a", [half], tops=[]),
    ]
    observation = open_turn(answers, top_logprobs=2)
    assert column(observation, "entropy") == pytest.approx([1.5 * math.log(2), math.log(2), 0, 0], abs=1e-6)


def test_alternatives_that_were_not_asked_for_do_not_count(open_turn):
    observation = open_turn([candidate("a", [-0.7], tops=[-0.7, -0.7])] * 2)
    assert column(observation, "entropy") == [0, 0]


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"logprobs": False}, {}),
        ({}, {"logprobs": True}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ],
)
def test_the_requests_ask_for_the_logprobs_that_are_used(server, open_turn, settings, asked):
    open_turn([candidate(text, [-0.5]) for text in "ab"], **settings)
    assert len(server.requests) == 2
    for body in server.requests:
        assert {key: value for key, value in body.items() if "logprobs" in key} == asked


def test_without_logprobs_their_columns_are_zero_even_if_the_server_sends_them(open_turn):
    observation = open_turn([candidate(text, [-0.5, -1.5], tops=[-0.5]) for text in "ab"], logprobs=False)
    for name in ("logprob_mean", "logprob_min", "entropy", "has_logprobs"):
        assert column(observation, name) == [0, 0]


def test_an_endpoint_without_logprobs_is_refused_with_the_cure(server, make_task):
    server.logprobs = False
    with pytest.raises(EndpointRefused, match=r"Set `interface.logprobs=false`"):
        DialogueEnv(make_task()).reset(seed=0)


@pytest.mark.parametrize("action", [0, 1, 2])
def test_the_chosen_candidate_is_sent_and_nothing_more_is_asked(server, make_task, scenarios, action):
    texts = ["First.", "Second.", "Third."]
    server.answer = lambda body: candidate(texts[body["seed"]], finish_reason="length" if body["seed"] else "stop")
    interface = {"name": "select", "n": 3, "logprobs": False}
    env = DialogueEnv(make_task(interface=interface, scenarios=scenarios[:1]))
    env.reset(seed=0)
    *_, info = env.step(action)
    assert sorted(body["seed"] for body in server.requests) == [0, 1, 2]
    assert (info["reply"], info["action"]) == (texts[action], f"candidate {action}")
    assert info["messages"][-1] == {"role": "assistant", "content": texts[action]}
    assert info["finish_reason"] == ("length" if action else "stop")


def test_the_candidates_of_one_turn_are_asked_for_with_the_same_messages(server, make_task, scenarios):
    DialogueEnv(make_task(scenarios=scenarios[:1])).reset(seed=0)
    assert len(server.requests) == 4
    assert all(body["messages"] == server.requests[0]["messages"] for body in server.requests)


def test_a_new_draw_asks_for_new_candidates_and_an_old_one_asks_for_none(server, make_task, scenarios):
    env = DialogueEnv(make_task(interface={"name": "select", "n": 3}, scenarios=scenarios[:1], draws=2))
    asked = []
    for epoch in range(4):
        _, info = env.reset(seed=0) if epoch == 0 else env.reset()
        asked.append((info["draw"], sorted(body["seed"] for body in server.requests)))
        server.requests.clear()
    assert asked == [(0, [0, 1, 2]), (1, [3, 4, 5]), (0, []), (1, [])]


def test_candidates_differ_without_a_seed_too(server, endpoint, make_task, scenarios):
    counter = iter(range(10))
    server.answer = lambda body: candidate(f"Answer {next(counter)}.", [-0.5])
    endpoint = replace(endpoint, sampling=Sampling(max_tokens=20))
    env = DialogueEnv(make_task(endpoints={"assistant": endpoint}, scenarios=scenarios[:1]))
    replies = set()
    for action in range(4):
        env.reset(seed=0)
        replies.add(env.step(action)[-1]["reply"])
    assert replies == {f"Answer {i}." for i in range(4)}
    assert len(server.requests) == 4  # equal requests, each of them sent, none of them twice
    assert all(body == server.requests[0] for body in server.requests)


completions = st.builds(
    Completion,
    text=st.text(max_size=40),
    finish_reason=st.sampled_from(["stop", "length", "content_filter"]),
    logprobs=st.none()
    | st.lists(st.builds(TokenLogprob, token=st.just("t"), logprob=st.floats(-1e6, 1)), max_size=4).map(tuple),
)


def features(interface, encoder, proposals):
    state = DialogueState([{"role": "user", "content": "What is this?"}], proposals=proposals)
    return asyncio.run(interface.features(state, encoder))


@given(
    st.lists(completions, min_size=2, max_size=5).flatmap(
        lambda c: st.tuples(st.just(c), st.permutations(range(len(c))))
    )
)
def test_permuting_the_candidates_permutes_the_rows_and_changes_nothing_else(case):
    proposals, order = case
    interface, encoder = Select(len(proposals)), make_encoder({"name": "hashing", "dim": 8})
    before = features(interface, encoder, proposals)
    after = features(interface, encoder, [proposals[i] for i in order])
    for name in before:
        np.testing.assert_allclose(after[name], before[name][order], atol=1e-6)


@given(st.lists(completions, min_size=3, max_size=3))
def test_features_lie_in_their_boxes_whatever_the_candidates(proposals):
    interface, encoder = Select(3, top_logprobs=2), make_encoder({"name": "hashing", "dim": 8})
    found = features(interface, encoder, proposals)
    for name, box in interface.observation_space(encoder).items():
        assert box.contains(found[name]), name
    assert found["candidates"].shape == (3, len(FEATURES))
