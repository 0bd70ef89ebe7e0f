"""SBX, Stable-Baselines3's agents in JAX (`pip install sbx-rl`), on the Gymnasium environment: PPO learns `forms`, a game without a model.

python examples/sbx_ppo.py
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import gymnasium

import duologue.envs  # registers duologue/Dialogue-v0
from duologue.envs import Task
from duologue.inference import Endpoint


def main() -> None:
    """Trains for some seconds, and prints the mean reward of 200 dialogues before and after."""
    if find_spec("sbx") is None:
        print("SBX is not installed: pip install sbx-rl")
        return
    from sbx import PPO
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import DummyVecEnv

    task = Task.build(
        scenarios="forms",
        user={"name": "rule", "game": "forms"},
        endpoints={"assistant": Endpoint("embedded://forms", "rules")},
        interface="strategy",
        encoder={"name": "hashing", "dim": 64},
        judges={"form": "form"},
        max_turns=1,
    )

    def one() -> gymnasium.Env[Any, Any]:
        return gymnasium.wrappers.FlattenObservation(gymnasium.make("duologue/Dialogue-v0", task=task))

    env = DummyVecEnv([one] * 8)
    agent = PPO("MlpPolicy", env, n_steps=64, batch_size=128, learning_rate=0.003, seed=0)
    before, _ = evaluate_policy(agent, env, n_eval_episodes=200, warn=False)
    agent.learn(4096)
    after, _ = evaluate_policy(agent, env, n_eval_episodes=200, warn=False)
    print(f"mean reward: {before:.2f} before, {after:.2f} after {agent.num_timesteps} turns")


if __name__ == "__main__":
    assert duologue.envs
    main()
