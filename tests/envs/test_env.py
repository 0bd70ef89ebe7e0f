"""The Gymnasium environment: the checker, the docstring, seeds, latencies."""

import hashlib
import json
import os
import re
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from stable_baselines3.common.env_util import make_vec_env

from duologue.envs import DialogueEnv, DialogueVectorEnv, FixedInfo
from duologue.envs.interfaces.select import FEATURES
from duologue.envs.observation import SCALARS
from duologue.envs.task import DEFAULT_JUDGES
from duologue.inference import ConfigError

ID = "duologue.envs:duologue/Dialogue-v0"
INTERFACES = ["select", "strategy", "plain"]
HEADINGS = [
    "Description",
    "Action Space",
    "Observation Space",
    "Starting State",
    "Rewards",
    "Episode End",
    "Information",
    "Arguments",
    "Version History",
]


def play(env, seed, episodes):
    """Everything that an environment returns over some episodes, with actions that depend on the step only."""
    seen = []
    for number in range(episodes):
        observation, info = env.reset(seed=seed) if number == 0 else env.reset()
        seen.append((observation, info))
        over = False
        while not over:
            outcome = env.step((7 * len(seen)) % int(env.action_space.n))
            seen.append(outcome)
            over = outcome[2] or outcome[3]
    return seen


def section(heading):
    return DialogueEnv.__doc__.partition(f"## {heading}\n")[2].partition("## ")[0]


def table(heading):
    """The rows of a section's table, as lists of cells."""
    rows = [
        line.strip().strip("|").split("|") for line in section(heading).splitlines() if line.strip().startswith("|")
    ]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("length", ["one", "three"])
def test_gymnasiums_checker_finds_nothing(make_task, scenarios, interface, length):
    task = make_task(interface=interface, scenarios=[s for s in scenarios if s.id.startswith(length)])
    check_env(DialogueEnv(task), skip_render_check=True)


@pytest.mark.parametrize("interface", INTERFACES)
def test_gymnasiums_checker_finds_nothing_in_what_make_makes(make_task, interface):
    check_env(gym.make(ID, task=make_task(interface=interface)).unwrapped)


def test_make_finds_the_environment_and_wraps_nothing_that_changes_it(make_task):
    env = gym.make(ID, task=make_task(), render_mode="ansi")
    assert isinstance(env.unwrapped, DialogueEnv)
    assert env.spec is not None  # Gymnasium copies the arguments for it
    assert env.spec.max_episode_steps is None
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)


def test_make_takes_the_parts_of_a_task(client, endpoint, scenarios):
    env = gym.make(
        ID,
        client=client,
        endpoints={"assistant": endpoint},
        interface="strategy",
        encoder={"name": "hashing", "dim": 16},
        judges={"rules": "rules"},
        scenarios=scenarios,
        max_turns=1,
    )
    env.reset(seed=0, options={"scenario": "three-0"})
    *_, terminated, truncated, info = env.step(2)
    assert (terminated, truncated, info["scenario"]) == (False, True, "three-0")


def test_one_import_path_registers_and_makes_it_without_torch(tmp_path):
    code = f"""
import sys, gymnasium
assert "duologue/Dialogue-v0" not in gymnasium.registry
env = gymnasium.make({ID!r}, encoder="hashing", judges={{}})
print(env.action_space, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.stdout, done.returncode) == ("Discrete(4) False\n", 0), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_docstring_has_gymnasiums_headings_in_their_order():
    assert re.findall(r"^ *## (.*)$", DialogueEnv.__doc__, re.MULTILINE) == HEADINGS
    assert all(section(heading).strip() for heading in HEADINGS)


def test_the_docstring_lists_the_information_that_there_is(make_task):
    env = DialogueEnv(make_task())
    _, started = env.reset(seed=0)
    *_, info = env.step(0)
    listed = {row[0].strip("`"): row[1] for row in table("Information")}
    assert (listed.pop("reward/<judge>"), listed.pop("term/<judge>")) == ("float", "float")
    found = {key: type(value).__name__ for key, value in info.items()}
    assert {found.pop(f"{kind}/{judge}") for kind in ("reward", "term") for judge in ("rules", "length")} == {"float"}
    assert found == {key: kind.partition("[")[0] for key, kind in listed.items()}
    for key in started:
        assert f"`{key}`" in section("Information")
    kinds = {"scenario": str, "episode_number": int, "draw": int, "messages": tuple}
    assert {key: type(value) for key, value in started.items()} == kinds


def test_the_docstring_lists_the_observation_that_there_is(make_task):
    space = DialogueEnv(make_task()).observation_space
    listed = {row[0].strip("`"): row for row in table("Observation Space")}
    assert set(listed) == set(space)
    sizes = {"dim": 16, "n": 4}
    for key, box in space.items():
        shape = tuple(sizes.get(size) or int(size) for size in re.findall(r"\w+", listed[key][1]))
        assert box.shape == shape, key
        if interval := re.fullmatch(r"\[(-?\d+), (-?\d+)\]", listed[key][2]):
            assert (box.low.min(), box.high.max()) == tuple(map(int, interval.groups())), key
    assert (len(SCALARS), len(FEATURES)) == (6, 11)


def test_the_docstring_gives_the_default_weights():
    words = " ".join(section("Rewards").split())
    for name, settings in DEFAULT_JUDGES.items():
        weight = settings["weight"]
        assert f"`{name}`" in words if weight == 1 else f"{weight:g} times `{name}`" in words


@pytest.mark.parametrize("interface", INTERFACES)
def test_every_observation_of_random_rollouts_is_in_the_space(make_task, scenarios, interface):
    env = DialogueEnv(make_task(interface=interface, max_turns=2, scenarios=scenarios[4:]))
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    ends = []
    for _ in range(40):
        assert env.observation_space.contains(observation)
        assert all(array.dtype == np.float32 for array in observation.values())
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert type(reward) is float
        if terminated or truncated:
            assert env.observation_space.contains(observation)
            ends.append((terminated, truncated))
            observation, _ = env.reset()
    assert set(ends) == {(True, False), (False, True)}


@pytest.mark.parametrize("interface", INTERFACES)
def test_equal_seeds_give_equal_trajectories(make_task, interface):
    env, other = DialogueEnv(make_task(interface=interface)), DialogueEnv(make_task(interface=interface))
    first = play(env, 3, 9)
    assert data_equivalence(first, play(env, 3, 9), exact=True)
    assert data_equivalence(first, play(other, 3, 9), exact=True)
    assert not data_equivalence(first, play(env, 4, 9), exact=True)


@pytest.mark.parametrize("interface", INTERFACES)
def test_a_trajectory_does_not_depend_on_latencies(server, make_task, forgetful_client, interface):
    def delays(salt):
        def delay_s(body):
            return hashlib.sha256(f"{salt} {json.dumps(body)}".encode()).digest()[0] / 255 * 0.01

        return delay_s

    played = []
    for salt in range(3):
        server.delay_s = delays(salt)
        task = make_task(interface=interface, client=forgetful_client())
        played.append(play(DialogueEnv(task), 1, 8))
    assert data_equivalence(played[0], played[1], exact=True)
    assert data_equivalence(played[0], played[2], exact=True)
    asked = sorted(json.dumps(body) for body in server.requests)
    assert asked[::3] == asked[1::3] == asked[2::3]  # every run asked the server for everything itself


def test_an_epoch_plays_every_scenario_once_and_the_next_one_too(make_task, scenarios):
    env = DialogueEnv(make_task(interface="plain"))
    starts = [env.reset(seed=5)[1]] + [env.reset()[1] for _ in range(15)]
    assert [info["episode_number"] for info in starts] == list(range(16))
    names = [info["scenario"] for info in starts]
    assert sorted(names[:8]) == sorted(names[8:]) == sorted(s.id for s in scenarios)
    assert names[:8] != names[8:]


def test_environments_without_a_seed_play_the_scenarios_in_orders_of_their_own(make_task):
    task = make_task(interface="plain")

    def order(env):
        return tuple(env.reset()[1]["scenario"] for _ in range(8))

    assert len({order(DialogueEnv(task)) for _ in range(4)}) > 1
    vectors = [DialogueVectorEnv(8, task) for _ in range(4)]
    assert len({tuple(env.reset()[1]["scenario"]) for env in vectors}) > 1
    again = [DialogueEnv(task) for _ in range(2)]
    first = [env.reset(seed=3)[1]["scenario"] for env in again]
    assert first[0] == first[1]
    assert order(again[0]) == order(again[1])  # the seed of the first reset goes on


@pytest.mark.parametrize(
    ("interface", "bad"), [("strategy", [-1, 99, 1.7, True, [0]]), ("decode", [0, [0, 0, 99], [0.0, 1.0, 0.0]])]
)
def test_an_action_outside_the_space_is_refused_before_anything_changes(make_task, server, interface, bad):
    env = DialogueEnv(make_task(interface=interface))
    env.reset(seed=0)
    for action in bad:
        with pytest.raises(ConfigError, match=r"is not in the action space, (Multi)?Discrete"):
            env.step(action)
    assert server.requests == []
    good = env.action_space.sample()
    assert env.step(good)[4]["turn"] == 1
    copies = DialogueVectorEnv(2, env.task)
    copies.reset(seed=0)
    asked = len(server.requests)
    with pytest.raises(ConfigError, match="is not in the action space"):
        copies.step([good, bad[1]])
    with pytest.raises(ConfigError, match="3 actions were given for 2 environments"):
        copies.task.client.run(copies.advance([good] * 3, np.zeros(2, bool)))
    assert len(server.requests) == asked


@pytest.mark.filterwarnings(
    "ignore:.*initialised with render_mode='rgb_array'"
)  # Gymnasium's, of what the library tries first
def test_stable_baselines3_makes_it_by_its_id(endpoint, client):
    parts = {"endpoints": {"assistant": endpoint.to_settings()}, "client": client, "encoder": "hashing", "judges": {}}
    env = make_vec_env(ID, n_envs=2, env_kwargs=parts | {"interface": "plain"})
    assert env.reset()["message"].shape[0] == 2
    for unknown in ({"frameskip": 4}, {"render_mode": "rgb_array"}):
        with pytest.raises(TypeError):
            DialogueEnv(**parts, **unknown)


def test_endpoints_may_be_given_by_their_values(server, client):
    values = {"base_url": server.url, "model": "fake"}
    env = gym.make(ID, endpoints={"assistant": values}, client=client, encoder="hashing", judges={}, interface="plain")
    env.reset(seed=0)
    assert env.step(0)[4]["reply"]
    with pytest.raises(ConfigError, match="`endpoints.assistant` must hold settings by name"):
        gym.make(ID, endpoints={"assistant": server.url})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_task_made_before_a_fork_names_the_fork_in_the_child(make_task, tmp_path):
    env, said = DialogueEnv(make_task(interface="plain")), tmp_path / "said"
    child = os.fork()
    if child == 0:
        try:
            env.reset(seed=0)
        except ConfigError as error:
            said.write_text(str(error))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert "was made before a fork" in said.read_text()
    assert env.reset(seed=0)[1]["scenario"]


def test_a_limit_of_steps_cuts_alike_alone_and_in_copies(make_task, scenarios):
    """A judge that waits for the end: a time limit is none, for `gymnasium.make` and for the vector environment."""
    task = make_task(
        interface="plain", scenarios=scenarios[6:], judges={"length": {"name": "length", "when": "end"}}, max_turns=8
    )
    alone = gym.make(ID, task=task, max_episode_steps=2)
    copies = gym.make_vec(ID, 1, vectorization_mode="vector_entry_point", task=task, max_episode_steps=2)
    alone.reset(seed=0)
    copies.reset(seed=0)
    for turn in (1, 2):
        one, many = alone.step(0)[1:4], copies.step(np.zeros(1, int))[1:4]
        assert one == tuple(values[0] for values in many) == (0.0, False, turn == 2)


def test_a_scenario_can_be_asked_for_by_name(make_task):
    env = DialogueEnv(make_task(interface="plain"))
    for number, name in enumerate(["three-1", "one-4", "one-4"]):
        _, info = env.reset(options={"scenario": name})
        assert (info["scenario"], info["episode_number"], info["draw"]) == (name, number, 0)


def test_an_unknown_scenario_gets_the_near_miss_wherever_it_stands_in_the_set(make_task):
    task = make_task(interface="plain", scenarios="assistant", split="test")
    env, last = DialogueEnv(task), task.scenarios[-1].id
    with pytest.raises(ConfigError, match=rf"no scenario `{last}x` in this split: did you mean `{last}`\?"):
        env.reset(options={"scenario": f"{last}x"})


def test_render_gives_the_dialogue_so_far_as_text(server, make_task, scenarios):
    server.answer = lambda body: "Good day."
    env = DialogueEnv(make_task(interface="plain", scenarios=scenarios[6:7], system="Be kind."), render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "system: Be kind.\nuser: Hello 0."
    env.step(0)
    assert env.render() == "system: Be kind.\nuser: Hello 0.\nassistant: Good day.\nuser: Go on."


def test_without_a_render_mode_nothing_is_rendered(make_task):
    env = DialogueEnv(make_task())
    env.reset(seed=0)
    assert env.render() is None


def test_what_is_wrong_with_the_arguments_is_said(make_task):
    with pytest.raises(ConfigError, match="`render_mode` must be 'ansi' or None, not 'human'"):
        DialogueEnv(make_task(), render_mode="human")
    with pytest.raises(ConfigError, match="give `task` or its parts, not both: interface, split"):
        DialogueEnv(make_task(), split="test", interface="plain")
    with pytest.raises(
        ConfigError, match=r"`interfce` is no part of a dialogue environment: did you mean `interface`\?"
    ):
        DialogueEnv(interfce="plain")


def test_what_was_returned_earlier_is_not_changed_later(make_task, scenarios):
    env = DialogueEnv(make_task(interface="plain", scenarios=scenarios[6:7]))
    first, _ = env.reset(seed=0)
    before = {name: array.copy() for name, array in first.items()}
    *_, info = env.step(0)
    messages = [dict(message) for message in info["messages"]]
    info["messages"][1]["content"] = "Never said."
    *_, later = env.step(0)
    assert data_equivalence(first, before, exact=True)
    assert list(later["messages"][: len(messages)]) == messages


def test_infos_of_fixed_shape_for_collectors_that_stack_them():
    env = FixedInfo(gym.make("duologue/Bargain-v0"))
    env.action_space.seed(0)
    infos = [env.reset(seed=0)[1]]
    while len(infos) < 12:
        *_, terminated, truncated, info = env.step(env.action_space.sample())
        infos.append(info)
        if terminated or truncated:
            infos.append(env.reset()[1])
    assert {tuple((key, type(value)) for key, value in info.items()) for info in infos} == {
        (
            ("scenario", str),
            ("failure", str),
            ("turn", int),
            ("requests", int),
            ("completion_tokens", int),
            ("cost_usd", float),
            ("term/outcome", float),
        )
    }
