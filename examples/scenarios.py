"""One's own scenarios and a user of one's own: somebody who asks again until the answer names what they wait for.

Scenarios are lines of a JSONL file. `reference` is what judges compare with, `hidden` is for judges and users only: neither
the model nor a policy sees either. The file works with every command, and so does the user, by its dotted path:

duologue run env.scenarios=mine.jsonl env.max_turns=3 'env.user={name: scenarios:Insists}'    (in the folder of this file)

python examples/scenarios.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.envs import DialogueEnv, Scenario, Task
from duologue.envs.episode import DialogueState
from duologue.envs.scenarios.scenario import write_scenarios
from duologue.plugins import Reward, Score, Turn, TurnJudge

MINE = [
    Scenario(
        "france",
        "train",
        ("What is the capital of France?",),
        reference="It is Paris.",
        hidden={"word": "Paris", "hint": "Which city do you mean?"},
    ),
    Scenario(
        "spider",
        "train",
        ("How many legs does a spider have?",),
        reference="It has eight.",
        hidden={"word": "eight", "hint": "Does a spider have six legs or eight legs?"},
    ),
    Scenario(
        "ice",
        "test",
        ("At how many degrees Celsius does water freeze?",),
        reference="At zero.",
        hidden={"word": "zero", "hint": "Is that zero or a hundred degrees?"},
    ),
]


class Insists:
    """A user by a rule. One object serves all dialogues: what it needs is in the scenario and the state."""

    immediate = True  # asks nobody itself

    async def reply(self, scenario: Scenario, state: DialogueState) -> str | None:
        """The next turn of the user; None ends the dialogue."""
        if names(state.last_reply, scenario.hidden):
            return None
        return str(scenario.hidden["hint"])


class Names(TurnJudge):
    """A judge: 1 for a first reply that names it, less for every further turn that it takes."""

    def judge(self, turn: Turn) -> Score:
        """Scores one turn."""
        return Score(names(turn.reply, turn.hidden) / (1 + turn.index))


def names(reply: str, hidden: Mapping[str, Any]) -> bool:
    """Whether a reply holds the word that the user waits for."""
    return str(hidden["word"]).lower() in reply.lower()


def main() -> None:
    """Plays the training scenarios on the embedded model, without a directive first and briefly afterwards."""
    write_scenarios(MINE, Path("mine.jsonl"))
    task = Task.build(
        scenarios="mine.jsonl",
        split="train",
        user=Insists(),
        reward=Reward({"names": Names()}),
        interface="strategy",
        max_turns=3,
    )
    env = DialogueEnv(task, render_mode="ansi")
    for scenario in task.scenarios:
        env.reset(options={"scenario": scenario.id})
        over, total, turn = False, 0.0, 0
        while not over:
            _, reward, terminated, truncated, _ = env.step(min(turn, 1))  # 1: "Answer in one short, plain sentence."
            over, total, turn = terminated or truncated, total + reward, turn + 1
        print(f"{scenario.id}: {total:.2f} in {turn} turns\n{env.render()}\n")


if __name__ == "__main__":
    main()
