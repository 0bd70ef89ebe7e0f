"""Any agent of Stable-Baselines3 trains on dialogues; here A2C learns `forms`, a game that needs no model.

python examples/plain_sb3.py
"""

from __future__ import annotations

import torch
from stable_baselines3 import A2C
from stable_baselines3.common.evaluation import evaluate_policy

from duologue.agents import DialogueVecEnv
from duologue.inference import Endpoint


def main() -> None:
    """Trains for some seconds, and prints the mean reward of 200 dialogues before and after."""
    torch.set_num_threads(1)  # the network is small
    env = DialogueVecEnv(
        32,
        scenarios="forms",  # each request's wording says which form of answer is wished
        user={"name": "rule", "game": "forms"},
        endpoints={"assistant": Endpoint("embedded://forms", "rules", max_concurrency=64)},
        interface="strategy",
        encoder="hashing",
        judges={"form": "form"},
        max_turns=1,
    )
    agent = A2C("MultiInputPolicy", env, n_steps=8, learning_rate=0.003, seed=0, device="cpu")
    before, _ = evaluate_policy(agent, env, n_eval_episodes=200, warn=False)
    agent.learn(8192)
    after, _ = evaluate_policy(agent, env, n_eval_episodes=200, warn=False)
    print(f"mean reward: {before:.2f} before, {after:.2f} after {agent.num_timesteps} turns")


if __name__ == "__main__":
    main()
