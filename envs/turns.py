"""The assistant's turns as judges see them."""

from __future__ import annotations

from ..inference.completion import Message
from ..plugins.verdict import Turn
from .scenarios import Scenario


def as_turn(
    scenario: Scenario, messages: tuple[Message, ...], index: int, reply: str, finish_reason: str, last: bool = True
) -> Turn:
    """One turn of a scenario as judges see it.

    Args:
        scenario: What is played.
        messages: The dialogue before the reply.
        index: The turn's number, from 0; the reference is that of the last scripted turn.
        reply: What the assistant said.
        finish_reason: ``stop``, or ``length`` if it was cut.
        last: Whether the dialogue ends with it.
    """
    return Turn(
        messages=messages,
        reply=reply,
        reference=scenario.reference if index == len(scenario.user) - 1 else None,
        scenario_id=scenario.id,
        tags=scenario.tags,
        hidden=scenario.hidden,
        finish_reason=finish_reason,
        index=index,
        last=last,
    )
