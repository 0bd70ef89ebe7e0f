"""Bundles from strangers: what they may ask for without trust, and what becomes of those that are broken on purpose."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch as th
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from duologue.agents import DialoguePPO, DialogueVecEnv, load_bundle, save_bundle
from duologue.agents.policies import NETWORKS, network_name
from duologue.agents.reference import Reference
from duologue.inference import ConfigError

EVIL = "https://evil.example/v1"
SECRET = "AWS_SECRET_ACCESS_KEY"


@pytest.fixture
def saved(make_task, tmp_path):
    """Writes the bundle of an untrained policy: `saved("strategy")`; its settings can be replaced."""

    def make(interface: Any = "strategy", **changes: Any) -> Path:
        task = make_task(interface=interface)
        name = network_name(task.interface)
        agent = DialoguePPO(NETWORKS[name], DialogueVecEnv(2, task), n_steps=4, batch_size=4, seed=3, device="cpu")
        about = {"assistant": task.assistant.to_settings(), "task": {"system": "Be brief.", "max_turns": 3}}
        folder = tmp_path / "bundle"
        save_bundle(folder, agent.policy, name, {}, task.interface, task.encoder, {**about, **changes})
        return folder

    return make


def rewrite(folder: Path, **changes: Any) -> Path:
    record = json.loads((folder / "policy.json").read_text(encoding="utf-8")) | changes
    (folder / "policy.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@contextmanager
def one_line_if_refused() -> Iterator[None]:
    said = ""
    try:
        yield
    except ConfigError as error:
        said = str(error)
    assert "\n" not in said


# what only a trusted bundle may name


def test_the_address_and_the_keys_variable_are_the_users(saved):
    folder = saved(assistant={"base_url": EVIL, "model": "m", "api_key_env": SECRET, "sampling": {"temperature": 0.5}})
    with pytest.raises(ConfigError, match="`upstream.base_url` is missing.*evil.example.*AWS_SECRET.*trusted=true"):
        load_bundle(folder).endpoint()
    with pytest.raises(ConfigError, match="`upstream.base_url` is missing"):
        load_bundle(folder).endpoint({"api_key_env": "MINE"})
    endpoint = load_bundle(folder).endpoint({"base_url": "https://mine.example/v1"})
    assert (endpoint.base_url, endpoint.api_key_env) == ("https://mine.example/v1", "OPENAI_API_KEY")
    assert (endpoint.model, endpoint.sampling.temperature) == ("m", 0.5)
    trusted = load_bundle(folder, trusted=True).endpoint()
    assert (trusted.base_url, trusted.api_key_env) == (EVIL, SECRET)


def test_limits_prices_and_fields_of_the_body_are_the_users(saved):
    poison = {"max_retries": 10**6, "deadline_s": 1e9, "max_concurrency": 10**6, "price": {"per_request_usd": 0.0}}
    folder = saved(assistant={"base_url": "embedded://smollm2", "model": "m", **poison})
    endpoint = load_bundle(folder).endpoint()
    assert (endpoint.max_retries, endpoint.deadline_s, endpoint.max_concurrency) == (4, 300.0, 32)
    folder = saved(assistant={"model": "m", "sampling": {"extra": {"service_tier": "priority"}}})
    mine = {"base_url": "https://mine.example/v1"}
    with pytest.raises(ConfigError, match="`service_tier` to the body"):
        load_bundle(folder).endpoint(mine)
    assert not load_bundle(folder).endpoint({**mine, "sampling": {"extra": {}}}).sampling.extra


def test_a_model_embedded_here_needs_no_trust_and_gets_no_key(saved, monkeypatch):
    monkeypatch.setenv(SECRET, "sk-canary")
    folder = saved(assistant={"base_url": "embedded://smollm2", "model": "smollm2", "api_key_env": SECRET})
    endpoint = load_bundle(folder).endpoint()
    assert endpoint.base_url == "embedded://smollm2"
    assert endpoint.api_key() == "none"
    elsewhere = load_bundle(folder).endpoint({"base_url": "https://mine.example/v1"})
    assert elsewhere.api_key_env == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    "own", [{"base_url": EVIL}, {"api_key_env": SECRET}, {"price": {"per_request_usd": 0.5}}, {"max_retries": 99}]
)
def test_a_route_goes_to_the_users_server_only(saved, own):
    models = {"small": {"model": "small"}, "large": {"model": "large", "sampling": {"temperature": 0.1}}}
    folder = saved({"name": "route", "models": models})
    assert load_bundle(folder).interface.action_space.n == 2
    rewrite(folder, interface={"name": "route", "models": models | {"large": own}})
    with pytest.raises(ConfigError, match="sets more of the endpoint `large`.*trusted=true"):
        load_bundle(folder)
    assert load_bundle(folder, trusted=True).interface.action_space.n == 2


def test_an_encoder_that_asks_a_server_needs_trust(saved, client):
    folder = saved()
    encoder = {"name": "endpoint", "dim": 16, "base_url": EVIL, "model": "m", "api_key_env": SECRET}
    rewrite(folder, encoder=encoder)
    with pytest.raises(ConfigError, match="sends the dialogues to https://evil.example/v1 with the key in `AWS_SECRET"):
        load_bundle(folder, client)
    assert load_bundle(folder, client, trusted=True).encoder.endpoint.base_url == EVIL


def test_the_served_policy_asks_nobody_that_the_bundle_names(saved, server, tmp_path):
    from duologue.commands.chat import chat
    from duologue.commands.serve import serve

    folder = saved()  # its address is the test's server
    for start in (chat, serve):
        with pytest.raises(ConfigError, match="`upstream.base_url` is missing"):
            start({"policy": str(folder), **({"alias": "x", "port": 0} if start is serve else {})}, tmp_path)
    assert not server.requests


def test_a_reference_policy_imports_nothing_of_its_bundle(saved, make_task, tmp_path):
    folder = rewrite(saved(), interface={"name": "os:abort"}, encoder={"name": "os:abort"})
    task = make_task(interface="strategy")
    agent = DialoguePPO(NETWORKS["multi_input"], DialogueVecEnv(2, task), n_steps=4, batch_size=4, device="cpu")
    Reference.named(str(folder), agent.policy)
    with pytest.raises(ConfigError, match="`agent.kl_reference="):
        Reference.named(str(tmp_path / "nowhere"), agent.policy)


# sizes are bounded before memory is allocated


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"interface": {"name": "select", "n": 10**12}}, "requests a turn"),
        ({"interface": {"name": "propose_select", "direct": "{move:>9000000000}"}}, "may only hold {move}"),
        ({"interface": {"name": "propose_select", "direct": "{move.__class__}{move}"}}, "may only hold {move}"),
        ({"encoder": {"name": "hashing", "dim": 10**12}}, "are allowed"),
        ({"network": {"name": "multi_input", "arguments": {"net_arch": [10**7, 10**7]}}}, "weights do not fit"),
        ({"network": {"name": "multi_input", "arguments": {"net_arch": {"pi": [10**12]}}}}, "weights do not fit"),
        ({"network": {"name": "multi_input", "arguments": {"net_arch": [1] * 10**6}}}, "weights do not fit"),
    ],
)
def test_a_small_file_takes_no_large_memory(saved, changes, said):
    with pytest.raises(ConfigError, match=said):
        load_bundle(rewrite(saved(), **changes))


def test_files_that_never_end_or_are_too_long(saved, tmp_path):
    folder = saved()
    content = (folder / "policy.json").read_bytes()
    for name in ("policy.json", "policy.safetensors"):
        place = folder / name
        kept = place.read_bytes()
        for poison in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()):
            place.unlink()
            poison(place)
            with pytest.raises(ConfigError, match=f"is no bundle .there is no file .*{name}"):
                load_bundle(folder)
            place.rmdir() if place.is_dir() else place.unlink()
            place.write_bytes(kept)
    (folder / "policy.json").write_bytes(content + b" " * 16_000_000)
    with pytest.raises(ConfigError, match="longer than"):
        load_bundle(folder)
    secret = tmp_path / "secret"
    secret.write_text("password=hunter2")
    (folder / "policy.json").unlink()
    (folder / "policy.json").symlink_to(secret)
    with pytest.raises(ConfigError) as caught:
        load_bundle(folder)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        (2**63).to_bytes(8, "little") + b"{}",
        (200_000_000).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        b"",
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    ],
)
def test_a_safetensors_header_that_lies(saved, header):
    folder = saved()
    (folder / "policy.safetensors").write_bytes(header)
    with pytest.raises(ConfigError, match="is no bundle"):
        load_bundle(folder)


def test_a_tensor_that_claims_more_than_the_file_holds(saved):
    folder = saved()
    head = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (folder / "policy.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    with pytest.raises(ConfigError, match="is no bundle"):
        load_bundle(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(saved, value):
    folder = saved()
    weights = load_file(folder / "policy.safetensors")
    name = next(name for name in weights if name.startswith("action_net"))
    weights[name].view(-1)[0] = value
    save_file(weights, folder / "policy.safetensors")
    with pytest.raises(ConfigError, match="NaN or infinity"):
        load_bundle(folder)


def test_weights_that_overflow_in_the_network_are_refused(saved):
    folder = saved()
    weights = {name: value.double() for name, value in load_file(folder / "policy.safetensors").items()}
    weights["action_net.bias"][0] = 1e300
    save_file(weights, folder / "policy.safetensors")
    with pytest.raises(ConfigError, match="NaN or infinity"):
        load_bundle(folder)


# whatever policy.json holds, the error is one line that says what is wrong


RECORD = {
    "format": 1,
    "network": {"name": "multi_input", "arguments": {}},
    "interface": {"name": "strategy"},
    "encoder": {"name": "hashing", "dim": 16},
    "observation_space": {},
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"format": 1}',
        b"[" * 100_000,
        b'{"format": 1, "network": ' + b'{"a":' * 100_000,
        b'{"format": ' + b"9" * 5000 + b"}",
        b'\xff\xfe{"format": 1}',
        b'{"format": 1, "model": "\\ud800"}',
        b'{"format": NaN}',
        *(
            json.dumps({**RECORD, **changes}).encode()
            for changes in (
                {"network": None},
                {"network": {"arguments": {}}},
                {"network": {"name": "multi_input", "arguments": []}},
                {"network": {"name": "multi_input", "arguments": {"observation_space": 1}}},
                {"network": {"name": "multi_input", "arguments": {"activation_fn": "torch.nn.Tanh"}}},
                {"network": {"name": "multi_input", "arguments": {"optimizer_class": "os.system"}}},
                {"interface": "strategy"},
                {"interface": {}},
                {"interface": {"name": ["strategy"]}},
                {"interface": {"name": "strategy", "directives": 7}},
                {"interface": {"name": "decode", "temperatures": [[1], {}]}},
                {"interface": {"name": "route", "models": {"a": "b", "c": "d"}}},
                {"encoder": {"name": "hashing", "dim": "16"}},
                {"encoder": {"name": "hashing", "dim": -1}},
                {"encoder": {"name": "../hashing"}},
                {"observation_space": {"message": "x"}},
                {"assistant": []},
                {"task": {"system": 1}},
                {"task": {"max_turns": 0}},
                {"task": {"max_turns": 10**4000}},
                {"interface": {"name": "select", "n": 10**4000}},
                {"encoder": {"name": "hashing", "dim": 10**4000}},
                {"task": "x"},
            )
        ),
    ],
)
def test_a_broken_description_is_one_line(saved, content):
    folder = saved()
    (folder / "policy.json").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
PLACES = [
    *((name,) for name in (*RECORD, "assistant", "task", "model")),
    *((part, name) for part in ("interface", "encoder", "network") for name in ("name", "arguments", "dim", "n")),
    ("interface", "directives"),
    ("network", "arguments", "net_arch"),
    ("network", "arguments", "activation_fn"),
    ("assistant", "sampling"),
    ("assistant", "model"),
]


def test_any_value_in_any_place_loads_or_is_a_mistake_that_is_named(saved):
    folder = saved()
    original = (folder / "policy.json").read_text(encoding="utf-8")

    @given(place=st.sampled_from(PLACES), value=VALUES)
    @example(place=("network", "arguments", "net_arch"), value=[-5])
    @example(place=("network", "arguments", "net_arch"), value={"pi": [0], "vf": [2.5]})
    @settings(max_examples=150, deadline=None)
    def attempt(place, value):
        record = part = json.loads(original)
        for name in place[:-1]:
            part = part[name]
        part[place[-1]] = value
        (folder / "policy.json").write_text(json.dumps(record), encoding="utf-8")
        with one_line_if_refused():
            load_bundle(folder).endpoint({"base_url": "https://mine.example/v1"})

    attempt()


def test_any_changed_byte_loads_or_is_a_mistake_that_is_named(saved):
    folder = saved()
    original = {name: (folder / name).read_bytes() for name in ("policy.json", "policy.safetensors")}

    @given(at=st.integers(0, 3000), byte=st.integers(0, 255), name=st.sampled_from(sorted(original)))
    @settings(max_examples=150, deadline=None)
    def attempt(at, byte, name):
        content = bytearray(original[name])
        content[at % len(content)] = byte
        for place, kept in original.items():
            (folder / place).write_bytes(content if place == name else kept)
        with one_line_if_refused():
            network = load_bundle(folder).policy.network
            assert all(th.isfinite(value).all() for value in network.state_dict().values())

    attempt()


def test_a_bundle_is_as_readable_as_the_users_other_files(saved, tmp_path):
    (tmp_path / "plain").touch()
    usual = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert {stat.S_IMODE(file.stat().st_mode) for file in saved().iterdir()} == {usual}
