import json
import zlib
from dataclasses import replace

import pytest

from duologue.core.errors import EndpointRefused
from duologue.envs.policies import ConstantPolicy
from duologue.evaluation.contestants import make_contestants, plain_baseline
from duologue.evaluation.matches import Tally, play_matches
from duologue.evaluation.referee import Match, Referee
from duologue.inference import InferenceClient
from duologue.plugins import Abstain, Score
from duologue.plugins.judges.length import LengthJudge

STRATEGY = {"name": "strategy", "directives": ["", "Be brief.", "Be kind."]}


class EvenOnly:
    """Scores the length of replies to questions with an even number and abstains from the others."""

    async def score(self, batch):
        even = [int(turn.scenario_id[-1]) % 2 == 0 for turn in batch]
        return [Score(len(t.reply)) if e else Abstain("odd") for t, e in zip(batch, even, strict=True)]

    async def aclose(self):
        pass


@pytest.fixture
def play(client, make_task, scenarios, tmp_path):
    """Plays matches and returns the tallies' summaries, the tallies, and the lines of the file."""

    def run(
        interface=STRATEGY, repeats=1, judge=None, kinds=("constants",), client=client, progress=lambda: None, against=1
    ):
        task = replace(make_task(interface=interface, judges={}), client=client)
        referee = Referee("length", judge or LengthJudge(low=9))
        contestants = make_contestants(kinds, ConstantPolicy(0), task, referee.batched_judge)
        path = tmp_path / "matches.jsonl"
        tallies = client.run(
            play_matches(contestants, plain_baseline(task), scenarios[:6], repeats, referee, path, progress, against)
        )
        return tallies, [json.loads(line) for line in path.read_text().splitlines()]

    return run


def directed(directive):
    return lambda body: directive in body["messages"][0]["content"]


def test_every_match_is_a_complete_line(play, scenarios):
    tallies, lines = play("select", repeats=2, kinds=("constants", "random", "oracle"))
    assert len(lines) == 6 * 3 * 2  # a plain sample, the random policy and the oracle
    assert {(line["scenario"], line["repeat"], line["contestant"]) for line in lines} == {
        (scenario.id, repeat, tally.contestant)
        for scenario in scenarios[:6]
        for repeat in range(2)
        for tally in tallies
    }
    for line in lines:
        assert set(line) == {
            "scenario", "repeat", "contestant", "baseline", "baseline_repeat", "judge", "messages", "baseline_messages", "reply", "baseline_reply", "actions",
            "scores", "orders", "outcome", "consistent", "failure", "rationales",
        }  # fmt: skip
        assert (line["baseline"], line["judge"], line["failure"]) == ("plain model", "length", None)
        number = line["scenario"].removeprefix("one-")
        assert line["messages"][-1] == {"role": "user", "content": f"Question number {number}, please?"}
        assert line["scores"] == [min(1.0, len(line[reply].split()) / 9) for reply in ("reply", "baseline_reply")]
        better, worse = line["scores"][0] > line["scores"][1], line["scores"][0] < line["scores"][1]
        assert line["outcome"] == ("win" if better else "loss" if worse else "tie")


def test_every_answer_meets_several_plain_samples_of_its_own(play):
    tallies, lines = play(repeats=2, against=3)
    assert {tally.summary()["n"] for tally in tallies} == {6 * 2 * 3}
    assert {tally.rate.clusters for tally in tallies} == {6}
    met = {(line["repeat"], line["baseline_repeat"]) for line in lines}
    assert met == {(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5)}  # no plain sample is used twice
    replies = {(line["scenario"], line["baseline_repeat"]): line["baseline_reply"] for line in lines}
    assert len(set(replies.values())) > 6


def test_the_tallies_are_the_sums_of_the_lines(play):
    tallies, lines = play(repeats=2)
    for tally in tallies:
        own = [line for line in lines if line["contestant"] == tally.contestant]
        summary = tally.summary()
        for count, outcome in (("wins", "win"), ("ties", "tie"), ("losses", "loss")):
            assert summary[count] == sum(line["outcome"] == outcome for line in own)
        assert summary["win_rate"] == pytest.approx((summary["wins"] + summary["ties"] / 2) / 12, abs=1e-6)
        assert summary["n"] == 12


def test_lines_are_on_disk_as_soon_as_their_scenario_is_decided(play, tmp_path):
    seen = []
    play(repeats=2, progress=lambda: seen.append(len((tmp_path / "matches.jsonl").read_text().splitlines())))
    assert seen == [3 * (i + 1) for i in range(12)]


def test_the_server_s_delays_change_neither_the_results_nor_their_order(play, server):
    def recorded():
        client = InferenceClient()  # no cassette: every request is asked again
        try:
            tallies, _ = play(repeats=2, client=client)
            return [(tally.contestant, tally.prompts, tally.scores) for tally in tallies]
        finally:
            client.close()

    at_once = recorded()
    server.delay_s = lambda body: zlib.crc32(json.dumps(body).encode()) % 5 / 100
    assert recorded() == at_once


def test_a_contestant_that_fails_has_failures_and_no_losses(play, server):
    spoken = server.answer
    refuse = directed("Be kind.")
    server.answer = lambda body: (500, {"error": {"message": "later"}}) if refuse(body) else spoken(body)
    tallies, lines = play(STRATEGY)
    kind = tallies[2].summary()
    assert kind["contestant"] == "always Be kind."
    assert [kind[name] for name in ("n", "wins", "ties", "losses", "failures")] == [0, 0, 0, 0, 6]
    assert (kind["win_rate"], kind["low"], kind["high"]) == (None, None, None)
    assert [tally.summary()["failures"] for tally in tallies[:2]] == [0, 0]
    (line,) = [line for line in lines if line["failure"] and line["scenario"] == "one-0"]
    assert "500: later" in line["failure"]
    assert [line[name] for name in ("reply", "messages", "actions", "scores", "outcome", "consistent")] == [None] * 6
    assert line["baseline_reply"]
    assert line["orders"] == []


def test_without_the_baseline_s_answer_nobody_has_a_result(play, server):
    spoken = server.answer
    server.answer = lambda body: (500, {}) if body["seed"] >= 10_000 and "0" in str(body["messages"]) else spoken(body)
    tallies, lines = play()
    assert [tally.summary()["failures"] for tally in tallies] == [1, 1, 1]
    assert [tally.summary()["n"] for tally in tallies] == [5, 5, 5]
    assert all("one-0" not in tally.prompts for tally in tallies)
    assert {line["reply"] is not None for line in lines if line["failure"]} == {True}


def test_matches_that_the_judge_cannot_decide_are_left_out_and_counted(play):
    tallies, lines = play(judge=EvenOnly())
    assert [tally.prompts for tally in tallies] == [["one-0", "one-2", "one-4"]] * 3
    assert [tally.failures for tally in tallies] == [3] * 3
    assert {line["failure"] for line in lines} == {None, "length: abstained: odd"}


def test_a_refused_endpoint_ends_the_evaluation(play, server):
    server.answer = lambda body: (404, {"error": {"message": "no such model"}})
    with pytest.raises(EndpointRefused, match="no such model"):
        play()


def test_repeats_are_clustered_by_their_scenario(play):
    tallies, _ = play(repeats=3)
    assert [(tally.rate.n, tally.rate.clusters) for tally in tallies] == [(18, 6)] * 3


def test_a_tally_by_hand(scenarios):
    tally = Tally("own", "plain model", "judge")
    results = [(1.0, 1.0), (1.0, 0.5), (1.0, 0.0), (0.0, 0.0), ()]
    for scenario, orders in zip(scenarios[:5], results, strict=True):
        tally.add(scenario, Match(orders, failure=None if orders else "judge: crashed"))
    summary = tally.summary()
    assert {name: summary[name] for name in ("n", "wins", "ties", "losses", "failures", "win_rate")} == {
        "n": 4, "wins": 2, "ties": 1, "losses": 1, "failures": 1, "win_rate": 0.5625,
    }  # fmt: skip
    assert 0 < summary["low"] < 0.5625 < summary["high"] < 1
