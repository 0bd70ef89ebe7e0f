import json

import numpy as np
import pytest
import torch as th

from duologue.agents import CandidatePolicy, DialoguePPO, DialogueVecEnv, TorchPolicy, load_bundle, save_bundle
from duologue.envs import DialogueEnv
from duologue.inference import ConfigError


@pytest.fixture
def task(make_task):
    return make_task()


@pytest.fixture
def agent(task):
    return DialoguePPO(
        CandidatePolicy,
        DialogueVecEnv(4, task),
        seed=0,
        n_steps=4,
        batch_size=8,
        device="cpu",
        policy_kwargs={"hidden": [8]},
    ).learn(32)


@pytest.fixture
def folder(agent, task, tmp_path):
    save_bundle(
        tmp_path / "bundle",
        agent.policy,
        "candidate_scorer",
        {"hidden": [8]},
        task.interface,
        task.encoder,
        {"model": "fake", "judges": ["rules"], "seed": 0, "timesteps": 32},
    )
    return tmp_path / "bundle"


def test_saved_and_loaded_it_acts_identically(agent, task, folder):
    before, after = TorchPolicy(agent.policy), load_bundle(folder).policy
    env = DialogueEnv(task)
    for _ in range(16):
        observation, _ = env.reset()
        assert before.act(observation) == after.act(observation)
        batch = {name: th.as_tensor(rows[None]) for name, rows in observation.items()}
        one, two = (p.network.get_distribution(batch).distribution.logits for p in (before, after))
        assert th.equal(one, two)


def test_it_brings_its_interface_and_encoder(task, folder):
    bundle = load_bundle(folder.parent)  # the run folder will do
    assert dict(bundle.interface.settings) == dict(task.interface.settings)
    assert bundle.encoder.settings == task.encoder.settings


def test_it_holds_no_pickle_and_has_a_card(folder):
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "policy.json", "policy.safetensors"]
    assert "`select` policy for `fake`" in (folder / "README.md").read_text()


def test_saving_again_replaces_it(agent, task, folder):
    save_bundle(folder, agent.policy, "candidate_scorer", {"hidden": [8]}, task.interface, task.encoder, {"seed": 9})
    assert load_bundle(folder).settings["seed"] == 9
    assert not folder.with_name("bundle.partial").exists()


def edited(folder, **changes):
    record = json.loads((folder / "policy.json").read_text()) | changes
    (folder / "policy.json").write_text(json.dumps(record))
    return folder


def test_a_bundle_cannot_name_code_to_run(folder):
    with pytest.raises(ConfigError, match="interface.name"):
        load_bundle(edited(folder, interface={"name": "os:system", "command": "true"}))
    with pytest.raises(ConfigError, match="encoder.name"):
        load_bundle(edited(folder, interface={"name": "select"}, encoder={"name": "os:getcwd"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "bundle format 2"),
        ({"interface": {"name": "select", "n": 5}}, "other observations"),
        ({"network": {"name": "resnet", "arguments": {}}}, "no network `resnet`"),
        ({"network": {"name": "candidate_scorer", "arguments": {"hidden": [9]}}}, "weights do not fit"),
        ({"network": {"name": "candidate_scorer", "arguments": {"depth": 9}}}, "refused"),
    ],
)
def test_a_bundle_that_does_not_fit_itself_is_refused(folder, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_bundle(edited(folder, **changes))


def test_other_folders_are_refused_with_the_cure(tmp_path, folder):
    with pytest.raises(ConfigError, match="is no bundle.*duologue train"):
        load_bundle(tmp_path / "nothing")
    (folder / "policy.safetensors").write_bytes(b"\x80\x04 not tensors")
    with pytest.raises(ConfigError, match="is no bundle"):
        load_bundle(folder)


def test_actions_of_a_loaded_policy_fit_the_action_space(task, folder):
    policy = load_bundle(folder).policy
    observation, _ = DialogueEnv(task).reset()
    assert task.interface.action_space.contains(np.int64(policy.act(observation)))
