"""Which model to ask: a small one that fails at hard sums, or a large one at ten times the price.

Two scripted models stand for the real ones, behind a real server; the judge is a function. In place of it: endpoints of yours.

python examples/route_by_cost.py
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from duologue.agents import DialoguePPO, DialogueVecEnv
from duologue.envs import DialogueEnv, Scenario, Task
from duologue.inference import Endpoint, InferenceClient, Message, Price
from duologue.inference.scripted import ScriptedServer
from duologue.plugins import Reward, Score, Turn, TurnJudge

PRICES = {"small": 0.0001, "large": 0.001}  # US dollars a request


class Right(TurnJudge):
    """1 for the right sum."""

    def judge(self, turn: Turn) -> Score:
        """Scores one turn."""
        return Score(float(turn.reply == str(turn.hidden["sum"])))


def main() -> None:
    """Trains for a few seconds and prints what each kind of question is sent to, and what that costs."""
    server = ScriptedServer(answer)
    models = {"small": {}, "large": {"model": "large", "price": {"per_request_usd": PRICES["large"]}}}
    small = Endpoint(server.url, "small", api_key_env=None, price=Price(per_request_usd=PRICES["small"]))
    task = Task.build(
        client=InferenceClient(),
        endpoints={"assistant": small},
        interface={"name": "route", "models": models},
        encoder={"name": "hashing", "dim": 64},
        scenarios=questions(),
        reward=Reward(
            {"right": Right()}, cost_weight=300
        ),  # the large model's 0.001 dollars cost 0.3 of a right answer
        system="",
    )
    agent = DialoguePPO(
        "MultiInputPolicy", DialogueVecEnv(16, task), n_steps=16, learning_rate=0.005, ent_coef=0.01, seed=0
    )
    agent.learn(4096)
    env = DialogueEnv(task)
    for kind in ("easy", "hard"):
        rewards, cost, large = 0.0, 0.0, 0
        those = [scenario for scenario in task.scenarios if kind in scenario.tags]
        for scenario in those:
            observation, _ = env.reset(options={"scenario": scenario.id})
            action, _ = agent.predict(observation, deterministic=True)
            _, reward, _, _, info = env.step(action)
            rewards, cost, large = rewards + reward, cost + info["cost_usd"], large + int(action)
        print(f"{kind} sums: {large} of {len(those)} go to the large model, ${cost / len(those):.5f} each, "
              f"mean reward {rewards / len(those):.2f}")  # fmt: skip
    task.client.close()
    server.stop()


def questions() -> list[Scenario]:
    """Sums of two numbers, and of many."""
    made = []
    for i in range(60):
        numbers = [i + 3, 2 * i + 1] if i % 2 else [i + 3, 7 * i + 11, 5 * i + 2, 3 * i + 9]
        words = "Please add " + " and ".join(map(str, numbers)) + (" for me." if i % 2 else ", all of them, carefully.")
        made.append(
            Scenario(f"q{i}", "train", (words,), tags=("easy" if i % 2 else "hard",), hidden={"sum": sum(numbers)})
        )
    return made


def answer(messages: Sequence[Message], seed: int, model: str) -> str:
    """What the two models say: the small one drops numbers where there are more than two."""
    numbers = [int(number) for number in re.findall(r"\d+", messages[-1]["content"])]
    return str(sum(numbers if model == "large" else numbers[:2]))


if __name__ == "__main__":
    main()
