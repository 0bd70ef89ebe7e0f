"""`duologue plan`: how many requests a run makes at most, and what they cost, before anything is spent.

duologue plan inference.assistant.price.per_request_usd=0.002 env.limit=200
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from ..core.console import Console, say
from ..evaluation.plan import Plan, make_plan
from ..evaluation.planner import Need
from ..inference.cassette.cassette import Mode
from ..inference.client import InferenceClient

_BILLED = ("$/request", "$/token")

_TITLES: Mapping[Mode, str] = {
    "record": "Requests at most; the same request is paid once (cassette.mode=record)",
    "replay": "Nothing is paid: the cassette answers everything (cassette.mode=replay)",
    "off": "Requests at most; every repetition is paid again (cassette.mode=off)",
}


def plan(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Prints the plan of ``duologue run`` with this configuration; makes no request and writes nothing.

    Args:
        config: The resolved configuration.
        folder: Not used.

    Returns:
        The plan's sums.
    """
    from ..agents.agent import build_task
    from ..evaluation.validation import make_validator
    from .evaluate import checked_evaluation
    from .train import refuse_writer

    refuse_writer(config, "plan")
    client = InferenceClient.from_settings(config["inference"])
    try:
        task = build_task(config, client)
        made = make_plan(config, task, client, checked_evaluation(config, client), make_validator(config, folder, task))
    finally:
        client.close()
    show_plan(made, Console())
    return made.summary()


def show_plan(made: Plan, console: Console) -> None:
    """Prints the needs, and their growth with the dialogue's length."""
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
        say(
            f"Failed calls, and parameters that an endpoint refuses, can add {made.repeated:,} requests at most.",
            console,
        )
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
