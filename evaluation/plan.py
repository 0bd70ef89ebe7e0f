"""`duologue plan`: what a run will ask for and cost at most, before anything is spent.

duologue plan inference.assistant.price.per_request_usd=0.002 env.limit=200
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.table import Table

from ..envs.task import Task
from ..inference.client import InferenceClient
from ..inference.endpoint import endpoints_from_settings
from ..inference.lengths import Lengths, lengths
from ..inference.saying import Console, say
from .planner import Need, Planner

if TYPE_CHECKING:
    from .evaluate import Checked
    from .validation import WinRateValidator

_BILLED = ("$/request", "$/token")


@dataclass(frozen=True)
class Plan:
    """What a run needs at most.

    Attributes:
        needs: By phase and role.
        growth: Per dialogue of so many turns: turns, requests, tokens, and US dollars by request and by token.
        lengths: What the tokens were computed from.
    """

    needs: Sequence[Need]
    growth: Sequence[tuple[int, int, float, float, float]]
    lengths: Lengths

    def summary(self) -> dict[str, Any]:
        """The sums as ``summary.json`` holds them, to compare with ``spent``."""
        return {
            "requests": sum(need.requests for need in self.needs),
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
    """The plan of a run's configuration.

    Args:
        config: The resolved configuration.
        task: The training task that it describes.
        client: With the cassette whose answers tell how long answers are.
        checked: The evaluation's settings, scenarios and referee, if the run ends with one.
        validator: Who looks at the policy during the training, if anybody.

    Raises:
        ConfigError: If a value is refused.
    """
    from ..agents.rollouts import most_training_turns

    endpoints = endpoints_from_settings(config["inference"])
    planner = Planner(task, endpoints, lengths(client.cassette.path, endpoints["assistant"].identity))
    agent = config["agent"]
    turns = most_training_turns(task, agent["total_timesteps"], agent["n_envs"] * agent.get("n_steps", 1))
    reward = task.reward
    each, end = (0, 0) if reward is None else (reward.requests_per_turn, reward.requests_per_end)
    needs = list(planner.training(turns, each, end))
    if validator is not None:
        needs += planner.validation(turns // validator.every + 1, validator)
    if checked is not None:
        settings, scenarios, referee, _ = checked
        options = settings.contestants, settings.repeats, settings.baseline_repeats, referee
        needs += planner.evaluation(scenarios, *options)
    longest = max(task.turns(scenario) for scenario in task.scenarios)
    return Plan([need for need in needs if need.requests], planner.growth(longest), planner.lengths)


def plan(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Prints the plan of ``duologue run`` with this configuration; asks nobody and writes nothing.

    Args:
        config: The resolved configuration.
        folder: Not used.

    Returns:
        The plan's sums.
    """
    from ..agents.train import build_task
    from .evaluate import check
    from .validation import make_validator, refuse_writer

    refuse_writer(config, "plan")
    client = InferenceClient.from_settings(config["inference"])
    try:
        task = build_task(config, client)
        made = make_plan(config, task, client, check(config, client), make_validator(config, folder, task))
    finally:
        client.close()
    show_plan(made, Console())
    return made.summary()


def show_plan(made: Plan, console: Console) -> None:
    """Prints what is needed, and how it grows with the dialogue's length."""
    table = _table("At most, with the cassette", 1, "who is asked", "requests", "tokens in", "tokens out", *_BILLED)
    for need in made.needs:
        table.add_row(f"{need.phase}, {need.role}", *_figures(need))
    total = Need(
        "all",
        "",
        *(sum(getattr(need, name) for need in made.needs) for name in list(Need.__dataclass_fields__)[2:]),
    )
    table.add_row(total.phase, *_figures(total), style="bold")
    console.print(table)
    growth = _table("One dialogue, by its turns", 0, "turns", "requests", "tokens", *_BILLED)
    for turns, requests, tokens, flat, by_token in made.growth:
        growth.add_row(f"{turns}", f"{requests:,}", f"{tokens:,.0f}", _money(flat), _money(by_token))
    console.print(growth)
    known = made.lengths
    origin = f"measured on {known.answers:,} answers in the cassette" if known.answers else "assumed"
    text = f"Lengths are {origin}: {known.tokens_per_byte:.3f} tokens a byte, {known.completion_tokens:.0f} an answer."
    if not total.flat_usd and not total.tokens_usd:
        text += " No price is set: inference.assistant.price.per_request_usd, …per_million_prompt_tokens_usd."
    say(text, console)


def _table(title: str, words: int, *names: str) -> Table:
    """A table that fits 80 columns; all but the first columns hold figures."""
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, collapse_padding=True)
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i < words else "right", no_wrap=True)
    return table


def _figures(need: Need) -> list[str]:
    counts = [f"{need.requests:,}", f"{need.prompt_tokens:,.0f}", f"{need.completion_tokens:,.0f}"]
    return [*counts, _money(need.flat_usd), _money(need.tokens_usd)]


def _money(usd: float) -> str:
    return "-" if not usd else f"{usd:,.2f}" if usd >= 1 else f"{usd:.2g}"
