"""The plan of a run: requests, tokens and money, before anything is spent.

duologue plan inference.assistant.price.per_request_usd=0.002 env.limit=200
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..envs.task import Task
from ..inference.cassette.archive import Lengths, lengths
from ..inference.cassette.cassette import Mode
from ..inference.client import InferenceClient
from ..inference.endpoint import endpoints_from_settings
from .planner import Need, Planner, repeated, training_turns

if TYPE_CHECKING:
    from .evaluation import Checked
    from .validation import WinRateValidator


@dataclass(frozen=True)
class Plan:
    """Upper bounds of a run's requests, tokens and money.

    Attributes:
        needs: By phase and role, if no call fails. Requests are upper bounds; tokens and dollars follow from ``lengths``.
        repeated: Requests that failures can add at most.
        mode: The cassette's.
        growth: Per dialogue of so many turns: turns, requests, tokens, and US dollars by request and by token.
        lengths: Lengths from which tokens were computed.
    """

    needs: Sequence[Need]
    repeated: int
    mode: Mode
    growth: Sequence[tuple[int, int, float, float, float]]
    lengths: Lengths

    def summary(self) -> dict[str, Any]:
        """The sums as ``summary.json`` holds them, to compare with ``spent``."""
        return {
            "requests": sum(need.requests for need in self.needs),
            "repeated": self.repeated,
            "tokens": round(sum(need.prompt_tokens + need.completion_tokens for need in self.needs)),
            "usd": round(sum(need.flat_usd + need.tokens_usd for need in self.needs), 6),
        }


def make_plan(
    config: Mapping[str, Any],
    task: Task,
    client: InferenceClient,
    checked: Checked | None,
    validator: WinRateValidator | None = None,
) -> Plan:
    """Plans the run of a configuration.

    Args:
        config: The resolved configuration.
        task: The training task that it describes.
        client: With the cassette whose answers tell how long answers are.
        checked: The evaluation's settings, scenarios and referee, if the run ends with one.
        validator: Validates the policy during the training; None for no validation.

    Returns:
        The plan.

    Raises:
        ConfigError: If a value is refused.
    """
    endpoints = endpoints_from_settings(config["inference"])
    mode, rollouts = client.cassette.mode, config.get("rollouts") or {}
    workers = int(rollouts.get("workers", 1)) if rollouts.get("name") == "ray" else 1
    known = lengths(client.cassette.path, endpoints["assistant"].identity)
    planner = Planner(task, endpoints, known, mode, workers)
    turns, unfinished = training_turns(config["agent"] or {}, task)
    reward = task.reward
    each, end = (0, 0) if reward is None else (reward.requests_per_turn, reward.requests_per_end)
    needs = list(planner.training(turns, each, end, unfinished))
    if validator is not None:
        needs += planner.validation(turns // validator.every + 1, validator)
    if checked is not None:
        settings, scenarios, referee, _ = checked
        options = settings.contestants, settings.repeats, settings.baseline_repeats, referee
        needs += planner.evaluation(scenarios, *options)
    needs = [need for need in needs if need.requests and mode != "replay"]
    retries = int((config.get("reward") or {}).get("retries", 1))
    again = repeated(needs, endpoints, client.bounds.retries, retries)
    return Plan(needs, again, mode, planner.growth(planner.longest), planner.lengths)
