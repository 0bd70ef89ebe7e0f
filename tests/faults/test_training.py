"""Training against a server that fails: nothing hangs, nothing is lost or counted twice, no failure becomes a number."""

import importlib.util
import time
from collections import Counter
from dataclasses import replace

import pytest
from stable_baselines3.common.callbacks import BaseCallback

from duologue.agents import DialoguePPO, DialogueVecEnv
from duologue.agents.rollouts import Collector
from duologue.envs import Task
from duologue.inference import Cassette, Endpoint, InferenceClient, Sampling
from duologue.plugins import Reward, Score

from .conftest import SCRIPT

spec = importlib.util.spec_from_file_location("unreliable_server", SCRIPT)
unreliable_server = importlib.util.module_from_spec(spec)
spec.loader.exec_module(unreliable_server)


class Marked:
    """1 for the answer that belongs to the dialogue, 0 for any other: what a failure would have to be mistaken for."""

    async def score(self, batch):
        return [Score(float(t.reply.split()[-1:] == [unreliable_server.expected(t.messages)])) for t in batch]

    async def aclose(self):
        pass


def first(observations, noise):
    return [0] * len(observations), [0.0] * len(observations)


class Books(BaseCallback):
    """Which episodes were learnt from, how often, and their rewards."""

    def __init__(self):
        super().__init__()
        self.episodes, self.rewards = Counter(), set()

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        played = self.locals["played"]
        self.episodes.update(p.episode.number for p in played)
        self.rewards |= {t.reward for p in played for t in p.transitions}
        assert self.model.rollout_buffer.buffer_size == sum(len(p.actions) for p in played)


@pytest.fixture
def make_task(tmp_path, scenarios):
    """A task on a server at this address; calls wait for half a second at most."""
    clients = []

    def make(url, interface="select", **options):
        client = InferenceClient(Cassette(tmp_path / f"{len(clients)}.sqlite"))
        client.bounds.retries.share = 2.0
        clients.append(client)
        endpoint = Endpoint(url, "m", sampling=Sampling(max_tokens=30, seed=0), timeout_s=0.5, deadline_s=30)
        parts = {
            "encoder": {"name": "hashing", "dim": 16},
            "reward": Reward({"marked": Marked()}),
            "scenarios": scenarios,
            "draws": None,
        }
        assistant = replace(endpoint, max_retries=5)
        return Task.build(client=client, endpoints={"assistant": assistant}, interface=interface, **(parts | options))

    yield make
    for client in clients:
        client.close()


@pytest.mark.parametrize("kind", unreliable_server.FAULTS)
def test_every_fault_alone_is_got_over(unreliable, make_task, kind):
    """Half of all answers fail in this way; those that come are the dialogue's own."""
    server = unreliable(0.5, 1, kind)
    task = make_task(server.url, "plain")
    task.client._readable.add(server.url)  # it has answered before: a web page alone would be a wrong address
    played, failures = Collector(task, slots=6, seed=0, max_failure_fraction=1.0).collect(8, first)
    log = server.log()
    assert log["faults"][kind] > 0
    assert len({p.episode.number for p in played}) == len(played) == 8 - failures["assistant"] // 3
    assert {t.reward for p in played for t in p.transitions} == {1.0}
    assert max(log["good"].values()) == 1


def test_with_a_third_of_all_calls_faulty_training_goes_on(unreliable, make_task):
    server = unreliable(0.3, 2)
    task = make_task(server.url, "select")
    agent = DialoguePPO("MultiInputPolicy", DialogueVecEnv(16, task), n_steps=4, batch_size=32, n_epochs=1, seed=0)
    books = Books()
    began = time.monotonic()
    agent.learn(128, callback=books)
    assert time.monotonic() - began < 120
    assert set(books.episodes.values()) == {1}
    assert books.rewards == {1.0}
    assert agent.num_timesteps >= 128
    left_out = agent.next_episode - len(books.episodes)
    assert left_out * 3 <= sum(agent.failures.values())
    log = server.log()
    assert len(log["faults"]) > 10
    assert max(log["good"].values()) == 1  # what came was kept, and never asked for again


def test_a_deadline_cuts_the_dialogue_and_what_came_before_stays(unreliable, make_task, scenarios):
    """Three turns, some of whose answers hang: the episodes end before those turns, as truncations."""
    server = unreliable(0.3, 3, "hangs")
    task = replace(make_task(server.url, "plain", scenarios=scenarios[6:]), turn_deadline_s=0.3)
    collector = Collector(task, slots=8, seed=0)
    played, failures = collector.collect(16, first)
    assert not failures
    assert len(played) == 16 - collector.cut.count(0)
    assert 0 < len(collector.cut) < 16
    lengths = Counter(len(p.transitions) for p in played)
    assert lengths[3] == 16 - len(collector.cut)
    for p in played:
        last = p.transitions[-1]
        assert len(p.actions) == len(p.observations) == len(p.log_probs) == len(p.rollouts) == len(p.transitions)
        assert last.truncated == (len(p.transitions) < 3)
        assert last.reward == 1.0


def test_the_cut_is_reported(unreliable, make_task, scenarios):
    server = unreliable(0.3, 4, "hangs")
    task = replace(make_task(server.url, "plain", scenarios=scenarios[6:]), turn_deadline_s=0.3)
    agent = DialoguePPO("MultiInputPolicy", DialogueVecEnv(8, task), n_steps=6, batch_size=16, n_epochs=1, seed=0)
    agent.learn(48)
    cut, turns, episodes = agent.cut
    assert 0 < cut < episodes
    assert turns <= 2 * cut
    assert agent.logger.name_to_value.get("rollout/cut_share", 0) <= 1
