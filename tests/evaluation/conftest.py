"""Fixtures of this room: answers without a dialogue, and the shipped configuration, shrunk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.envs import Scenario
from duologue.evaluation.contestants import Answer
from duologue.plugins import Turn, plugins
from duologue.plugins.publish import publish

SHRUNK = [
    "inference.assistant.model=fake",
    "inference.assistant.max_retries=0",
    "env.limit=4",
    "evaluation.limit=3",
    "evaluation.repeats=2",
    "evaluation.baseline_repeats=1",
    "interface.n=3",
    "encoder=hashing",
    "encoder.dim=16",
    "~judges.reference",
    "judge@evaluation.judge=length",
    "agent.total_timesteps=16",
    "agent.n_envs=4",
    "agent.n_steps=2",
    "agent.batch_size=4",
    "agent.n_epochs=1",
]


@pytest.fixture
def played():
    """Makes the answer to one single-turn scenario: `played("some reply")`."""

    def make(reply: str, scenario: str = "one") -> Answer:
        turn = Turn(({"role": "user", "content": "Question?"},), reply, scenario_id=scenario)
        return Answer(Scenario(scenario, "test", ("Question?",)), 0, (turn,), ("plain",))

    return make


def shipped(command: str, url: str, folder: Path, *overrides: str) -> dict[str, Any]:
    publish(plugins())
    where = [f"inference.assistant.base_url={url}", f"inference.cassette.path={folder / 'cassette.sqlite'}"]
    with initialize_config_module("duologue.conf", version_base="1.3"):
        config = compose(command, [*SHRUNK, *where, *overrides])
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@pytest.fixture
def configured(server, tmp_path) -> Callable[..., dict[str, Any]]:
    """The shipped configuration of a command, shrunk, for this test's server: `configured("run", "seed=1")`."""
    return lambda command, *overrides: shipped(command, server.url, tmp_path, *overrides)
