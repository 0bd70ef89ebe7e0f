"""A judge of one's own as the reward: no registration needed inside a script.

python examples/judge.py
"""

from __future__ import annotations

import gymnasium

import duologue.envs  # registers duologue/Dialogue-v0
from duologue.plugins import Reward, Score, Turn, TurnJudge


class Polite(TurnJudge):
    """1 for a reply that thanks or asks kindly, else 0."""

    def judge(self, turn: Turn) -> Score:
        """Scores one turn."""
        return Score(float(any(word in turn.reply.lower() for word in ("please", "thank"))))


def main() -> None:
    """Plays three dialogues, each with the first candidate, and prints what the judge says."""
    env = gymnasium.make("duologue/Dialogue-v0", reward=Reward({"polite": Polite()}), limit=3, interface="select")
    for _ in range(3):
        env.reset()
        _, reward, _, _, info = env.step(0)
        print(f"{info['scenario']}: {reward:.0f}  {info['reply']!r}")
    env.close()


if __name__ == "__main__":
    assert duologue.envs
    main()
