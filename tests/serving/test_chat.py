"""The chat in the terminal: what is said, what is shown, what is asked."""

import io

import numpy as np
import pytest

from duologue.commands.chat import chat


@pytest.fixture
def talk(bundled, server, capsys, monkeypatch, tmp_path):
    def make(interface, said, **settings):
        bundle = bundled(interface)
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        chat({"policy": str(bundle.folder), "trusted": True, **settings}, tmp_path)
        return capsys.readouterr().out

    return make


def test_candidates_are_shown_with_their_probabilities(talk, server):
    out = talk({"name": "select", "n": 3}, "Hello there.\n", compare=True)
    assert len(server.requests) == 4
    shares = [
        float(line.split("%")[0].split()[-1]) for line in out.splitlines() if line.strip().startswith("candidate")
    ]
    assert len(shares) == 3
    assert abs(sum(shares) - 100) < 0.3
    assert shares == sorted(shares, reverse=True)
    assert "policy: " in out
    assert "plain model: " in out


def test_directives_and_commands(talk, server):
    out = talk("strategy", "One.\n/why\nTwo.\n/new\nThree.\n/what\n/quit\nFour.\n")
    assert len(server.requests) == 3  # after /quit nothing is asked
    users = [[m["content"] for m in body["messages"] if m["role"] == "user"] for body in server.requests]
    assert users == [["One."], ["One.", "Two."], ["Three."]]
    assert out.count("probability") == 1
    assert out.count("/quit or Ctrl-D") == 2


def test_a_route_asks_the_model_that_was_chosen(talk, server):
    models = {"small": {"model": "small-model"}, "large": {"model": "large-model"}}
    out = talk({"name": "route", "models": models}, "One.\n", compare=True)
    asked = {body["model"] for body in server.requests}
    assert len(server.requests) == 2
    assert len(asked & {"small-model", "large-model"}) == 1
    assert "plain model: " in out


def test_a_call_that_fails_ends_nothing_and_leaves_no_trace(talk, server):
    answer = server.answer
    server.answer = lambda body: (500, {}) if "Bad." in str(body["messages"][-1]) else answer(body)
    out = talk("strategy", "Bad.\nGood.\n")
    assert "Say it again" in out
    assert [m["content"] for m in server.requests[-1]["messages"] if m["role"] == "user"] == ["Good."]


def test_probabilities_agree_with_the_action(bundled, client):
    bundle = bundled("strategy")
    rng = np.random.default_rng(0)
    space = bundle.policy.policy.network.observation_space
    for _ in range(20):
        observation = {name: rng.uniform(0, 1, box.shape).astype(np.float32) for name, box in space.items()}
        (shares,) = bundle.policy.policy.probabilities(observation)
        assert shares.sum() == pytest.approx(1, abs=1e-5)
        assert int(shares.argmax()) == int(bundle.policy.policy.act(observation))


STEERING = "\x1b]0;owned\x07 \x1b[2J\x9b31m \u202egnp.exe"


@pytest.mark.parametrize("interface", ["strategy", {"name": "select", "n": 2}], ids=["strategy", "select"])
def test_replies_and_errors_cannot_steer_the_terminal(talk, server, interface):
    server.answer = lambda body: (400, {"error": {"message": f"bad {STEERING}"}}) if "Bad." in str(body) else STEERING
    out = talk(interface, "Hello.\nBad.\n", compare=True)
    assert not set("\x1b\x07\x9b\u202e") & set(out)
    assert out.count(r"\x1b]0;owned") >= 2
    assert "Say it again" in out
