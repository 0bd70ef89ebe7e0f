"""Any agent of Stable-Baselines3 trains on dialogues; here A2C picks the directive that makes answers long enough.

python examples/plain_sb3.py
"""

from __future__ import annotations

from stable_baselines3 import A2C

from duologue.agents import DialogueVecEnv


def main() -> None:
    """Trains for 64 assistant turns on four prompts and says how often each directive is chosen."""
    env = DialogueVecEnv(8, interface="strategy", judges={"length": "length"}, limit=4)
    agent = A2C("MultiInputPolicy", env, n_steps=2, seed=0, device="cpu").learn(64)
    actions, _ = agent.predict(env.reset(), deterministic=True)  # type: ignore[arg-type]
    print([env.task.interface.describe(action) for action in actions])


if __name__ == "__main__":
    main()
