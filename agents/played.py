"""One episode as it was played, and how old the policies were that played it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ..envs.episodes import Episode
from ..envs.observation import Observation
from ..envs.transition import Transition


@dataclass
class Played:
    """One episode as it was played.

    Attributes:
        episode: Number, scenario and draw.
        observations: What the policy saw, one per step.
        actions: What it did.
        log_probs: The log-probability that the acting policy gave each action.
        rollouts: The rollout, counted from 1, in which each action was chosen: between two of them lies an update.
        transitions: What that led to.
    """

    episode: Episode
    observations: list[Observation] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    rollouts: list[int] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    def end_before_last_action(self) -> bool:
        """Truncates the episode in the state in which its last action was chosen, whose outcome never came.

        Returns:
            Whether anything is left of it.
        """
        for entries in (self.actions, self.log_probs, self.rollouts):
            del entries[len(self.transitions) :]
        if self.transitions:
            seen = self.observations[len(self.transitions)]
            self.transitions[-1] = replace(self.transitions[-1], observation=seen, truncated=True)
        del self.observations[len(self.transitions) :]
        return bool(self.transitions)

    @property
    def episode_return(self) -> float:
        """The undiscounted sum of rewards."""
        return sum(transition.reward for transition in self.transitions)
