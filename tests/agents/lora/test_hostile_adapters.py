"""Adapters and model folders from strangers: no code, no pickle, no download, no more memory than the file is large."""

import json
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.agents.lora import load_writer
from duologue.inference import ConfigError

EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
raise SystemExit("code of the folder ran")
"""


@pytest.fixture(scope="module")
def adapter(tiny, tmp_path_factory) -> Path:
    """An untrained adapter on the tiny model, written as training writes it."""
    from peft import LoraConfig, get_peft_model

    from duologue.agents.lora.adapter import save_adapter
    from duologue.agents.lora.local_model import load_local_model, quiet
    from duologue.agents.lora.writer import Decoding

    local = load_local_model(tiny)
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    with quiet():
        model = get_peft_model(local.model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
        save_adapter(folder, model, local, Decoding(), {"agent": "dpo", "task": {"system": "Be brief."}})
    return folder


@pytest.fixture
def copied(adapter, tmp_path) -> Path:
    return Path(shutil.copytree(adapter, tmp_path / "adapter"))


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_an_adapter_loads_and_is_as_readable_as_the_users_other_files(copied):
    writer, record = load_writer(copied)
    assert record["task"]["system"] == "Be brief."
    assert writer.write([[{"role": "user", "content": "old"}]], [0])
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (copied / "README.md", copied / "adapter_model.safetensors")}
    assert len(modes) == 1


@pytest.mark.parametrize("architecture", ["tiny", "unknown"])
def test_code_in_the_folder_of_a_model_neither_runs_nor_is_asked_for(copied, tiny, tmp_path, monkeypatch, architecture):
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    (model / "evil.py").write_text(EVIL)
    code = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": ["evil.T", "evil.T"]}
    rewrite(model / "config.json", auto_map=code)
    rewrite(model / "tokenizer_config.json", auto_map=code)
    if architecture == "unknown":
        rewrite(model / "config.json", model_type="evil", architectures=["EvilModel"])
    rewrite(copied / "writer.json", model=str(model))
    asked = []
    monkeypatch.setattr("builtins.input", lambda *said: asked.append(said) or "y")
    if architecture == "unknown":
        with pytest.raises(ConfigError, match="the local model .* cannot be loaded"):
            load_writer(copied)
    else:  # transformers has this architecture itself
        load_writer(copied)
    assert not asked
    assert not (model / "ran").exists()


def test_weights_as_a_pickle_are_not_read(copied, tiny, tmp_path):
    import torch

    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    (model / "model.safetensors").unlink()
    torch.save({}, model / "pytorch_model.bin")
    rewrite(copied / "writer.json", model=str(model))
    with pytest.raises(ConfigError, match="the local model .* cannot be loaded"):
        load_writer(copied)
    (copied / "adapter_model.safetensors").rename(copied / "adapter_model.bin")
    with pytest.raises(ConfigError, match="as safetensors"):
        load_writer(copied)


@pytest.mark.parametrize("kind", ["XLORA", "PREFIX_TUNING", "ADAPTION_PROMPT", "evil", None, ["LORA"]])
def test_only_lora_is_read(copied, kind):
    rewrite(copied / "adapter_config.json", peft_type=kind, adapters={"x": "someone/adapter"})
    with pytest.raises(ConfigError, match="cannot be read as an adapter"):
        load_writer(copied)


def test_a_rank_that_the_weights_do_not_have_takes_no_memory(copied):
    rewrite(copied / "adapter_config.json", r=10**11)
    with pytest.raises(ConfigError, match="does not fit"):
        load_writer(copied)


def test_an_adapter_of_a_model_with_fewer_layers_is_refused(copied):
    """Else the layers without weights would stay as they are, and nobody would know."""
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "adapter_model.safetensors")
    save_file({n: w for n, w in weights.items() if ".layers.1." not in n}, copied / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="does not fit .* no weights for 4 of 8 matrices"):
        load_writer(copied)


def test_weights_that_are_no_numbers_are_refused(copied):
    from safetensors.torch import load_file, save_file

    weights = load_file(copied / "adapter_model.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, copied / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="NaN or infinity"):
        load_writer(copied)


@pytest.mark.parametrize("name", ["writer.json", "adapter_config.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff", b'{"format": 1, "model": 7}'])
def test_a_broken_description_is_one_line(copied, name, content):
    (copied / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_writer(copied)
    assert "\n" not in str(caught.value)


def test_any_value_in_any_place_loads_or_is_a_mistake_that_is_named(copied):
    original = {name: (copied / name).read_text(encoding="utf-8") for name in ("writer.json", "adapter_config.json")}
    places = [(name, key) for name, text in original.items() for key in (*json.loads(text), "rank_pattern")]
    values = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)

    @given(place=st.sampled_from(places), value=values | st.dictionaries(st.text(max_size=4), values, max_size=2))
    @settings(max_examples=60, deadline=None)
    def attempt(place, value):
        for name, text in original.items():
            changed = {place[1]: value} if place[0] == name else {}
            (copied / name).write_text(json.dumps(json.loads(text) | changed), encoding="utf-8")
        said = ""
        try:
            load_writer(copied, device="cpu")
        except ConfigError as error:
            said = str(error)
        assert "\n" not in said

    attempt()
