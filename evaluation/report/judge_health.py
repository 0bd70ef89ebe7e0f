"""How far the judge of an evaluation can be trusted: by its matches, and by a `judge-check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...core.files import read_json
from ...core.run_files import CONFIG, SUMMARY
from ..referee import first_place
from ..stats.win_rates import WinRate, win_rate
from .leaderboard import Record, score

_CHECKED = (
    "agreement",
    "kappa",
    "order_consistency",
    "first_place_preference",
    "length_bias",
    "self_preference",
    "spearman",
    "concordance",
    "failure_rate",
)


@dataclass(frozen=True)
class JudgeHealth:
    """The judge of an evaluation in figures, over all matches, clustered by prompt.

    Attributes:
        name: The judge's.
        scores: Whether it scores replies one by one.
        failed: Share of the matches without a result.
        causes: Their most frequent causes, with counts.
        ties: Share of undecided matches.
        longer: Share of the decided matches that the longer reply won; length may be a merit, so this alone is no bias.
        consistency: Share of matches with the same winner in both orders; None for a judge to whom order is nothing.
        first_place: Mean score of the reply that is shown first; 0.5 without a bias.
        own: Contestants that are the judge's own model, where others are not.
        checked: Figures of a `judge-check`, by name: ``value``, ``low``, ``high``, ``n``.
    """

    name: str
    scores: bool
    failed: WinRate
    causes: Sequence[tuple[str, int]]
    ties: WinRate | None
    longer: WinRate | None
    consistency: WinRate | None
    first_place: WinRate | None
    own: Sequence[str]
    checked: Mapping[str, Mapping[str, float | None]]

    def lines(self) -> list[str]:
        """The figures, one in a line of words."""
        made = [f"Without a result: {_interval(self.failed)} of {self.failed.n:,} matches."]
        made += [f"{count:,} times: {cause}" for cause, count in self.causes]
        if self.consistency is not None and self.first_place is not None:
            made.append(f"Same winner in both orders: {_interval(self.consistency)}.")
            bias = "no bias is shown" if self.first_place.low <= 0.5 <= self.first_place.high else "it is biased"
            made.append(f"Mean score of the reply that is shown first: {_interval(self.first_place)}; {bias}.")
        elif self.scores:
            made.append("It scores replies one by one, so their order does not matter.")
        else:
            made.append("The order in which it saw the replies is not known.")
        if self.ties is not None:
            made.append(f"Ties: {_interval(self.ties)}.")
        if self.longer is not None:
            made.append(f"The longer reply won {_interval(self.longer)} of the decided matches.")
        if self.own:
            made.append(f"Mind: {', '.join(self.own)} is the judge's own model, which judges often prefer.")
        for name, figure in self.checked.items():
            made.append(f"On labelled data, {name.replace('_', ' ')}: {_checked(figure)}.")
        return made


def judge_health(records: Sequence[Record], summary: Mapping[str, Any]) -> JudgeHealth:
    """Measures the judge of an evaluation on its matches.

    Args:
        records: All lines of ``matches.jsonl``; at least one.
        summary: ``summary.json``, for what was known of the judge beforehand.

    Returns:
        The figures.
    """
    decided = [record for record in records if not record["failure"]]
    ordered = [record for record in decided if record["scores"] is None and len(record["orders"]) > 1]
    won = [record for record in decided if record["outcome"] != "tie"]
    unequal = [record for record in won if len(record["reply"]) != len(record["baseline_reply"])]
    causes = Counter(str(record["failure"])[:160] for record in records if record["failure"])
    given = summary.get("judge") or {}
    return JudgeHealth(
        name=records[0]["judge"],
        scores=any(record["scores"] is not None for record in decided),
        failed=_share(records, [bool(record["failure"]) for record in records]) or win_rate([0.0], [""]),
        causes=causes.most_common(3),
        ties=_share(decided, [record["outcome"] == "tie" for record in decided]),
        longer=_share(unequal, [_longer_won(record) for record in unequal]),
        consistency=_share(ordered, [record["consistent"] for record in ordered]),
        first_place=_share(ordered, [first_place(record["orders"]) for record in ordered]),
        own=given.get("own", []),
        checked=given.get("checked", {}),
    )


def _share(records: Sequence[Record], values: Sequence[float]) -> WinRate | None:
    return win_rate([float(value) for value in values], [record["scenario"] for record in records]) if records else None


def _longer_won(record: Record) -> bool:
    return (len(record["reply"]) > len(record["baseline_reply"])) == (score(record) > 0.5)


def _interval(found: WinRate) -> str:
    return f"{found.rate:.1%} ({found.low:.1%} to {found.high:.1%})"


def _checked(figure: Mapping[str, float | None]) -> str:
    value, low, high = (figure.get(name) for name in ("value", "low", "high"))
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{value:.3f}{interval}"


def known_of_judge(
    judge: Mapping[str, Any], asks: bool, model: str, models: Mapping[str, str], check: str | None, where: str
) -> dict[str, Any]:
    """Describes a judge for ``judge`` in ``summary.json``.

    Args:
        judge: Its settings.
        asks: Whether it asks a model.
        model: Name of the model.
        models: The contestants' models, by name.
        check: The folder of a `judge-check` of this judge, if there is one.
        where: That setting's place in the configuration.

    Returns:
        ``settings``; ``model`` if it asks one; ``own``: contestants that are this model, where not all of them are; and
        ``checked``: the most telling figures of the check.

    Raises:
        ConfigError: If the folder holds no check, or the check of another judge.
    """
    own = [name for name, of in models.items() if asks and of == model]
    found: dict[str, Any] = {"settings": dict(judge), "own": own if len(own) < len(models) else []}
    if asks:
        found["model"] = model
    if check is None:
        return found
    path = Path(check).expanduser() / SUMMARY
    try:
        content, checked = read_json(path, dict), read_json(path.parent / CONFIG, dict)
    except ConfigError as error:
        raise ConfigError(f"`{where}`: {error}: give the folder of a `duologue judge-check`") from error
    figures = (content.get("judge_check") or {}).get("figures")
    if not figures:
        raise ConfigError(
            f"`{where}`: {path.parent} holds no check of a judge: give the folder of a `duologue judge-check`"
        )
    if checked.get("judge") != dict(judge):
        raise ConfigError(
            f"`{where}`: {path.parent} checked {checked.get('judge')}, and the judge is {dict(judge)}: check this one"
        )
    known = {name: figures[name] for name in _CHECKED if (figures.get(name) or {}).get("value") is not None}
    return {**found, "checked": known}
