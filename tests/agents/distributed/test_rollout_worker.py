"""Workers that share a rollout collect what one process collects."""

from pathlib import Path

import pytest

from duologue.agents.actor import Actor
from duologue.agents.agent import build_agent, build_task
from duologue.agents.distributed.ray_pool import parts
from duologue.agents.distributed.rollout_worker import RolloutWorker
from duologue.agents.distributed.workers import divided
from duologue.core.errors import Interrupted
from duologue.inference import ConfigError, InferenceClient


def told(played):
    """All that learning takes from an episode."""
    return [
        (
            episode.episode.number,
            episode.episode.scenario.id,
            [int(action) for action in episode.actions],
            [float(log_prob) for log_prob in episode.log_probs],
            [(step.reward, step.terminated, step.info["reply"]) for step in episode.transitions],
            [seen["candidates"].tobytes() for seen in episode.observations],
        )
        for episode in played
    ]


@pytest.fixture
def config(configured):
    return configured("train", "env.draws=null", "agent.n_envs=6", "+inference.assistant.requests_per_minute=60000")


@pytest.fixture
def local(config):
    """An agent, and the twelve episodes that it collects in this process."""
    client = InferenceClient.from_settings(config["inference"])
    agent, _ = build_agent(config, build_task(config, client))
    played, _ = agent.new_collector().collect(12, Actor(agent.policy).act)
    yield agent, played
    client.close()


def test_two_workers_collect_what_one_process_collects_and_pay_for_nothing_twice(config, local, server, tmp_path):
    agent, played = local
    paid = len(server.requests)
    weights = agent.policy.state_dict()
    workers = [RolloutWorker(config, 2, str(Path.cwd())) for _ in range(2)]
    shards = [worker.play(1, *part, weights, {}) for worker, part in zip(workers, parts(0, 12, 2), strict=True)]
    assert told([episode for shard in shards for episode in shard.played]) == told(played)
    assert len(server.requests) == paid
    assert [shard.usage.asked["assistant"].reused for shard in shards] == [18, 18]
    again = workers[1].play(2, 0, 3, weights, {})
    assert (told(again.played), again.usage.asked["assistant"].reused) == (told(played[:3]), 9)
    assert again.played[0].rollouts == [2]
    for worker in workers:
        worker.stop(Interrupted("a signal", 15))
        assert "a signal" in str(worker.play(3, 0, 3, weights, {}).error)
        worker.close()


def test_limits_are_divided(config):
    share = divided(config, 4)
    assert share["inference"]["assistant"]["requests_per_minute"] == 15000
    assert share["inference"]["assistant"]["max_concurrency"] == 4
    assert share["rollouts"] == {"name": "local"}
    assert config["inference"]["assistant"]["max_concurrency"] == 16


def test_episodes_are_dealt_out_evenly():
    assert parts(5, 7, 3) == [(5, 2), (7, 2), (9, 3)]
    assert parts(0, 1, 3) == [(0, 1)]
    assert sum(count for _, count in parts(3, 100, 7)) == 100


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["inference.budget.requests=5"], "a budget must be common to all: set `inference.budget.shared`"),
        (["agent.max_ahead_episodes=3"], "one policy: set `agent.max_ahead_episodes=0`"),
        (["rollouts.workers=0"], "`workers` must be at least 1"),
    ],
)
def test_what_several_processes_cannot_keep_is_refused(configured, overrides, said):
    config = configured("train", "rollouts=ray", *overrides)
    client = InferenceClient.from_settings(config["inference"])
    with pytest.raises(ConfigError, match=said):
        build_agent(config, build_task(config, client))[0].learn(8)
    client.close()


def test_unknown_rollouts_are_named(configured):
    config = configured("train") | {"rollouts": {"name": "rey"}}
    client = InferenceClient.from_settings(config["inference"])
    with pytest.raises(ConfigError, match="did you mean `ray`"):
        build_agent(config, build_task(config, client))
    client.close()
