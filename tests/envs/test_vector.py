"""The vector environment: autoreset traces by hand, and agreement with Gymnasium's own vector environment."""

import hashlib
import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from duologue.envs import DialogueEnv, DialogueVectorEnv, EpisodeFailed
from duologue.inference import ConfigError, DuologueError

ID = "duologue.envs:duologue/Dialogue-v0"
INTERFACES = ["select", "strategy", "plain"]
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]
BROKEN = (500, {"error": {"message": "out of order"}})
T, F = True, False


def make_vec(task, num_envs=2, **options):
    return gym.make_vec(ID, num_envs, vectorization_mode="vector_entry_point", task=task, **options)


def seed_for(task, *names):
    """The first seed whose episodes begin with these scenarios."""
    for seed in range(1000):
        if all(task.curriculum.episode(seed, k).scenario.id == name for k, name in enumerate(names)):
            return seed
    raise AssertionError(f"no seed plays {names}")


def column(infos, key):
    """A key of the batched info, with None where a copy has none."""
    mask = infos.get(f"_{key}", np.zeros(2, bool))
    return [value if there else None for value, there in zip(infos.get(key, [None] * len(mask)), mask, strict=True)]


def same(observation, i, single):
    return all(np.array_equal(observation[name][i], single[name]) for name in single)


@pytest.fixture
def mixed(make_task, scenarios, spied):
    """One dialogue of one turn and one of three, each epoch once; the reward is the number of words of the reply."""
    return make_task(interface="plain", reward=spied, scenarios=[scenarios[0], scenarios[6]])


@pytest.fixture
def seeds(mixed):
    """Copy 0 plays one, three, one, three; copy 1 the other way round."""
    first, second = ("one-0", "three-0"), ("three-0", "one-0")
    return [seed_for(mixed, *first, *first), seed_for(mixed, *second, *second)]


@pytest.fixture
def counted(server):
    """Every reply has as many words as the dialogue has turns so far: rewards 1, 2, 3."""
    server.answer = lambda body: " ".join(["word"] * sum(m["role"] == "user" for m in body["messages"]))


def trace(env, steps):
    rows = []
    for _ in range(steps):
        _, rewards, terminated, truncated, infos = env.step(np.zeros(2, int))
        assert not truncated.any()
        rows.append((rewards.tolist(), terminated.tolist(), column(infos, "turn"), column(infos, "episode_number")))
    return rows


def test_next_step_by_hand(mixed, seeds, counted):
    env = make_vec(mixed)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    _, infos = env.reset(seed=seeds)
    assert column(infos, "scenario") == ["one-0", "three-0"]
    assert trace(env, 7) == [
        ([1, 1], [T, F], [1, 1], [None, None]),
        ([0, 2], [F, F], [None, 2], [1, None]),  # copy 0 rests and starts the dialogue of three turns
        ([1, 3], [F, T], [1, 3], [None, None]),
        ([2, 0], [F, F], [2, None], [None, 1]),
        ([3, 1], [T, T], [3, 1], [None, None]),
        ([0, 0], [F, F], [None, None], [2, 2]),
        ([1, 1], [T, F], [1, 1], [None, None]),
    ]


def test_same_step_by_hand(mixed, seeds, counted):
    env = make_vec(mixed, autoreset_mode="SameStep")
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    env.reset(seed=seeds)
    assert trace(env, 5) == [
        ([1, 1], [T, F], [None, 1], [1, None]),
        ([1, 2], [F, F], [1, 2], [None, None]),
        ([2, 3], [F, T], [2, None], [None, 1]),
        ([3, 1], [T, T], [None, None], [2, 2]),
        ([1, 1], [T, F], [None, 1], [3, None]),
    ]


def test_same_step_gives_the_end_apart(mixed, seeds, counted):
    env = make_vec(mixed, autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset(seed=seeds)
    observation, rewards, terminated, _, infos = env.step(np.zeros(2, int))
    assert terminated.tolist() == [T, F]
    assert column(infos, "final_obs")[1] is None
    assert infos["final_info"]["_turn"].tolist() == [T, F]
    assert (infos["final_info"]["scenario"][0], infos["final_info"]["turn"][0]) == ("one-0", 1)
    assert infos["final_info"]["reward/spy"][0] == rewards[0] == 1
    assert column(infos, "scenario")[0] == "three-0"  # what the observation is of
    # the same by hand, with the single environment
    single = DialogueEnv(mixed)
    single.reset(seed=seeds[0])
    last, *_ = single.step(0)
    begun, _ = single.reset()
    assert data_equivalence(infos["final_obs"][0], last, exact=True)
    assert same(observation, 0, begun)
    assert not same(observation, 0, last)
    *_, infos = env.step(np.zeros(2, int))
    assert "final_obs" not in infos
    assert "final_info" not in infos


def test_disabled_by_hand(mixed, seeds, counted):
    env = make_vec(mixed, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=seeds)
    observation, _, terminated, _, _ = env.step(np.zeros(2, int))
    assert terminated.tolist() == [T, F]
    with pytest.raises(ConfigError, match="an episode has ended: reset it with"):
        env.step(np.zeros(2, int))
    begun, infos = env.reset(options={"reset_mask": np.array([T, F])})
    assert column(infos, "scenario") == ["three-0", None]
    assert column(infos, "episode_number") == [1, None]
    assert same(begun, 1, {name: array[1] for name, array in observation.items()})
    assert not same(begun, 0, {name: array[0] for name, array in observation.items()})
    assert trace(env, 2) == [
        ([1, 2], [F, F], [1, 2], [None, None]),
        ([2, 3], [F, T], [2, 3], [None, None]),
    ]
    _, infos = env.reset(options={"reset_mask": np.array([F, T])})
    assert column(infos, "scenario") == [None, "one-0"]
    assert trace(env, 1) == [([3, 1], [T, T], [3, 1], [None, None])]
    _, infos = env.reset()  # without a mask: both
    assert column(infos, "scenario") == ["one-0", "three-0"]


@pytest.mark.parametrize("mode", [AutoresetMode.DISABLED, AutoresetMode.NEXT_STEP], ids=str)
def test_an_ended_copy_outside_the_mask_stays_ended(make_task, scenarios, mode):
    env = make_vec(make_task(interface="plain", scenarios=scenarios[:6]), autoreset_mode=mode)
    env.reset(seed=0)
    assert env.step(np.zeros(2, int))[2].tolist() == [T, T]
    _, infos = env.reset(options={"reset_mask": np.array([T, F])})
    assert column(infos, "episode_number") == [2, None]
    if mode is AutoresetMode.DISABLED:
        with pytest.raises(ConfigError, match="an episode has ended"):
            env.step(np.zeros(2, int))
    else:
        *_, infos = env.step(np.zeros(2, int))
        assert column(infos, "turn") == [1, None]
        assert column(infos, "episode_number") == [None, 3]


@pytest.mark.parametrize(
    "mask",
    [np.array([F, F]), np.array([T]), np.array([1, 0]), np.array([[T, F]]), [F, F], np.array([T, F, T])],
    ids=repr,
)
def test_a_reset_mask_that_fits_nothing_is_refused(mixed, mask):
    env = make_vec(mixed, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=r"`reset_mask` must be a boolean array of shape \(2,\) with a true entry"):
        env.reset(options={"reset_mask": mask})
    assert env.step(np.zeros(2, int))[0].keys() == env.observation_space.keys()


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_it_does_what_gymnasiums_own_vector_environment_does(make_task, scenarios, interface, mode):
    task = make_task(interface=interface, scenarios=scenarios[3:], max_turns=2)
    ours = make_vec(task, 3, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: DialogueEnv(task)] * 3, autoreset_mode=mode)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    ours.action_space.seed(0)
    assert data_equivalence(ours.reset(seed=[4, 5, 6]), theirs.reset(seed=[4, 5, 6]), exact=True)
    ended = np.zeros(3, bool)
    for _ in range(12):
        if mode is AutoresetMode.DISABLED and ended.any():
            masks = [{"reset_mask": ended.copy()} for _ in range(2)]  # Gymnasium takes the mask out of its options
            assert data_equivalence(ours.reset(options=masks[0]), theirs.reset(options=masks[1]), exact=True)
        actions = ours.action_space.sample()
        found, expected = ours.step(actions), theirs.step(actions)
        assert data_equivalence(found, expected, exact=True)
        assert ours.observation_space.contains(found[0])
        ended = found[2] | found[3]


@pytest.mark.parametrize("interface", INTERFACES)
def test_n_copies_play_what_n_single_environments_play(make_task, interface):
    task = make_task(interface=interface)
    env, seeds = make_vec(task, 3), [11, 12, 13]
    singles = [DialogueEnv(task) for _ in seeds]
    observation, _ = env.reset(seed=seeds)
    starts = [single.reset(seed=seed)[0] for single, seed in zip(singles, seeds, strict=True)]
    assert all(same(observation, i, start) for i, start in enumerate(starts))
    resting = [False] * 3
    for step in range(10):
        actions = (np.arange(3) + step) % env.single_action_space.n
        observation, rewards, terminated, truncated, infos = env.step(actions)
        for i, single in enumerate(singles):
            if resting[i]:
                alone, reward, ended = single.reset()[0], 0.0, (False, False)
            else:
                alone, reward, *ended, info = single.step(actions[i])
                assert infos["reply"][i] == info["reply"]
            assert same(observation, i, alone)
            assert (rewards[i], terminated[i], truncated[i]) == (reward, *ended)
            resting[i] = any(ended)


def test_one_seed_deals_the_episodes_of_that_seed_over_the_copies(make_task, scenarios):
    task = make_task(interface="plain", scenarios=scenarios[:6])
    env, single = make_vec(task, 3), DialogueEnv(task)
    _, infos = env.reset(seed=9)
    dealt = list(infos["scenario"])
    for _ in range(6):
        *_, infos = env.step(np.zeros(3, int))
        if "episode_number" in infos:
            dealt += list(infos["scenario"])
    expected = [single.reset(seed=9)[1]["scenario"]] + [single.reset()[1]["scenario"] for _ in range(11)]
    assert dealt == expected
    assert sorted(dealt[:6]) == sorted(dealt[6:]) == [s.id for s in scenarios[:6]]


def test_a_seed_of_none_lets_a_copy_go_on(make_task, scenarios):
    task = make_task(interface="plain", scenarios=scenarios[:6])
    env = make_vec(task, 2)
    _, infos = env.reset(seed=[1, 2])
    first = list(infos["scenario"])
    _, infos = env.reset(seed=[1, None])
    assert infos["scenario"][0] == first[0]
    assert infos["scenario"][1] == task.curriculum.episode(2, 1).scenario.id
    assert infos["episode_number"].tolist() == [0, 1]


def test_numpy_seeds_are_seeds(make_task):
    env = make_vec(make_task(interface="plain"), 2)
    for seed, plain in ((np.int64(7), 7), (np.array([3, 4]), [3, 4])):
        assert data_equivalence(env.reset(seed=seed), env.reset(seed=plain), exact=True)


def test_as_many_seeds_as_copies_are_needed(make_task):
    with pytest.raises(ConfigError, match="`seed` holds 3 seeds for 2 environments"):
        make_vec(make_task(), 2).reset(seed=[1, 2, 3])


@pytest.mark.parametrize("interface", INTERFACES)
def test_equal_seeds_give_equal_trajectories_whatever_the_latencies(server, make_task, forgetful_client, interface):
    def delays(salt):
        def delay_s(body):
            return hashlib.sha256(f"{salt} {json.dumps(body)}".encode()).digest()[0] / 255 * 0.01

        return delay_s

    played = []
    for salt in range(3):
        server.delay_s = delays(salt)
        env = make_vec(make_task(interface=interface, client=forgetful_client(), max_turns=2), 4)
        env.action_space.seed(0)
        played.append([env.reset(seed=1), *(env.step(env.action_space.sample()) for _ in range(5))])
    assert data_equivalence(played[0], played[1], exact=True)
    assert data_equivalence(played[0], played[2], exact=True)


@pytest.mark.parametrize(("interface", "at_once"), [("plain", 4), ("strategy", 4), ("select", 16)])
def test_the_dialogues_are_under_way_at_the_same_time(gauge, make_task, scenarios, interface, at_once):
    count = gauge(0.3)
    env = make_vec(make_task(interface=interface, scenarios=scenarios[:4]), 4)
    env.reset(seed=0)
    env.step(np.zeros(4, int))
    assert count.most == at_once


def test_max_turns_truncates_and_the_user_terminates(make_task, scenarios):
    task = make_task(interface="plain", scenarios=[scenarios[0], scenarios[6]], max_turns=2)
    env = make_vec(task)
    env.reset(seed=[seed_for(task, "one-0", "three-0"), seed_for(task, "three-0", "one-0")])
    flags = [tuple(flag.tolist() for flag in env.step(np.zeros(2, int))[2:4]) for _ in range(4)]
    # copy 0: one, a rest, and three is cut at its second turn, which is the fourth step
    assert flags == [([T, F], [F, F]), ([F, F], [F, T]), ([F, F], [F, F]), ([F, T], [T, F])]


@pytest.mark.parametrize("given", ["task", "parts"])
def test_gymnasiums_max_episode_steps_is_the_number_of_turns(make_task, client, endpoint, scenarios, given):
    parts = {
        "client": client,
        "endpoints": {"assistant": endpoint},
        "encoder": {"name": "hashing", "dim": 16},
        "interface": "plain",
        "judges": {},
        "scenarios": scenarios[6:],
    }
    task = {"task": {"task": make_task(interface="plain", scenarios=scenarios[6:])}, "parts": parts}[given]
    env = gym.make_vec(ID, 2, vectorization_mode="vector_entry_point", max_episode_steps=2, **task)
    env.reset(seed=0)
    assert [env.step(np.zeros(2, int))[3].tolist() for _ in range(2)] == [[F, F], [T, T]]


def test_it_is_the_way_that_make_vec_chooses_by_itself(make_task):
    assert isinstance(gym.make_vec(ID, 2, task=make_task()), DialogueVectorEnv)


def test_what_is_wrong_with_the_arguments_is_said(make_task):
    with pytest.raises(ConfigError, match="does not render"):
        make_vec(make_task(), render_mode="ansi")
    with pytest.raises(ConfigError, match="give `task` or its parts, not both: interface"):
        make_vec(make_task(), interface="plain")
    with pytest.raises(
        ConfigError, match=r"`interfac` is no part of a dialogue environment: did you mean `interface`\?"
    ):
        DialogueVectorEnv(2, interfac="plain")
    with pytest.raises(ValueError, match="Sometimes"):
        make_vec(make_task(), autoreset_mode="Sometimes")


def test_a_step_before_the_reset_is_an_error(make_task):
    with pytest.raises(DuologueError, match="call `reset` first"):
        make_vec(make_task()).step(np.zeros(2, int))


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_one_failing_copy_ends_its_episode_and_the_other_goes_on(server, mixed, seeds, mode):
    env, answer = make_vec(mixed, autoreset_mode=mode), server.answer
    env.reset(seed=seeds)
    server.answer = lambda body: BROKEN if "Hello" in body["messages"][1]["content"] else answer(body)
    _, rewards, terminated, truncated, infos = env.step(np.zeros(2, int))
    assert np.isnan(rewards).sum() == 1
    failed = int(np.flatnonzero(np.isnan(rewards))[0])
    final = infos["final_info"] if mode is AutoresetMode.SAME_STEP else infos
    assert final["failure_cause"][failed] == "assistant"
    assert truncated.tolist() == [i == failed for i in range(2)]
    assert not terminated[failed]
    server.answer = answer
    again = [env.reset(seed=seeds), env.step(np.zeros(2, int))]
    fresh = make_vec(mixed, autoreset_mode=mode)
    assert data_equivalence(again, [fresh.reset(seed=seeds), fresh.step(np.zeros(2, int))], exact=True)


def test_a_failing_copy_leaves_none_of_the_others_under_way(server, mixed, seeds, gauge):
    """A dialogue left behind would go on into the episode that the next reset starts."""
    env, answer = make_vec(mixed), server.answer
    env.reset(seed=seeds)
    server.answer = lambda body: BROKEN if "Hello" in body["messages"][1]["content"] else answer(body)
    count = gauge(0)
    arrive = server.delay_s
    server.delay_s = lambda body: arrive(body) or (0.0 if "Hello" in body["messages"][1]["content"] else 0.3)
    assert np.isnan(env.step(np.zeros(2, int))[1]).sum() == 1
    assert count.most == 2
    assert count.now == 0


def test_a_failing_reset_leaves_none_of_the_others_under_way(server, make_task, scenarios, gauge):
    answer = server.answer
    server.answer = lambda body: BROKEN if "number 0" in body["messages"][1]["content"] else answer(body)
    count = gauge(0)
    arrive = server.delay_s
    server.delay_s = lambda body: arrive(body) or (0.0 if "number 0" in body["messages"][1]["content"] else 0.3)
    env = make_vec(make_task(scenarios=scenarios[:2]))
    with pytest.raises(EpisodeFailed):
        env.reset(seed=0)
    assert count.now == 0


def test_what_was_returned_earlier_is_not_changed_later(mixed, seeds):
    env = make_vec(mixed)
    observation, infos = env.reset(seed=seeds)
    before = {name: array.copy() for name, array in observation.items()}
    numbers = infos["episode_number"].copy()
    for _ in range(3):
        later, *_ = env.step(np.zeros(2, int))
        assert not any(np.shares_memory(observation[name], later[name]) for name in later)
    assert data_equivalence(observation, before, exact=True)
    assert infos["episode_number"].tolist() == numbers.tolist()


def test_scenarios_can_be_asked_for_by_name(make_task):
    env = DialogueVectorEnv(3, make_task(interface="plain"))
    _, infos = env.reset(seed=0, options={"scenario": "three-1"})
    assert list(infos["scenario"]) == ["three-1"] * 3
    _, infos = env.reset(seed=0, options={"scenario": ["one-4", None, "one-2"]})
    assert list(infos["scenario"])[::2] == ["one-4", "one-2"]
    assert list(infos["episode_number"]) == [0, 1, 2]
    with pytest.raises(ConfigError, match="`scenario` names 2 scenarios for 3 environments"):
        env.reset(options={"scenario": ["one-4", "one-2"]})
    with pytest.raises(ConfigError, match="no scenario `one-9` in this split"):
        env.reset(options={"scenario": "one-9"})
