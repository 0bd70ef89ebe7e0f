"""Observations: dictionaries of float32 arrays of fixed shape, computed on this machine."""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from ..inference.encoders import Encoder
from .episode import DialogueState, Observation
from .interfaces.base import ActionInterface, Features

SCALARS = (
    "turn",  # assistant turns so far / 10
    "user_words",  # log(1 + words of the user's message) / 6
    "question",  # 1 if it holds a question mark
    "digits",  # 1 if it holds a digit
    "reply_words",  # log(1 + words of the assistant's last turn) / 6
    "history",  # log(1 + words of the whole dialogue) / 10
)
"""What each entry of the observation's ``scalars`` holds, in order; all lie in [0, 1]."""


class Observer:
    """Builds observations from the messages and the interface's candidates, which a deployed policy knows, too.

    Args:
        encoder: Turns texts into vectors.
        interface: Adds its own boxes.
    """

    def __init__(self, encoder: Encoder, interface: ActionInterface) -> None:
        self.encoder = encoder
        self.interface = interface

    @property
    def space(self) -> spaces.Dict:
        """``message`` (dim,), ``history`` (dim,), ``scalars`` (6,) and the interface's boxes."""
        vector = spaces.Box(-1.0, 1.0, (self.encoder.dim,), np.float32)
        own = {"message": vector, "history": vector, "scalars": spaces.Box(0.0, 1.0, (len(SCALARS),), np.float32)}
        return spaces.Dict({**own, **self.interface.observation_space(self.encoder)})

    async def observe(self, state: DialogueState) -> Observation:
        """Observes a state; the arrays are new at every call.

        Where a two-phase interface has proposed nothing, as after a termination, its boxes are zero.

        Args:
            state: The dialogue so far.

        Returns:
            Arrays by name, as in the observation space.
        """
        turns = [m["content"] for m in state.messages if m["role"] != "system"]
        vectors = await self.encoder.encode([*turns, state.user_message])
        history = vectors[:-1].mean(axis=0) if turns else np.zeros(self.encoder.dim, np.float32)
        return {
            "message": vectors[-1].clip(-1, 1),
            "history": history.clip(-1, 1),
            "scalars": _scalars(state),
            **await self._features(state),
        }

    async def _features(self, state: DialogueState) -> Features:
        if self.interface.two_phase and not state.proposals:
            boxes = self.interface.observation_space(self.encoder)
            return {name: np.zeros(box.shape, np.float32) for name, box in boxes.items()}
        return await self.interface.features(state, self.encoder)


def _scalars(state: DialogueState) -> npt.NDArray[np.float32]:
    user, reply = state.user_message, state.last_reply
    total = sum(len(message["content"].split()) for message in state.messages)
    values = [
        state.turn / 10,
        math.log1p(len(user.split())) / 6,
        float("?" in user),
        float(bool(re.search(r"\d", user))),
        math.log1p(len(reply.split())) / 6,
        math.log1p(total) / 10,
    ]
    return np.array(values, np.float32).clip(0, 1)
