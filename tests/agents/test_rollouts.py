from collections import Counter

import numpy as np
import pytest

from duologue.agents import Collector
from duologue.agents.rollouts import episodes_to_play, expected_turns, most_training_turns, next_expected
from duologue.inference import EndpointRefused, TooManyFailures


def first(observations, noise):
    """Chooses by the noise, so that a wrong key would show."""
    return [int(4 * row[0]) for row in noise], [0.0] * len(noise)


def trace(played):
    return [
        (p.episode.number, p.episode.scenario.id, p.actions, [t.info["reply"] for t in p.transitions]) for p in played
    ]


def test_a_fixed_number_of_whole_episodes_in_order(make_task):
    played, failures = Collector(make_task(), slots=3, seed=1).collect(16, first)
    assert [p.episode.number for p in played] == list(range(16))
    assert not failures
    assert all(p.transitions[-1].terminated for p in played)
    assert all(len(p.observations) == len(p.actions) == len(p.transitions) for p in played)
    counts = Counter(p.episode.scenario.id for p in played)
    assert set(counts.values()) == {2}  # two epochs of eight scenarios, long ones as often as short ones


def test_what_is_collected_does_not_depend_on_latencies(make_task, server, tmp_path):
    def delays(seed):
        rng = np.random.default_rng(seed)
        return lambda body: float(rng.exponential(0.02))

    traces = []
    for seed in (1, 2):
        server.delay_s = delays(seed)
        traces.append(trace(Collector(make_task(), slots=4, seed=7).collect(12, first)[0]))
    server.delay_s = lambda body: 0.0
    traces.append(trace(Collector(make_task(), slots=1, seed=7).collect(12, first)[0]))
    assert traces[0] == traces[1] == traces[2]


def test_the_next_rollout_goes_on_where_the_last_one_ended(make_task):
    whole = Collector(make_task(), slots=2, seed=3).collect(10, first)[0]
    collector = Collector(make_task(), slots=2, seed=3)
    parts = collector.collect(4, first)[0] + collector.collect(6, first)[0]
    assert trace(whole) == trace(parts)


def test_dialogues_are_under_way_together(make_task, server):
    server.delay_s = lambda body: 1.0
    Collector(make_task(), slots=3, seed=0).collect(3, first)
    assert server.most_in_flight == 12  # three dialogues of four candidates


def test_a_failed_episode_is_tried_again_and_then_left_out(make_task, server, scenarios):
    bad = scenarios[2].user[0]
    server.answer = lambda body: (
        (500, {"error": {"message": "broken"}}) if body["messages"][-1]["content"] == bad else "Fine."
    )
    collector = Collector(make_task(), slots=2, seed=0, max_failure_fraction=0.9)
    played, failures = collector.collect(8, first)
    assert len(played) == 7
    assert scenarios[2].id not in [p.episode.scenario.id for p in played]
    assert failures == {"assistant": 3}


def test_a_fault_that_passes_loses_nothing(make_task, server):
    calls = Counter()

    def flaky(body):
        key = str(body)
        calls[key] += 1
        return (503, {"error": {"message": "busy"}}) if calls[key] <= 2 and "number 1" in key else "Fine."

    server.answer = flaky
    played, failures = Collector(make_task(), slots=4, seed=0, max_failure_fraction=0.9).collect(8, first)
    assert len(played) == 8
    assert failures["assistant"] >= 1


def test_too_many_failures_stop_the_run_with_the_reason(make_task, server):
    server.answer = lambda body: (500, {"error": {"message": "the disk is full"}})
    with pytest.raises(TooManyFailures, match=r"100% of the last 10 episodes failed.*the disk is full"):
        Collector(make_task(), slots=4, seed=0).collect(40, first)


def test_what_no_retry_can_mend_ends_the_run_at_once(make_task, server):
    server.answer = lambda body: (401, {"error": {"message": "bad key"}})
    with pytest.raises(EndpointRefused, match="bad key"):
        Collector(make_task(), slots=4, seed=0).collect(8, first)


def test_an_early_end_leaves_the_collector_usable(make_task):
    collector = Collector(make_task(), slots=3, seed=0)
    seen = []
    collector.collect(16, first, lambda played, transition: seen.append(1) or len(seen) < 4)
    assert len(seen) == 4
    assert len(collector.collect(5, first)[0]) == 5


class FailingJudge:
    """Cannot judge one scenario."""

    async def score(self, batch):
        from duologue.plugins import Failure, Score

        return [Failure("unreadable") if turn.scenario_id == "one-3" else Score(1.0) for turn in batch]

    async def aclose(self):
        pass


def test_a_failed_judge_is_never_a_reward(make_task):
    from duologue.plugins import Reward

    task = make_task(reward=Reward({"flaky": FailingJudge()}))
    played, failures = Collector(task, slots=4, seed=0, max_failure_fraction=0.9).collect(16, first)
    assert failures == {"flaky": 6}
    assert {t.reward for p in played for t in p.transitions} == {1.0}
    assert "one-3" not in [p.episode.scenario.id for p in played]


def test_rollouts_have_about_the_turns_that_they_should_and_the_training_never_more_than_its_bound(
    make_task, scenarios
):
    """Dialogues that may last eight turns and end after three by the user's choice."""

    class Leaves:
        immediate = True

        async def reply(self, scenario, state):
            return None if state.turn == 3 else "Go on."

    task = make_task(interface="plain", scenarios=scenarios, user=Leaves(), max_turns=8)
    assert (expected_turns(task), most_training_turns(task, 96, 48)) == (8, 144)
    collector, turns, mean = Collector(task, slots=4, seed=0), [], 0.0
    while sum(turns) < 96:
        number = episodes_to_play(task, 48, mean or expected_turns(task), 144 - sum(turns))
        played, _ = collector.collect(number, lambda o, n: ([0] * len(o), [0.0] * len(o)))
        turns.append(sum(len(episode.transitions) for episode in played))
        mean = next_expected(mean, turns[-1], len(played), first=not mean)
    assert turns == [18, 45, 30, 18]  # 6 of 8 turns at most, 15 = 144 - 18 over 8, and so on
    assert sum(turns) <= 144
    single = make_task(interface="plain", scenarios=scenarios[:6])
    assert most_training_turns(single, 96, 48) == 96
    assert episodes_to_play(single, 48, expected_turns(single), 48) == 48
