"""`duologue plan`: how many requests a run makes at most, and what they cost, before anything is spent.

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
from ..inference.cassette import Mode
from ..inference.client import InferenceClient
from ..inference.endpoint import endpoints_from_settings
from ..inference.lengths import Lengths, lengths
from ..inference.saying import Console, say
from .planner import Need, Planner, repeated, training_turns

if TYPE_CHECKING:
    from .evaluate import Checked
    from .validation import WinRateValidator

_BILLED = ("$/request", "$/token")

_TITLES: Mapping[Mode, str] = {
    "record": "Requests at most; the same request is paid once (cassette.mode=record)",
    "replay": "Nothing is paid: the cassette answers everything (cassette.mode=replay)",
    "off": "Requests at most; every repetition is paid again (cassette.mode=off)",
}


@dataclass(frozen=True)
class Plan:
    """What a run needs at most.

    Attributes:
        needs: By phase and role, if no call fails. Requests are upper bounds; tokens and dollars follow from ``lengths``.
        repeated: Requests that failures can add at most.
        mode: The cassette's.
        growth: Per dialogue of so many turns: turns, requests, tokens, and US dollars by request and by token.
        lengths: What the tokens were computed from.
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
    table = _table(_TITLES[made.mode], 1, "who is asked", "requests", "tokens in", "tokens out", *_BILLED)
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
    if made.repeated:
        say(f"Where calls fail, retries can add {made.repeated:,} requests at most.", console)
    text = f"Tokens and dollars are estimates. Lengths are {origin}: {known.tokens_per_byte:.3f} tokens a byte, {known.completion_tokens:.0f} an answer."
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
