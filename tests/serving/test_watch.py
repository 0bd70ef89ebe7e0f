"""Shadow, canary and feedback: what is compared, what is counted, what is kept."""

import json
import resource

import httpx2 as httpx
import numpy as np
import pytest

from duologue.commands.exchange import run_import
from duologue.envs import load_scenarios
from duologue.evaluation.judge_check.labelled import read_labelled
from duologue.plugins import Preference, Score
from duologue.serving import Limits
from duologue.serving.feedback import Feedback
from duologue.serving.monitoring import Tally, Watch, share_of
from duologue.tests.serving.test_app import ASKED, metric, post, sdk, wait_for


class Likes:
    """Scores a reply by whether the frozen model was directed: plain replies are known to it."""

    def __init__(self, plain):
        self.plain = plain

    async def score(self, batch):
        return [Score(0.0 if turn.reply in self.plain else 1.0) for turn in batch]

    async def aclose(self):
        pass


class First:
    """Always prefers the reply that it is shown first."""

    async def compare(self, batch):
        return [Preference("first") for _ in batch]

    async def aclose(self):
        pass


@pytest.fixture
def watched(serving, client, server):
    def make(judge, interface="strategy", share=1.0):
        running = serving(interface)
        running.service.watch = Watch(judge, share, client, running.service.metrics)
        return running

    return make


def shadows(running, result):
    return metric(running, f'duologue_shadow_matches_total{{model="my-model",result="{result}"}}')


@pytest.mark.parametrize("stream", [False, True])
def test_replies_are_compared_off_the_path(watched, server, stream):
    server.answer = lambda body: "directed" if body["messages"][0]["content"] != "Answer briefly." else "plain"
    running = watched(Likes({"plain"}))
    running.service.aliases["my-model"]._policy = type("Second", (), {"act": lambda self, observation, key: 1})()
    for number in range(4):
        body = {"messages": [{"role": "user", "content": f"{number}?"}]}
        if stream:
            list(sdk(running).chat.completions.create(**ASKED | body, stream=True))
        else:
            post(running, body)
    assert wait_for(lambda: shadows(running, "win") == 4)
    assert metric(running, 'duologue_shadow_win_rate{bound="rate",model="my-model"}') == 1
    assert len(server.requests) == 8


def test_a_judge_that_goes_by_the_place_gives_ties(watched):
    running = watched(First(), {"name": "select", "n": 3})
    post(running)
    assert wait_for(lambda: shadows(running, "tie") == 1)


def test_what_fails_off_the_path_harms_nothing(watched, server):
    running = watched(Likes(set()))
    answer = server.answer
    seen = []
    server.answer = lambda body: answer(body) if not seen.append(1) and len(seen) == 1 else (500, {})
    assert post(running).status_code == 200
    assert wait_for(lambda: shadows(running, "failed") == 1)


def test_a_share_is_the_same_everywhere_and_about_as_large_as_it_says():
    messages = [[{"role": "user", "content": f"question {i}"}] for i in range(4000)]
    shares = np.array([share_of(one, "canary") for one in messages])
    assert abs((shares < 0.05).mean() - 0.05) < 0.011  # three standard errors
    assert shares.tolist() == [share_of(one, "canary") for one in messages]
    agreeing = ((shares < 0.5) == (np.array([share_of(one, "shadow") for one in messages]) < 0.5)).mean()
    assert abs(agreeing - 0.5) < 0.05  # the two shares know nothing of each other


def test_a_dialogue_stays_on_its_side():
    for number in range(100):
        dialogue = [
            {"role": "system", "content": f"It is {number} o'clock."},
            {"role": "user", "content": f"{number}?"},
        ]
        first = share_of(dialogue, "canary")
        for turn in range(5):
            dialogue += [{"role": "assistant", "content": f"{turn}."}, {"role": "user", "content": f"And {turn}?"}]
            dialogue[0] = {"role": "system", "content": f"It is later: {turn}."}
            assert share_of(dialogue, "canary") == first
    hello = [{"role": "user", "content": "Hello"}]
    by_session = {share_of(hello, "canary", f"session {number}") for number in range(100)}
    assert len(by_session) == 100
    assert share_of(hello, "canary", "session 1") == share_of([*hello, *hello], "canary", "session 1")


def test_dialogues_with_ids_of_their_own_are_split_by_them(serving):
    running = serving("strategy")
    running.service.canary = 0.5
    sides = {
        number: {
            "x-duologue-canary" in post(running, headers={"x-session-id": f"session {number}"}).headers
            for _ in range(2)
        }
        for number in range(12)
    }
    assert all(len(side) == 1 for side in sides.values())
    assert len(set.union(*sides.values())) == 2


def test_a_canary_is_answered_by_the_frozen_model(serving, server):
    running = serving("strategy")
    running.service.canary = 1.0
    response = post(running)
    assert response.headers["x-duologue-canary"] == "true"
    assert server.requests[0]["messages"] == [{"role": "system", "content": "Answer briefly."}, *ASKED["messages"]]
    assert metric(running, 'duologue_canaries_total{model="my-model"}') == 1
    running.service.canary = 0.0
    assert "x-duologue-canary" not in post(running).headers


def test_the_running_win_rate_is_that_of_its_scores():
    scores = [1.0, 0.5, 0.0, 1.0, 1.0, 0.5]
    tally = Tally()
    for score in scores:
        tally.add(score)
    half = 1.96 * np.std(scores, ddof=1) / np.sqrt(6)
    assert (tally.n, tally.mean) == (6, pytest.approx(np.mean(scores)))
    assert tally.interval == (pytest.approx(np.mean(scores) - half), pytest.approx(min(1.0, np.mean(scores) + half)))
    assert Tally().interval == (0.0, 1.0)


@pytest.fixture
def rated(serving, tmp_path):
    from duologue.tests.serving.conftest import Running

    service = serving("strategy").service
    running = Running(service, Limits(), Feedback(tmp_path / "kept" / "feedback.jsonl"))
    yield running, tmp_path / "kept" / "feedback.jsonl"
    running.stop()


def test_feedback_is_kept_for_judges_and_for_training(rated, tmp_path):
    running, path = rated
    for score, reply in ((1, "It is Paris."), (0.25, "It is Lyon.")):
        body = {
            "messages": [{"role": "user", "content": f"Capital {score}?"}],
            "reply": reply,
            "score": score,
            "model": "my-model",
        }
        assert httpx.post(f"{running.url}/feedback", json=body).json() == {"status": "kept"}
    labelled = read_labelled(path)
    assert [(one.turn.reply, one.score) for one in labelled] == [("It is Paris.", 1), ("It is Lyon.", 0.25)]
    run_import(["feedback", str(path), f"to={tmp_path / 'next.jsonl'}"])
    assert [(s.user, s.reference) for s in load_scenarios(tmp_path / "next.jsonl", "test")] == [
        (("Capital 1?",), "It is Paris."),
        (("Capital 0.25?",), None),
    ]


def test_feedback_on_a_full_disk_leaves_no_half_lines(started, tmp_path):
    path = tmp_path / "feedback.jsonl"
    child, url = started(f"feedback={path}")
    rated = {"messages": ASKED["messages"], "reply": "x" * 300, "score": 1}
    headers = {"Content-Type": "application/json"}

    def rate():
        return httpx.post(f"{url}/feedback", content=json.dumps(rated), headers=headers, timeout=30)

    assert rate().status_code == 200
    whole = path.read_bytes()
    limits = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (len(whole) + 50, limits[1]))
    refused = rate()
    assert (refused.status_code, refused.json()["error"]["type"]) == (507, "api_error")
    assert "could not be kept" in refused.json()["error"]["message"]
    assert path.read_bytes() == whole
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, limits)
    assert rate().status_code == 200
    assert path.read_bytes() == whole * 2


def test_feedback_goes_on_after_half_a_line(rated):
    running, path = rated
    path.parent.mkdir()
    path.write_bytes(b'{"messages": [{"role"')  # as a killed process leaves it
    body = {"messages": ASKED["messages"], "reply": "x", "score": 1}
    assert httpx.post(f"{running.url}/feedback", json=body).status_code == 200
    half, line = path.read_bytes().splitlines()
    assert half == b'{"messages": [{"role"'
    assert json.loads(line)["reply"] == "x"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"score": 2}, "score"),
        ({"score": True}, "score"),
        ({"reply": " "}, "reply"),
        ({"messages": []}, "messages"),
        ({"messages": [3]}, "messages"),
    ],
)
def test_feedback_that_is_none_is_not_kept(rated, change, param):
    running, path = rated
    body = {"messages": ASKED["messages"], "reply": "x", "score": 1} | change
    response = httpx.post(f"{running.url}/feedback", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert not path.exists()
