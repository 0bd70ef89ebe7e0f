"""PPO in one file, in the manner of CleanRL: plain torch on the vector environment, no agent of ours and no library of agents.

A game without a model (`forms`): each request's wording says which form of answer is wished, and the policy picks the
directive that the answering side then follows.

python examples/cleanrl_ppo.py
"""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

import duologue.envs  # registers duologue/Dialogue-v0
from duologue.inference import Endpoint

NUM_ENVS, NUM_STEPS, UPDATES, EPOCHS, MINIBATCHES = 32, 8, 10, 6, 4
LEARNING_RATE, GAMMA, GAE_LAMBDA, CLIP, ENTROPY, VALUE = 3e-3, 0.99, 0.95, 0.2, 0.01, 0.5
DIRECTIVES = [
    "",
    "Answer in one short, plain sentence.",
    "Answer fully, with the reason in a second sentence.",
    "Give one concrete example.",
    "Ask one short question that would help you to answer.",
    "Be warm and encouraging.",
]


class Agent(nn.Module):
    """Actor and critic on the flattened observation."""

    def __init__(self, size: int, actions: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.actor, self.critic = nn.Linear(64, actions), nn.Linear(64, 1)

    def forward(self, observation: Tensor) -> tuple[Categorical, Tensor]:
        """The distribution of actions, and the state's value (B,)."""
        hidden = self.trunk(observation)
        return Categorical(logits=self.actor(hidden)), self.critic(hidden).squeeze(-1)


def flat(observation: dict[str, np.ndarray]) -> Tensor:
    """All boxes side by side, (B, size)."""
    return torch.as_tensor(np.concatenate([observation[name] for name in sorted(observation)], axis=1))


def main() -> None:
    """Trains, and prints the mean reward of every rollout."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the network is small
    env = gymnasium.make_vec(
        "duologue/Dialogue-v0",
        num_envs=NUM_ENVS,
        vectorization_mode="vector_entry_point",
        scenarios="forms",
        limit=512,
        user={"name": "rule", "game": "forms"},
        endpoints={"assistant": Endpoint("embedded://forms", "rules", max_concurrency=64)},
        interface={"name": "strategy", "directives": DIRECTIVES},
        encoder="hashing",
        judges={"form": "form"},
        max_turns=1,
        autoreset_mode="SameStep",  # an ended dialogue is followed by the next one's beginning
    )
    observation, _ = env.reset(seed=0)
    seen = flat(observation)
    agent = Agent(seen.shape[1], len(DIRECTIVES))
    optimizer = torch.optim.Adam(agent.parameters(), lr=LEARNING_RATE, eps=1e-5)
    for update in range(UPDATES):
        rows = []
        for _ in range(NUM_STEPS):
            with torch.no_grad():
                distribution, value = agent(seen)
                action = distribution.sample()
            observation, reward, terminated, truncated, _ = env.step(action.numpy())
            failed = torch.as_tensor(np.isnan(reward))  # a judge or a call failed: there is no reward to learn from
            rewards = torch.as_tensor(np.nan_to_num(reward), dtype=torch.float32)
            done = torch.as_tensor(terminated | truncated)
            rows.append((seen, action, distribution.log_prob(action), value, rewards, done, ~failed))
            seen = flat(observation)
        with torch.no_grad():
            _, following = agent(seen)
        seen_, action_, log_prob_, value_, reward_, done_, valid = (
            torch.stack(part) for part in zip(*rows, strict=True)
        )
        advantage = torch.zeros_like(value_)
        last = torch.zeros(NUM_ENVS)
        for step in reversed(range(NUM_STEPS)):  # generalised advantage estimation (Schulman et al. 2016)
            ongoing = (~done_[step]).float()
            delta = reward_[step] + GAMMA * following * ongoing - value_[step]
            last = delta + GAMMA * GAE_LAMBDA * ongoing * last
            advantage[step], following = last, value_[step]
        returns = advantage + value_
        kept = valid.flatten()
        batch = [part.flatten(0, 1)[kept] for part in (seen_, action_, log_prob_, advantage, returns)]
        learn(agent, optimizer, *batch)
        print(f"update {update + 1}: mean reward {reward_[valid].mean():.3f}")
    env.close()


def learn(
    agent: Agent,
    optimizer: torch.optim.Optimizer,
    observations: Tensor,
    actions: Tensor,
    log_probs: Tensor,
    advantages: Tensor,
    returns: Tensor,
) -> None:
    """Several epochs of PPO's clipped objective (Schulman et al. 2017, equation 7)."""
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(actions)).chunk(MINIBATCHES):
            distribution, values = agent(observations[chosen])
            ratio = (distribution.log_prob(actions[chosen]) - log_probs[chosen]).exp()
            weight = advantages[chosen]
            weight = (weight - weight.mean()) / (weight.std() + 1e-8)
            policy_loss = -torch.min(ratio * weight, ratio.clamp(1 - CLIP, 1 + CLIP) * weight).mean()
            value_loss = (values - returns[chosen]).pow(2).mean()
            loss = policy_loss + VALUE * value_loss - ENTROPY * distribution.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


if __name__ == "__main__":
    assert duologue.envs
    main()
