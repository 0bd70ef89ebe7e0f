"""`duologue compare` with local models: an adapter against the model beneath."""

import json
from importlib.util import find_spec

import pytest

from duologue.commands.compare import compare
from duologue.core.errors import ConfigError
from duologue.evaluation.entrants import make_entrant
from duologue.tests.agents.lora.conftest import configured_for, tiny  # noqa: F401

NEEDS_PEFT = pytest.mark.skipif(find_spec("peft") is None, reason="needs the `lora` extra")


@pytest.fixture
def adapter(configured_for, tmp_path):  # noqa: F811
    """Of a model that was trained to say "red"."""
    from duologue.agents.lora import train

    train(configured_for("grpo", "agent.max_steps=10"), tmp_path / "trained")
    return tmp_path / "trained"


def test_an_adapter_meets_the_model_beneath(configured, server, adapter, tiny, tmp_path):  # noqa: F811
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": word, "reference": "red red red red red red"} for word in ("old", "new", "flat", "round")]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = configured_compare(prompts, server, tmp_path) | {
        "contestants": {
            "base": {"local": tiny, "decoding": {"max_completion_length": 6}},
            "tuned": {"adapter": str(adapter)},
        }
    }
    summary = compare(config, tmp_path / "compared")
    (row,) = summary["results"]
    assert (row["contestant"], row["baseline"], row["n"], row["failures"]) == ("tuned", "base", 8, 0)
    assert row["win_rate"] > 0.8
    assert server.requests == []
    matches = [json.loads(line) for line in (tmp_path / "compared" / "matches.jsonl").read_text().splitlines()]
    assert all(match["actions"] == ["written"] for match in matches)
    compare(config, tmp_path / "again")
    again = (tmp_path / "again" / "matches.jsonl").read_text().splitlines()
    assert sorted(again) == sorted(json.dumps(match, ensure_ascii=False) for match in matches)


def configured_compare(prompts, server, folder):
    return {
        "seed": 0,
        "prompts": str(prompts),
        "split": "test",
        "limit": None,
        "system": None,
        "max_turns": 8,
        "against": None,
        "repeats": 2,
        "judged": "last",
        "judge_check": None,
        "judge": {"name": "chrf"},
        "inference": {
            "assistant": {"base_url": server.url, "model": "fake"},
            "judge": None,
            "cassette": {"path": str(folder / "cassette.sqlite"), "mode": "record"},
        },
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"adapter": "nowhere"}, "nowhere is no adapter in PEFT's format", marks=NEEDS_PEFT),
        ({"adapter": "nowhere", "bundle": "there"}, "has `bundle` and `adapter`: leave one of them out"),
        ({"local": "tiny", "temperature": 0}, "`contestants.x.temperature` is not a setting of a local model"),
        ({"policy": "random", "interface": "text"}, "give an `adapter` or a `local` model"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said(make_task, settings, said):
    with pytest.raises(ConfigError, match=said):
        make_entrant("x", settings, make_task().without_reward(), "contestants.x")
