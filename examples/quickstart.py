"""The whole loop in Python: a task, a policy that learns it, what that is worth on other scenarios, the policy as a folder.

The game `forms` needs no model: each request's wording says which form of answer is wished, and the policy picks the
directive that the answering side then follows. With a model: another address in `Endpoint`, and scenarios of yours.

python examples/quickstart.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from zlib import crc32

from duologue.agents import DialoguePPO, DialogueVecEnv, load_bundle, save_bundle
from duologue.envs import DialogueEnv, Policy, RandomPolicy, Task, load_scenarios
from duologue.envs.policies import constant_policies
from duologue.inference import Endpoint

DIRECTIVES = [
    "",
    "Answer in one short, plain sentence.",
    "Answer fully, with the reason in a second sentence.",
    "Give one concrete example.",
    "Ask one short question that would help you to answer.",
    "Be warm and encouraging.",
]


def main() -> None:
    """Trains for a few seconds, compares, saves, loads and asks the loaded policy once more."""
    task = Task.build(
        endpoints={"assistant": Endpoint("embedded://forms", "rules", max_concurrency=64)},
        scenarios="forms",
        user={"name": "rule", "game": "forms"},
        interface={"name": "strategy", "directives": DIRECTIVES},
        encoder="hashing",
        judges={"form": "form"},
        max_turns=1,
    )
    agent = DialoguePPO(
        "MultiInputPolicy",
        DialogueVecEnv(32, task),
        n_steps=16,
        batch_size=128,
        learning_rate=0.003,
        ent_coef=0.02,
        seed=0,
    )
    agent.learn(6144)

    record = {  # what a server needs to ask the same model in the same way
        "model": task.assistant.model,
        "assistant": task.assistant.to_settings(),
        "task": {"system": task.system, "max_turns": task.max_turns},
        "judges": ["form"],
    }
    save_bundle(Path("my-policy"), agent.policy, "multi_input", {}, task.interface, task.encoder, record)

    held_out = replace(task, scenarios=load_scenarios("forms", "test", 100))
    learnt = load_bundle("my-policy").policy  # acts in evaluation and behind `duologue serve` as it does here
    constant = {name: mean_reward(held_out, policy) for name, policy in constant_policies(task.interface).items()}
    best = max(constant, key=constant.__getitem__)
    print(
        f"trained policy             {mean_reward(held_out, learnt):.2f} on {len(held_out.scenarios)} held-out requests"
    )
    print(f"best constant action       {constant[best]:.2f} (always: {best})")
    print(f"chance                     {mean_reward(held_out, RandomPolicy(task.interface.action_space)):.2f}")
    print("The policy is in my-policy/: duologue serve policy=my-policy alias=my-model")


def mean_reward(task: Task, policy: Policy) -> float:
    """What a policy gets for its answers, on average over all scenarios."""
    env, total = DialogueEnv(task), 0.0
    for scenario in task.scenarios:
        observation, _ = env.reset(options={"scenario": scenario.id})
        _, reward, _, _, _ = env.step(policy.act(observation, (crc32(scenario.id.encode()),)))
        total += reward
    return total / len(task.scenarios)


if __name__ == "__main__":
    main()
