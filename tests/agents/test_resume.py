"""Saved, killed and loaded, an agent ends where an undisturbed one ends, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from duologue.agents import CandidatePolicy, DialoguePPO, DialogueVecEnv
from duologue.agents.checkpoint import random_states, restore_random_states

OPTIONS = {"n_steps": 4, "batch_size": 8, "n_epochs": 2, "device": "cpu", "seed": 5}
TOTAL = 100
JUDGES = {"rules": {"name": "rules", "normalise": True}, "length": {"name": "length", "length_control": True}}


def parameters(agent):
    return th.cat([p.detach().ravel() for p in agent.policy.parameters()])


def agent_on(make_task, slots=4):
    return DialoguePPO(CandidatePolicy, DialogueVecEnv(slots, make_task(judges=JUDGES)), **OPTIONS)


class SaveAt(BaseCallback):
    """Saves once, at the first step at or after so many timesteps, or at the end of the rollout after it."""

    def __init__(self, path, timesteps, rollout_end=False):
        super().__init__()
        self.path, self.timesteps, self.rollout_end = path, timesteps, rollout_end

    def save_if_due(self):
        if self.num_timesteps >= self.timesteps and not self.path.exists():
            self.model.save(self.path)

    def _on_step(self):
        if not self.rollout_end:
            self.save_if_due()
        return True

    def _on_rollout_end(self):
        if self.rollout_end:
            self.save_if_due()


@pytest.mark.parametrize("rollout_end", [False, True])
@pytest.mark.parametrize("timesteps", [4, 28, 52, 92])
def test_from_any_checkpoint_it_ends_with_the_same_parameters(make_task, tmp_path, timesteps, rollout_end):
    path = tmp_path / "agent.zip"
    undisturbed = agent_on(make_task)
    undisturbed.learn(TOTAL, callback=SaveAt(path, timesteps, rollout_end))
    th.manual_seed(999)
    np.random.seed(999)
    resumed = DialoguePPO.load(path, env=DialogueVecEnv(4, make_task(judges=JUDGES)), device="cpu")
    assert not th.equal(parameters(resumed), parameters(undisturbed))
    resumed.learn(TOTAL - resumed.num_timesteps, reset_num_timesteps=False)
    assert th.equal(parameters(resumed), parameters(undisturbed))
    for name in ("num_timesteps", "next_episode", "mean_length", "failures"):
        assert getattr(resumed, name) == getattr(undisturbed, name)


SCRIPT = """
    import os, signal, sys
    from stable_baselines3.common.callbacks import BaseCallback
    from duologue.agents import CandidatePolicy, DialoguePPO, DialogueVecEnv
    from duologue.envs import Task, load_scenarios
    from duologue.inference import Cassette, Endpoint, InferenceClient, Sampling

    url, folder, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = InferenceClient(Cassette(f"{folder}/cassette.sqlite"))
    task = Task.build(
        client=client, endpoints={"assistant": Endpoint(url, "fake", sampling=Sampling(seed=0))}, interface="select",
        encoder={"name": "hashing", "dim": 16}, judges={"rules": "rules", "length": "length"}, limit=12,
    )
    env, path = DialogueVecEnv(4, task), f"{folder}/agent.zip"

    class Checkpoint(BaseCallback):
        def _on_step(self):
            if kill_at and self.n_calls == kill_at - 3:
                self.model.save(path)
            if kill_at and self.n_calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return True

    if os.path.exists(path):
        agent = DialoguePPO.load(path, env=env, device="cpu")
    else:
        agent = DialoguePPO(CandidatePolicy, env, n_steps=4, batch_size=8, n_epochs=2, device="cpu", seed=5)
    agent.learn(64 - agent.num_timesteps, reset_num_timesteps=False, callback=Checkpoint())
    print(sum(float(p.double().abs().sum()) for p in agent.policy.parameters()).hex(), agent.next_episode)
    client.close()
"""


def run(server, folder, kill_at):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), server.url, str(folder), str(kill_at)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_killed_between_two_steps_and_loaded_by_another_process_it_ends_the_same(server, tmp_path):
    undisturbed = run(server, tmp_path / "whole", 0)
    assert undisturbed.returncode == 0, undisturbed.stderr
    killed = run(server, tmp_path / "killed", 10)
    assert killed.returncode == -signal.SIGKILL
    resumed = run(server, tmp_path / "killed", 0)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == undisturbed.stdout


def test_episodes_begun_ahead_are_begun_again(make_task, server, tmp_path):
    rng = np.random.default_rng(0)
    server.delay_s = lambda body: float(rng.exponential(0.005))
    env = DialogueVecEnv(4, make_task(interface="strategy", draws=None))
    agent = DialoguePPO("MultiInputPolicy", env, max_ahead_episodes=8, **OPTIONS)
    agent.learn(48, callback=SaveAt(tmp_path / "agent.zip", 20, rollout_end=True))
    env = DialogueVecEnv(4, make_task(interface="strategy", draws=None))
    resumed = DialoguePPO.load(tmp_path / "agent.zip", env=env, device="cpu")
    assert resumed.max_ahead_episodes == 8
    numbers = []

    class Keep(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            numbers.extend(p.episode.number for p in self.locals["played"])

    first = resumed.next_episode
    resumed.learn(48, reset_num_timesteps=False, callback=Keep())
    assert numbers == list(range(first, first + len(numbers)))


def test_an_agent_loads_without_an_environment(make_task, tmp_path):
    agent = agent_on(make_task)
    agent.save(tmp_path / "agent.zip")
    alone = DialoguePPO.load(tmp_path / "agent.zip", device="cpu")
    assert th.equal(parameters(alone), parameters(agent))


def test_all_generators_are_put_back():
    states = random_states()
    drawn = [(random.random(), np.random.random(), th.rand(1).item()) for _ in range(2)]
    restore_random_states(states)
    assert [(random.random(), np.random.random(), th.rand(1).item()) for _ in range(2)] == drawn
