"""Episodes of the next rollout that begin while the last of this one end: counted, bounded, one update old, unbiased."""

from collections import Counter

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from duologue.agents import Collector, DialoguePPO, DialogueVecEnv
from duologue.inference import ConfigError
from duologue.plugins import Reward, Score

OPTIONS = {"n_steps": 8, "batch_size": 16, "n_epochs": 2, "device": "cpu", "seed": 0}


def first(observations, noise):
    return [int(4 * row[0]) for row in noise], [float(row[0]) for row in noise]


def numbers(played):
    return [p.episode.number for p in played]


def slow_first(server, scale=0.05):
    """Every dialogue but a few is quick, so that slots wait at the end of a rollout."""
    rng = np.random.default_rng(0)
    server.delay_s = lambda body: float(rng.exponential(scale)) * (10 if rng.random() < 0.1 else 1)


def test_every_rollout_has_its_own_episodes_and_none_is_lost_or_played_twice(make_task, server):
    slow_first(server, 0.005)
    collector = Collector(make_task(interface="strategy"), slots=6, seed=1)
    rollouts = [numbers(collector.collect(n, first, max_ahead_episodes=5)[0]) for n in (8, 8, 8, 8)]
    assert [n for rollout in rollouts for n in rollout] == list(range(sum(map(len, rollouts))))
    assert all(len(rollout) >= 8 for rollout in rollouts)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_no_more_are_begun_ahead_than_allowed(make_task, server, scenarios, ahead):
    """One dialogue hangs; meanwhile the others could begin any number of episodes."""
    slow = scenarios[0].user[0]
    server.delay_s = lambda body: 0.4 if body["messages"][-1]["content"] == slow else 0.0
    task = make_task(interface="plain", scenarios=scenarios[:6])
    collector = Collector(task, slots=4, seed=0)
    collector.collect(6, first0, max_ahead_episodes=ahead)
    begun = len({body["messages"][-1]["content"] + str(i // 6) for i, body in enumerate(server.requests)})
    assert len(server.requests) == begun == 6  # the second epoch is in the cassette, so nothing more is asked
    assert collector.next_episode == 6
    before = len(collector.collect(1, first0)[0])
    assert before == max(1, ahead)


def first0(observations, noise):
    return [0] * len(observations), [0.0] * len(observations)


def test_what_was_begun_ahead_is_marked_with_the_rollout_that_chose(make_task, server):
    slow_first(server)
    collector = Collector(make_task(interface="strategy"), slots=6, seed=3)
    for rollout in (1, 2, 3):
        played, _ = collector.collect(6, first, max_ahead_episodes=6)
        chosen = {r for p in played for r in p.rollouts}
        assert chosen <= {rollout - 1, rollout}  # never older than one update
        for p in played:
            assert p.rollouts == sorted(p.rollouts)
            noise = [np.random.default_rng([3, p.episode.number, k]).random(1)[0] for k in range(len(p.actions))]
            assert p.actions == [int(4 * u) for u in noise]
            assert p.log_probs == noise


def test_slow_scenarios_are_not_fewer(make_task, server, scenarios):
    """Half of the scenarios take ten times as long; each is met as often as the others."""
    slow = {s.user[0] for s in scenarios[:3]}
    server.delay_s = lambda body: 0.03 if body["messages"][-1]["content"] in slow else 0.003
    task = make_task(interface="plain", scenarios=scenarios[:6], draws=None)
    collector = Collector(task, slots=4, seed=5)
    counts = Counter()
    for _ in range(6):
        for p in collector.collect(12, first0, max_ahead_episodes=8)[0]:
            counts[p.episode.scenario.id] += 1
    assert max(counts.values()) - min(counts.values()) <= 2  # the carried ones are still to come


class Echoes:
    """Scores the length of the reply, so that every reward can be made again."""

    async def score(self, batch):
        return [Score(len(turn.reply) / 100) for turn in batch]

    async def aclose(self):
        pass


def test_rows_are_whole_and_stale_ones_keep_the_log_probability_that_chose_them(make_task, server):
    slow_first(server)
    task = make_task(interface="strategy", reward=Reward({"length": Echoes()}), draws=None)
    agent = DialoguePPO(
        "MultiInputPolicy", DialogueVecEnv(6, task), max_ahead_episodes=12, learning_rate=0.05, **OPTIONS
    )
    shares, gaps = [], []

    class Check(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            buffer, played = self.model.rollout_buffer, self.locals["played"]
            observations = {k: th.as_tensor(v[:, 0]) for k, v in buffer.observations.items()}
            actions = th.as_tensor(buffer.actions[:, 0]).long().flatten()
            with th.no_grad():
                values, log_probs, _ = self.model.policy.evaluate_actions(observations, actions)
            stale = np.array([r < max(map(max, (p.rollouts for p in played))) for p in played for r in p.rollouts])
            rows = [(o, a, t) for p in played for o, a, t in zip(p.observations, p.actions, p.transitions, strict=True)]
            for i, (observation, action, transition) in enumerate(rows):
                assert buffer.actions[i, 0] == action
                assert buffer.rewards[i, 0] == pytest.approx(len(transition.info["reply"]) / 100)
                np.testing.assert_array_equal(buffer.observations["message"][i, 0], observation["message"])
            np.testing.assert_allclose(buffer.values[:, 0], values.flatten(), atol=1e-5)
            np.testing.assert_allclose(buffer.log_probs[~stale, 0], log_probs[~stale], atol=1e-5)
            behaviour = np.array([lp for p in played for lp in p.log_probs])
            np.testing.assert_allclose(buffer.log_probs[stale, 0], behaviour[stale], atol=1e-6)
            gaps.extend(np.abs(buffer.log_probs[stale, 0] - log_probs.numpy()[stale]))
            shares.append(stale.mean())
            logged = self.model.logger.name_to_value
            assert logged["rollout/stale_share"] == pytest.approx(stale.mean())
            assert 0.1 < logged["rollout/utilisation"] <= 1
            assert logged["rollout/wait_s"] > 0
            assert logged["rollout/forward_s"] > 0

    agent.learn(6 * 48, callback=Check())
    assert shares[0] == 0
    assert max(shares) > 0
    assert max(gaps) > 1e-3  # the update between has moved the policy, and the old probability was kept all the same


def test_callbacks_tick_once_per_n_envs_and_count_ahead_episodes_in_their_own_rollout(make_task, server):
    slow_first(server, 0.005)
    seen, transitions = [], []

    class Count(BaseCallback):
        def _on_step(self):
            seen.append((self.num_timesteps, len(self.locals["infos"])))
            return True

        def _on_rollout_end(self):
            transitions.append(sum(len(p.transitions) for p in self.locals["played"]))
            assert self.num_timesteps == sum(transitions) // 4 * 4

    env = DialogueVecEnv(4, make_task(interface="strategy"))
    agent = DialoguePPO("MultiInputPolicy", env, max_ahead_episodes=8, **OPTIONS)
    agent.learn(160, callback=Count())
    assert seen == [(4 * (i + 1), 4) for i in range(len(seen))]


def test_nothing_is_begun_ahead_of_a_rollout_that_will_not_come(make_task, server):
    slow_first(server, 0.005)
    env = DialogueVecEnv(4, make_task(interface="strategy", draws=None))
    agent = DialoguePPO("MultiInputPolicy", env, max_ahead_episodes=8, **OPTIONS)
    total = []

    class Keep(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            total.append(sum(len(p.transitions) for p in self.locals["played"]))

    agent.learn(96, callback=Keep())
    assert len(server.requests) == sum(total)


def learnt(make_task, server, scenarios, ahead):
    server.answer = lambda body: "yes ." if "Give one concrete example." in body["messages"][0]["content"] else "no ."

    class Likes(Echoes):
        async def score(self, batch):
            return [Score(float("yes" in turn.reply)) for turn in batch]

    task = make_task(interface="strategy", reward=Reward({"likes": Likes()}), scenarios=scenarios[:6])
    options = OPTIONS | {"batch_size": 32, "learning_rate": 0.01, "n_epochs": 10}
    agent = DialoguePPO("MultiInputPolicy", DialogueVecEnv(8, task), max_ahead_episodes=ahead, **options)
    means = []

    class Keep(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            means.append(np.mean([p.episode_return for p in self.locals["played"]]))

    agent.learn(1500, callback=Keep())
    return np.mean(means[-3:])


def test_it_learns_as_well_as_the_exact_mode(make_task, server, scenarios):
    slow_first(server, 0.0005)
    assert learnt(make_task, server, scenarios, 16) > 0.9
    assert learnt(make_task, server, scenarios, 0) > 0.9


@pytest.mark.parametrize("value", [-1, 1.5, True, "4"])
def test_a_setting_that_is_no_number_of_episodes_is_refused(make_task, value):
    with pytest.raises(ConfigError, match="`max_ahead_episodes` must be a whole number of at least 0"):
        DialoguePPO("MultiInputPolicy", DialogueVecEnv(4, make_task()), max_ahead_episodes=value, **OPTIONS)
