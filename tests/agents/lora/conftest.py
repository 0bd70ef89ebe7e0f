"""A language model of 60,000 weights that writes the words of `duologue.tests.conftest.WORDS`, as a folder in transformers' format."""

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.plugins import plugins
from duologue.plugins.publish import publish
from duologue.tests.conftest import WORDS

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the libraries are imported
if find_spec("trl") is None or find_spec("peft") is None:
    collect_ignore_glob = ["test_*.py"]

SMALL = {
    "grpo": [
        "agent.num_generations=8",
        "agent.per_device_train_batch_size=16",
        "agent.max_completion_length=6",
        "agent.learning_rate=0.05",
        "agent.beta=0.0",
    ],
    "dpo": ["agent.per_device_train_batch_size=4", "agent.learning_rate=0.01"],
}

TEMPLATE = (
    "{% for message in messages %}{{ '<|begin|> ' + message['role'] + ' ' + message['content'] + ' <|end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|begin|> assistant ' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> str:
    """The folder."""
    pytest.importorskip("trl")
    pytest.importorskip("peft")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<|unknown|>", "<|begin|>", "<|end|>", "system", "user", "assistant", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<|unknown|>", eos_token="<|end|>", pad_token="<|end|>"
    )
    fast.chat_template = TEMPLATE
    torch.set_num_threads(1)  # a model this small gains nothing from more, and loses where others compute, too
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=2,
        bos_token_id=1,
        pad_token_id=2,
    )
    folder = tmp_path_factory.mktemp("tiny")
    model = LlamaForCausalLM(config)
    model.lm_head.weight.data.normal_(0, 0.3)  # so that what an adapter changes is heard
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def models() -> Path:
    """Where SmolLM2 is kept in transformers' format, from one run of the tests to the next."""
    folder = Path(__file__).parents[3] / ".cache" / "models"
    os.environ["DUOLOGUE_MODELS"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def configured_for(tiny, tmp_path_factory) -> Callable[..., dict[str, Any]]:
    """The shipped configuration of a training by `grpo` or `dpo` on the tiny model, with one judge: `judges_of_words.red`."""
    folder = tmp_path_factory.mktemp("scenarios")
    publish(plugins())

    def make(agent: str, *overrides: str, turns: int = 1, judge: str = "red", weight: float = 1.0) -> dict[str, Any]:
        scenarios = folder / f"{turns}.jsonl"
        said = ["small quick", "dark", "old"][:turns]
        rows = [{"id": f"s{i}", "split": "train", "user": [f"{WORDS[i]}", *said[1:]]} for i in range(4)]
        scenarios.write_text("".join(json.dumps(row) + "\n" for row in rows))
        own = [
            f"agent={agent}",
            f"agent.model={tiny}",
            "agent.use_cpu=true",
            "agent.max_steps=2",
            "agent.save_steps=2",
            f"env.scenarios={scenarios}",
            "inference.assistant.base_url=http://127.0.0.1:9/v1",
            "inference.cassette.mode=off",
            *SMALL[agent],
        ]
        with initialize_config_module("duologue.conf", version_base="1.3"):
            config: Any = compose("train", [*own, *overrides])
        function = f"duologue.tests.agents.lora.judges_of_words:{judge}"
        resolved: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        return resolved | {"judges": {judge: {"name": "python", "function": function, "weight": weight}}}

    return make
