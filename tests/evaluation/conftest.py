"""Fixtures of this room: answers without a dialogue."""

import pytest

from duologue.envs import Scenario
from duologue.evaluation.contestants import Answer
from duologue.plugins import Turn


@pytest.fixture
def played():
    """Makes the answer to one single-turn scenario: `played("some reply")`."""

    def make(reply: str, scenario: str = "one") -> Answer:
        turn = Turn(({"role": "user", "content": "Question?"},), reply, scenario_id=scenario)
        return Answer(Scenario(scenario, "test", ("Question?",)), 0, (turn,), ("plain",))

    return make
