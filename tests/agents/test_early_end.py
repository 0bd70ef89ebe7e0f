"""Rollouts that do not reach their end: drained when a callback stops, cancelled when something breaks."""

import asyncio
import time

import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import set_random_seed

from duologue.agents import CandidatePolicy, Collector, DialoguePPO, DialogueVecEnv
from duologue.inference import EndpointRefused

OPTIONS = {"n_steps": 4, "batch_size": 8, "n_epochs": 2, "device": "cpu", "seed": 5}


def first(observations, noise):
    return [int(4 * row[0]) for row in noise], [0.0] * len(noise)


class StopAt(BaseCallback):
    def __init__(self, timesteps):
        super().__init__()
        self.timesteps = timesteps

    def _on_step(self):
        return self.num_timesteps < self.timesteps


def parameters(agent):
    return th.cat([p.detach().ravel() for p in agent.policy.parameters()])


def under_way(task):
    """How many tasks run on the client's loop, beside the one that renews the cassette's claims now and then."""

    async def count():
        names = [running.get_coro().__qualname__ for running in asyncio.all_tasks()]
        return len(names) - 1 - names.count("SingleFlights._renew")

    return task.client.run(count())


@pytest.mark.parametrize("ahead", [0, 8])
def test_a_stop_waits_for_what_is_under_way_and_asks_nothing_more(make_task, server, ahead):
    server.delay_s = lambda body: 0.1
    task = make_task(interface="plain", draws=None)
    collector = Collector(task, slots=5, seed=0)
    seen = []
    collector.collect(
        16, lambda o, n: ([0] * len(o), [0.0] * len(o)), lambda p, t: bool(seen.append(1)), max_ahead_episodes=ahead
    )
    assert len(seen) == 1
    asked = len(server.requests)
    assert server.in_flight == 0
    assert under_way(task) == 0
    assert len(task.client.cassette) == asked  # every answer that was paid for was kept
    time.sleep(0.3)
    assert len(server.requests) == asked


def test_the_episodes_of_a_stopped_rollout_are_played_again_for_nothing(make_task, server):
    task = make_task()
    collector = Collector(task, slots=3, seed=0)
    seen = []
    collector.collect(16, first, lambda p, t: bool(seen.append(1)) or len(seen) < 9)
    paid = len(server.requests)
    played, _ = collector.collect(16, first)
    whole, _ = Collector(make_task(), slots=3, seed=0).collect(16, first)
    assert [p.episode.number for p in played] == list(range(16))
    assert [p.actions for p in played] == [p.actions for p in whole]
    assert len({str(body) for body in server.requests}) == len(server.requests) > paid  # none was asked twice


def test_an_agent_that_was_stopped_goes_on_as_if_the_rollout_had_not_begun(make_task):
    stopped = DialoguePPO(CandidatePolicy, DialogueVecEnv(4, make_task(max_turns=1)), **OPTIONS)
    stopped.learn(1000, callback=StopAt(28))  # in the second rollout: the first has 16 turns
    undisturbed = DialoguePPO(CandidatePolicy, DialogueVecEnv(4, make_task(max_turns=1)), **OPTIONS)
    undisturbed.learn(16)
    assert th.equal(parameters(stopped), parameters(undisturbed))
    for agent in (stopped, undisturbed):
        set_random_seed(1)  # they share the process's generators
        agent.learn(16, reset_num_timesteps=False)
    assert th.equal(parameters(stopped), parameters(undisturbed))


def test_an_error_waits_for_what_is_under_way_and_the_collector_stays_usable(make_task, server, scenarios):
    bad = scenarios[3].user[0]
    server.delay_s = lambda body: 0.0 if body["messages"][-1]["content"] == bad else 1.0
    server.answer = lambda body: (
        (401, {"error": {"message": "bad key"}}) if body["messages"][-1]["content"] == bad else "Fine."
    )
    task = make_task(interface="plain", scenarios=scenarios[:6])
    collector = Collector(task, slots=6, seed=0)
    with pytest.raises(EndpointRefused, match="bad key"):
        collector.collect(6, lambda o, n: ([0] * len(o), [0.0] * len(o)))
    assert under_way(task) == 0
    assert len(task.client.cassette) == len(server.requests) - 1  # every answer that was paid for was kept
    server.delay_s, server.answer = (lambda body: 0.0), (lambda body: "Fine.")
    played, _ = collector.collect(6, lambda o, n: ([0] * len(o), [0.0] * len(o)))
    assert [p.episode.number for p in played] == list(range(6))


def test_an_interrupt_in_a_callback_leaves_nothing_running(make_task, server):
    server.delay_s = lambda body: 0.05

    class Interrupt(BaseCallback):
        def _on_step(self):
            raise KeyboardInterrupt

    task = make_task(interface="strategy", draws=None)
    agent = DialoguePPO("MultiInputPolicy", DialogueVecEnv(4, task), max_ahead_episodes=4, **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(64, callback=Interrupt())
    assert under_way(task) == 0
    agent.learn(16)
    assert agent.next_episode > 0


def test_a_policy_that_fails_is_heard_of_on_the_main_thread(make_task):
    def broken(observations, noise):
        raise ZeroDivisionError("in the policy")

    with pytest.raises(ZeroDivisionError, match="in the policy"):
        Collector(make_task(), slots=3, seed=0).collect(8, broken)


def test_an_episode_that_is_cancelled_before_it_began_gives_its_slot_back(make_task):
    collector = Collector(make_task(), slots=3, seed=0)
    stage = collector._scheduler

    async def begin_and_cancel():
        await stage.begin(1, 0, 8, 0, first)  # its episodes have not taken a step yet
        await stage.cancel()

    for _ in range(3):
        collector.task.client.run(begin_and_cancel())
    assert len(collector.collect(8, first)[0]) == 8
