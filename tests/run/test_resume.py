"""Which configuration a resumed run has, and what about it may change."""

import json
from pathlib import Path

import pytest

from duologue.inference import ConfigError
from duologue.run.resume import resumed

CONFIG = {"seed": 3, "agent": {"max_failure_fraction": 0.2}, "inference": {"assistant": {"price": None}, "judge": None}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "summary.json").write_text(json.dumps({"command": "train", "status": "stopped"}))
    return tmp_path


def test_it_is_the_one_that_the_run_began_with(folder):
    config, summary = resumed("train", folder, [])
    assert config.pop("inference").pop("cassette") == {"path": str(Path(".cache/cassette.sqlite").absolute())}
    assert config == {name: value for name, value in CONFIG.items() if name != "inference"}
    assert summary["status"] == "stopped"


def test_limits_retries_prices_and_the_cassette_may_change(folder):
    changes = [
        "inference.budget.requests=2000",
        "+inference.budget.roles.judge.usd=1.5",
        "inference.assistant.price.per_request_usd=0.1",
        "inference.assistant.timeout_s=5",
        "inference.cassette.path=/tmp/other one.sqlite",
        "inference.retries.share=null",
        "agent.max_failure_fraction=0.5",
    ]
    config, _ = resumed("train", folder, changes)
    assert config["inference"]["budget"] == {"requests": 2000, "roles": {"judge": {"usd": 1.5}}}
    assert config["inference"]["assistant"] == {"price": {"per_request_usd": 0.1}, "timeout_s": 5}
    assert config["inference"]["cassette"]["path"] == "/tmp/other one.sqlite"
    assert config["inference"]["retries"]["share"] is None
    assert config["agent"] == {"max_failure_fraction": 0.5}
    assert config["seed"] == 3


@pytest.mark.parametrize(
    "change", ["seed=4", "inference.assistant.model=other", "agent.learning_rate=1", "-m", "env.limit=2", "inference"]
)
def test_what_would_change_the_results_may_not(folder, change):
    with pytest.raises(ConfigError, match=rf"`{change}` cannot be changed in a run that goes on"):
        resumed("train", folder, [change])


def test_another_command_and_another_folder_are_named(folder, tmp_path):
    with pytest.raises(ConfigError, match="was made by `duologue train`: resume it with that command"):
        resumed("run", folder, [])
    with pytest.raises(ConfigError, match=r"nowhere is no run folder .*: give one that `duologue train` made"):
        resumed("train", tmp_path / "nowhere", [])
    (folder / "summary.json").write_text("{")
    with pytest.raises(ConfigError, match="is no run folder"):
        resumed("train", folder, [])


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
@pytest.mark.parametrize("content", [b"[]", b"null", b"[" * 100_000, b"\xff\xfe", b"{"])
def test_a_folder_that_was_damaged_is_one_line(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match="is no run folder"):
        resumed("train", folder, [])


def test_a_setting_below_what_is_no_part_is_refused(folder):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"inference": 7}))
    with pytest.raises(ConfigError, match="`inference` is 7"):
        resumed("train", folder, ["inference.budget.usd=1"])
