"""The agent is Stable-Baselines3's PPO, the advantages are right, and it learns what can be learnt."""

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import VecNormalize

from duologue.agents import CandidatePolicy, DialoguePPO, DialogueVecEnv
from duologue.agents.buffer import EpisodeBuffer, Trajectory
from duologue.envs import DialogueEnv, Episode, Transition
from duologue.inference import ConfigError
from duologue.plugins import Reward, Score

OPTIONS = {"n_steps": 4, "batch_size": 8, "n_epochs": 2, "device": "cpu"}
BROKEN = (500, {"error": {"message": "out of order"}})


class Likes:
    """Scores 1 for a reply that holds a word, 0 otherwise."""

    def __init__(self, word):
        self.word = word

    async def score(self, batch):
        return [Score(float(self.word in turn.reply.split())) for turn in batch]

    async def aclose(self):
        pass


def parameters(agent):
    return th.cat([p.detach().ravel() for p in agent.policy.parameters()])


def test_advantages_by_hand(make_task, scenarios):
    """Two episodes, of two steps and of one; γ = 0.5, λ = 0.5."""
    task = make_task()
    space = task.observer.space
    buffer = EpisodeBuffer(3, space, task.interface.action_space, gamma=0.5, gae_lambda=0.5, n_envs=1)
    zero = {name: np.zeros(box.shape, np.float32) for name, box in space.items()}
    played = [
        Trajectory(
            Episode(i, scenarios[0]), [zero] * n, [0] * n, [0.0] * n, [1] * n, [Transition(zero, 0.0, True, False)] * n
        )
        for i, n in enumerate((2, 1))
    ]
    buffer.load(played, np.array([1.0, 2.0, 4.0]), values=np.array([10.0, 20.0, 30.0]), log_probs=np.zeros(3))
    # δ1 = 2 − 20 = −18;  δ0 = 1 + 0.5·20 − 10 = 1;  A0 = δ0 + 0.25·δ1 = −3.5;  second episode: 4 − 30 = −26
    assert buffer.advantages.ravel().tolist() == [-3.5, -18.0, -26.0]
    assert buffer.returns.ravel().tolist() == [6.5, 2.0, 4.0]


@pytest.mark.parametrize("interface", ["select", "strategy"])
def test_the_value_of_what_was_cut_off_enters_the_last_reward(make_task, scenarios, interface):
    """γ = 0.5 and a critic made to say twice the first scalar, turns / 10: after one turn 0.2, times γ 0.1."""
    task = make_task(interface=interface, max_turns=1, judges={"length": "length"}, scenarios=scenarios[6:])
    policy = CandidatePolicy if interface == "select" else "MultiInputPolicy"
    agent = DialoguePPO(policy, DialogueVecEnv(2, task), gamma=0.5, seed=0, **OPTIONS)
    shapes = []

    def twice_the_turn(observation):
        shapes.append(tuple(observation["scalars"].shape))
        assert interface == "strategy" or observation["candidates"].flatten(1).any(1).all()  # real ones
        return 2 * observation["scalars"][:, :1]

    agent.policy.predict_values = twice_the_turn
    recorded = []

    class Keep(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            recorded.append((self.locals["played"], self.model.rollout_buffer.rewards.ravel().copy()))

    agent.learn(8, callback=Keep())
    played, rewards = recorded[0]
    assert shapes[0] == (len(played), 6)  # all in one batch
    for episode, reward in zip(played, rewards, strict=True):
        (transition,) = episode.transitions
        assert transition.truncated
        assert reward == pytest.approx(transition.reward + 0.5 * 0.2)


NORMALISED = {
    "rules": {"name": "rules", "normalise": True, "clip": [-3, 3]},
    "length": {"name": "length", "when": "end", "length_control": True},
    "chrf": {"name": "chrf", "when": "potential"},
}


@pytest.mark.parametrize("judges", [{"rules": "rules", "length": "length"}, NORMALISED])
@pytest.mark.parametrize("interface", ["select", "strategy"])
def test_training_depends_neither_on_latencies_nor_on_how_many_dialogues_are_under_way(
    make_task, server, interface, judges
):
    def trained(scale, slots):
        rng = np.random.default_rng(len(server.requests))
        server.delay_s = lambda body: float(rng.exponential(scale)) if scale else 0.0
        policy = CandidatePolicy if interface == "select" else "MultiInputPolicy"
        options = OPTIONS | {"n_steps": 16 // slots}
        task = make_task(interface=interface, judges=judges)
        agent = DialoguePPO(policy, DialogueVecEnv(slots, task), seed=5, **options)
        agent.learn(48)
        return parameters(agent)

    first = trained(0.01, 4)
    assert th.equal(first, trained(0.0, 4))
    assert th.equal(first, trained(0.0, 8))
    assert th.equal(first, trained(0.0, 1))


def test_it_solves_a_dialogue_with_a_known_answer(make_task, server, scenarios):
    """The model says `yes` only under one of eight directives; the judge likes `yes`."""
    server.answer = lambda body: "yes ." if "Give one concrete example." in body["messages"][0]["content"] else "no ."
    task = make_task(interface="strategy", reward=Reward({"likes": Likes("yes")}), scenarios=scenarios[:6])
    agent = DialoguePPO(
        "MultiInputPolicy", DialogueVecEnv(8, task), seed=0, learning_rate=0.01, n_steps=8, batch_size=32, device="cpu"
    )
    agent.learn(1500)
    env = DialogueEnv(task)
    for _ in range(6):
        observation, _ = env.reset()
        action, _ = agent.predict(observation, deterministic=True)
        assert action == 4
        assert env.step(action)[1] == 1.0


def test_it_learns_to_select(make_task, server, scenarios):
    """Short answers are good, long ones bad; which index is short differs from prompt to prompt."""
    server.answer = lambda body: "good" if hash_of(body) % 3 == 0 else "bad " * 12
    task = make_task(reward=Reward({"likes": Likes("good")}), scenarios=scenarios[:6], draws=4)
    agent = DialoguePPO(
        CandidatePolicy, DialogueVecEnv(8, task), seed=0, learning_rate=0.02, **(OPTIONS | {"n_steps": 8})
    )
    agent.learn(1500)
    env = DialogueEnv(task)
    for _ in range(24):
        observation, _ = env.reset()
        best = "good" in [c.text for c in env._dialogue.state.proposals]
        action, _ = agent.predict(observation, deterministic=True)
        assert env.step(action)[1] == float(best)


def hash_of(body):
    import zlib

    return zlib.crc32(repr(sorted(body.items(), key=str)).encode())


def test_callbacks_tick_once_per_n_envs_transitions(make_task):
    seen = []

    class Count(BaseCallback):
        def _on_step(self):
            seen.append((self.num_timesteps, len(self.locals["infos"]), len(self.locals["dones"])))
            return True

    DialoguePPO(CandidatePolicy, DialogueVecEnv(4, make_task(judges={"rules": "rules"})), seed=0, **OPTIONS).learn(
        32, callback=Count()
    )
    assert [timesteps for timesteps, _, _ in seen] == list(range(4, 4 * len(seen) + 1, 4))
    assert all(infos == dones == 4 for _, infos, dones in seen)


def test_a_callback_can_stop_the_training(make_task):
    class Stop(BaseCallback):
        def _on_step(self):
            return self.num_timesteps < 12

    agent = DialoguePPO(CandidatePolicy, DialogueVecEnv(4, make_task()), seed=0, **OPTIONS)
    agent.learn(1000, callback=Stop())
    assert agent.num_timesteps == 12


def test_it_saves_and_loads_like_ppo(make_task, tmp_path):
    env = DialogueVecEnv(4, make_task())
    agent = DialoguePPO(CandidatePolicy, env, seed=0, **OPTIONS).learn(16)
    agent.save(tmp_path / "agent.zip")
    again = DialoguePPO.load(tmp_path / "agent.zip", env=env, device="cpu")
    assert th.equal(parameters(agent), parameters(again))
    assert again.next_episode == agent.next_episode
    again.learn(16, reset_num_timesteps=False)


def test_nothing_is_asked_before_the_first_rollout(make_task, server):
    agent = DialoguePPO(CandidatePolicy, DialogueVecEnv(4, make_task()), seed=0, **OPTIONS)
    agent._setup_learn(16, None)
    assert server.requests == []


def test_other_environments_are_refused_with_the_cure(make_task):
    with pytest.raises(ConfigError, match="DialogueVecEnv"):
        DialoguePPO("MultiInputPolicy", DialogueEnv(make_task()), **(OPTIONS | {"batch_size": 4})).learn(8)


def test_normalised_rewards_are_refused_because_the_collector_would_go_past_them(make_task):
    env = VecNormalize(DialogueVecEnv(4, make_task()), norm_obs=False)
    with pytest.raises(ConfigError, match="DialoguePPO needs a DialogueVecEnv, not VecNormalize"):
        DialoguePPO(CandidatePolicy, env, **OPTIONS).learn(8)


# its one remark on `select`: a table of candidates wants a network that knows what it is, which ours does
@pytest.mark.filterwarnings("ignore:Your observation candidate:UserWarning")
@pytest.mark.parametrize("interface", ["select", "strategy", "plain"])
def test_stable_baselines3_accepts_the_environment(make_task, interface):
    check_env(DialogueEnv(make_task(interface=interface)))


@pytest.mark.parametrize("interface", ["select", "strategy"])
def test_plain_ppo_trains_on_the_shell(make_task, interface):
    agent = PPO("MultiInputPolicy", DialogueVecEnv(4, make_task(interface=interface)), seed=0, **OPTIONS)
    agent.learn(32)
    assert agent.num_timesteps == 32


def test_the_shell_follows_stable_baselines3s_conventions(make_task, scenarios):
    env = DialogueVecEnv(2, make_task(scenarios=scenarios[6:], max_turns=2))
    env.seed(3)
    env.reset()
    _, _, dones, infos = env.step(np.zeros(2, int))
    assert not dones.any()
    assert "terminal_observation" not in infos[0]
    observation, _, dones, infos = env.step(np.zeros(2, int))
    assert dones.all()
    assert all(info["TimeLimit.truncated"] and info["episode"]["l"] == 2 for info in infos)
    assert infos[0]["terminal_observation"].keys() == observation.keys()
    assert env.reset_infos[0]["episode_number"] == 2


def test_a_failed_turn_on_the_shell_is_bootstrapped_and_counted(make_task, server, scenarios):
    env, answer = DialogueVecEnv(2, make_task(scenarios=scenarios[6:], max_turns=2)), server.answer
    env.seed(3)
    env.reset()
    server.answer = lambda body: BROKEN if "Hello 1." in body["messages"][1]["content"] else answer(body)
    _, rewards, dones, infos = env.step(np.zeros(2, int))
    failed = [i for i in range(2) if "failure" in infos[i]]
    assert len(failed) == 1
    assert dones.tolist() == [i in failed for i in range(2)]
    assert rewards[failed[0]] == 0  # a NaN would spoil the whole batch; with the truncation its target is γV(s)
    assert infos[failed[0]]["TimeLimit.truncated"]
    assert infos[failed[0]]["failure_cause"] == "assistant"
    assert env.failures == {"assistant": 1}
