"""A checkpoint brings an agent back exactly, is there whole or not at all, and runs no code of whoever wrote it."""

import os
import pickle
import random

import numpy as np
import pytest
import torch as th

from duologue.agents import CandidatePolicy, DialoguePPO, DialogueVecEnv
from duologue.agents.checkpoint import read_checkpoint, write_checkpoint
from duologue.inference import ConfigError

OPTIONS = {"n_steps": 4, "batch_size": 8, "n_epochs": 2, "device": "cpu", "seed": 5}


@pytest.fixture
def make_agent(make_task):
    judges = {"rules": {"name": "rules", "normalise": True}, "length": "length"}
    return lambda: DialoguePPO(CandidatePolicy, DialogueVecEnv(4, make_task(judges=judges)), **OPTIONS)


def parameters(agent):
    return th.cat([p.detach().ravel() for p in agent.policy.parameters()])


def test_another_agent_goes_on_bit_for_bit(make_agent, tmp_path):
    agent = make_agent()
    agent.learn(32)
    write_checkpoint(agent, tmp_path / "c.pt", {"rewards": [0.1, 0.2]})
    timesteps = agent.num_timesteps
    agent.learn(32, reset_num_timesteps=False)
    th.manual_seed(999)
    np.random.seed(999)
    random.seed(999)
    other = make_agent()
    assert read_checkpoint(other, tmp_path / "c.pt") == {"rewards": [0.1, 0.2]}
    assert other.num_timesteps == timesteps
    other.learn(32, reset_num_timesteps=False)
    assert th.equal(parameters(other), parameters(agent))
    for name in ("num_timesteps", "next_episode", "mean_length", "failures", "cut", "_n_updates"):
        assert getattr(other, name) == getattr(agent, name)


def test_all_random_generators_are_brought_back(make_agent, tmp_path):
    agent = make_agent()
    agent.learn(16)
    write_checkpoint(agent, tmp_path / "c.pt", {})
    drawn = random.random(), np.random.random(), th.rand(3).tolist()
    read_checkpoint(make_agent(), tmp_path / "c.pt")
    assert (random.random(), np.random.random(), th.rand(3).tolist()) == drawn


class Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a checkpoint",
        pickle.dumps(Malicious(), protocol=2),
        pickle.dumps({"tensors": Malicious(), "plain": "{}"}, protocol=2),
    ],
    ids=["empty", "text", "pickle", "pickle inside"],
)
def test_what_is_no_checkpoint_is_refused_with_the_cure_and_never_run(make_agent, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"c.pt cannot be used: .*Remove it to train from the beginning"):
        read_checkpoint(make_agent(), tmp_path / "c.pt")
    assert not (tmp_path / "executed").exists()


def test_a_malicious_object_inside_a_torch_file_is_never_run(make_agent, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    th.save({"tensors": {"policy": Malicious()}, "plain": "{}"}, tmp_path / "c.pt")
    with pytest.raises(ConfigError):
        read_checkpoint(make_agent(), tmp_path / "c.pt")
    assert not (tmp_path / "executed").exists()


def test_half_a_checkpoint_is_refused_and_a_failed_write_leaves_the_old_one(make_agent, tmp_path, monkeypatch):
    agent = make_agent()
    agent.learn(16)
    path = tmp_path / "c.pt"
    write_checkpoint(agent, path, {"n": 1})
    whole = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(agent, path, {"n": 2})
    monkeypatch.undo()
    assert read_checkpoint(make_agent(), path) == {"n": 1}
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError):
        read_checkpoint(make_agent(), path)
