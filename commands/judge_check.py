"""`duologue judge-check`: how far a judge can be trusted, measured on labelled data.

duologue judge-check judge=pairwise data=pairs.jsonl repeats=3
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..core.console import Console, say
from ..core.errors import ConfigError, DuologueError
from ..evaluation.judge_check.judge_runner import JudgedRecord, JudgeRunner
from ..evaluation.judge_check.labelled import LabelledPair, LabelledScore, read_labelled
from ..evaluation.judge_check.reliability import PairVerdicts, ScoreVerdicts, pair_reliability, score_reliability
from ..evaluation.stats.agreement import Figure
from ..inference.client import InferenceClient
from ..inference.endpoint import Endpoint, endpoints_from_settings
from ..inference.progress import ProgressLine
from ..plugins.judge import Judge, JudgeContext, PairwiseJudge
from ..plugins.manager import plugins
from ..run.run_folder import Run
from ..run.session import session


def judge_check(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Measures the judge ``config["judge"]`` on the file ``config["data"]``.

    Args:
        config: The resolved configuration.
        folder: The run folder.

    Returns:
        What ``summary.json`` says of it.

    Raises:
        ConfigError: If a value is refused or a file cannot be used.
        DuologueError: If too much failed for a result.
    """
    config = {**config, "data": str(Path(config["data"]).expanduser().resolve())}
    records = read_labelled(Path(config["data"]), config.get("limit"))
    repeats = config.get("repeats", 1)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ConfigError(f"`repeats` must be a whole number of at least 1, not {repeats!r}")
    client = InferenceClient.from_settings(config["inference"])
    try:
        endpoints = endpoints_from_settings(config["inference"])
        judges = _judges(config, client, endpoints, repeats)
        if isinstance(records[0], LabelledScore) and not isinstance(judges[0], Judge):
            raise ConfigError(
                "`judge` compares pairs, and `data` holds scores: choose one that scores, or a file of pairs"
            )
        with Run("judge-check", folder, config, client.meter) as run, session(run, client):
            run.afterwards = lambda: _show(run, client)
            own = endpoints.get("judge", endpoints["assistant"]).model
            run.summary["judge_check"] = _measure(JudgeRunner(judges, records), records, run, client, own, repeats)
        return run.summary
    finally:
        client.close()


def _judges(
    config: Mapping[str, Any], client: InferenceClient, endpoints: Mapping[str, Endpoint], repeats: int
) -> list[Judge | PairwiseJudge]:
    if not config.get("judge"):
        raise ConfigError("`judge` is empty: choose one, such as `judge=llm`")
    contexts = [JudgeContext(client, endpoints, repeat) for repeat in range(repeats)]
    return [plugins().build(config["judge"], "judge", context) for context in contexts]


def _measure(
    check: JudgeRunner,
    records: Sequence[LabelledPair] | Sequence[LabelledScore],
    run: Run,
    client: InferenceClient,
    own: str,
    repeats: int,
) -> dict[str, Any]:
    total, began = len(records) * repeats, time.monotonic()
    try:
        path = run.folder / "verdicts.jsonl"
        with path.open("w", encoding="utf-8") as file, ProgressLine("judging", total, client.meter) as line:
            done = iter(range(1, total + 1))
            asked = client.run(check.ask(file, lambda: line.update(next(done))))
    finally:
        client.run(check.aclose())
    run.keep()
    if all(entry.failure for entry in asked):
        raise DuologueError(f"the judge gave no verdict at all; the first reason: {asked[0].failure}")
    name = run.info.config["judge"]["name"]
    figures = reliability(records, asked, own, panel=name == "panel")
    found = {"figures": {name: _plain(figure) for name, figure in figures.items()}, **_spent(asked)}
    return {"judge": name, "wall_s": round(time.monotonic() - began, 2), **found}


def _plain(figure: Figure) -> dict[str, float | None]:
    """Converts figures for ``summary.json``; a figure that does not exist is null."""
    values = figure._asdict()
    return {name: None if math.isnan(value) else round(value, 6) for name, value in values.items()}


def reliability(
    records: Sequence[LabelledPair] | Sequence[LabelledScore],
    asked: Sequence[JudgedRecord],
    own: str = "",
    panel: bool = False,
) -> dict[str, Figure]:
    """Computes the figures of a judge.

    Args:
        records: The labelled data.
        asked: Its verdicts on them.
        own: The judge model's name, for its preference for replies of its own.
        panel: Whether the components are the scores of a panel's members.

    Returns:
        Name to figure.
    """
    by_id: dict[str, list[JudgedRecord]] = {}
    for entry in asked:
        by_id.setdefault(entry.id, []).append(entry)
    pairs = [record for record in records if isinstance(record, LabelledPair)]
    if pairs:
        return pair_reliability([_pair_row(record, by_id[record.id], own) for record in pairs])
    scored = [record for record in records if isinstance(record, LabelledScore)]
    return score_reliability([_score_row(record, by_id[record.id]) for record in scored], panel)


def _pair_row(record: LabelledPair, asked: Sequence[JudgedRecord], own: str) -> PairVerdicts:
    longer = len(record.first.reply) - len(record.second.reply)
    mine = [model == own for model in record.models]
    there, back, both = ([_word(e.verdict) for e in asked if e.order == order] for order in ("ab", "ba", "both"))
    return PairVerdicts(
        record.label,
        there,
        back,
        both,
        longer=None if not longer else "first" if longer > 0 else "second",
        own=("first" if mine[0] else "second") if sum(mine) == 1 else None,
    )


def _word(verdict: str | float | None) -> str | None:
    return verdict if isinstance(verdict, str) else None


def _score_row(record: LabelledScore, asked: Sequence[JudgedRecord]) -> ScoreVerdicts:
    return ScoreVerdicts(
        record.score,
        [entry.verdict if isinstance(entry.verdict, float | int) else None for entry in asked],
        len(record.turn.reply.split()),
        [entry.components for entry in asked if entry.failure is None],
    )


def _spent(asked: Sequence[JudgedRecord]) -> dict[str, Any]:
    latencies = sorted(entry.latency_s for entry in asked if entry.latency_s)
    # what a judge said is quoted at the end, and differs each time
    failures = Counter(re.split(r": ['\"]", entry.failure)[0] for entry in asked if entry.failure)
    return {
        "verdicts": len(asked),
        "failed": failures.total(),
        "failures": dict(failures.most_common(5)),
        "cost_usd": round(sum(entry.cost_usd for entry in asked), 6),
        "latency_p50_s": latencies[len(latencies) // 2] if latencies else None,
        "latency_p95_s": latencies[int(len(latencies) * 0.95)] if latencies else None,
    }


def _show(run: Run, client: InferenceClient) -> None:
    """Prints the figures as a table, their cost and their place."""
    found, console = run.summary["judge_check"], Console()
    table = Table(title=f"How far `{found['judge']}` agrees with the labels", title_justify="left", pad_edge=False)
    table.add_column("figure")
    for name in ("value", "95% interval", "records"):
        table.add_column(name, justify="right")
    for name, figure in found["figures"].items():
        if figure["value"] is not None:
            interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
            table.add_row(name.replace("_", " "), f"{figure['value']:.3f}", interval, f"{figure['n']:,.0f}")
    console.print(table)
    total = client.meter.total
    lines = [f"{found['failed']:,} of {found['verdicts']:,} verdicts failed"]
    if found["latency_p50_s"] is not None:
        lines.append(f"{found['latency_p50_s']:.2f} s a verdict (p95 {found['latency_p95_s']:.2f} s)")
    lines += [f"{total.paid:,} requests made, {total.reused:,} reused", f"${found['cost_usd']:.4f}"]
    say(", ".join(lines) + f". Everything is in {run.folder}", console)
    for reason, count in found["failures"].items():
        say(f"  {count:,} times: {reason}", console)
