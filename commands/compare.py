"""`duologue compare`: models, and answers in files, against each other on a file of prompts. Nothing is trained.

duologue compare prompts=prompts.txt judge=pairwise +contestants.big.base_url=https://host/v1 +contestants.big.model=big …
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from ..core.concurrency import calm_collection
from ..core.console import Console, say
from ..core.errors import ConfigError, near_miss
from ..core.run_files import MATCHES
from ..core.settings import construct
from ..envs.interfaces.one_phase import Plain
from ..envs.task import Task
from ..envs.users import make_user
from ..evaluation.contestants import BASELINE_DRAW, Contestant
from ..evaluation.entrants import CachedContestant, make_entrant
from ..evaluation.exchange.answer_files import load_prompts
from ..evaluation.matches import Tally, check_decided, play_matches
from ..evaluation.referee import Referee, WhichTurns, make_referee
from ..evaluation.report.curves import write_scalars
from ..evaluation.report.judge_health import known_of_judge
from ..evaluation.report.report import write_report
from ..evaluation.report.tables import show_boards
from ..inference.client import InferenceClient
from ..inference.encoders import make_encoder
from ..inference.endpoint import endpoints_from_settings
from ..inference.progress import ProgressLine
from ..plugins.judge import JudgeContext
from ..run.run_folder import Run
from ..run.session import session

_APART = 1_000
"""Samples between two contestants that are the same model, so that it is not compared with its own answers."""


@dataclass(frozen=True)
class Settings:
    """The configuration of a comparison, less the judge's and the endpoints' of judges.

    Attributes:
        prompts: See `load_prompts`.
        split: See there.
        limit: See there.
        system: A system prompt for prompts that have none.
        user: The simulated user, see `make_user`.
        max_turns: Assistant turns after which a dialogue is cut.
        contestants: Name to settings, see `make_entrant`; at least two.
        against: Names of the baselines; None for the first contestant, ``all`` for everybody against everybody.
        repeats: Independent answers to every prompt.
        judged: Which turns of a dialogue a judge of single replies scores, see `Referee`.
        judge_check: The folder of a `duologue judge-check` of the judge, whose figures the report then shows.
    """

    prompts: str
    split: str = "test"
    limit: int | None = None
    system: str | None = None
    user: Mapping[str, Any] | str = "scripted"
    max_turns: int = 8
    contestants: Mapping[str, Any] = field(default_factory=dict)
    against: Sequence[str] | str | None = None
    repeats: int = 1
    judged: WhichTurns = "last"
    judge_check: str | None = None

    def __post_init__(self) -> None:
        if len(self.contestants) < 2:
            raise ValueError(
                f"`contestants` must name at least two, not {len(self.contestants)}: add "
                "`+contestants.NAME.base_url=… +contestants.NAME.model=…`, or `+contestants.NAME.answers=FILE`"
            )
        if self.repeats < 1:
            raise ValueError(f"`repeats` must be at least 1, not {self.repeats}")

    @property
    def pairings(self) -> list[tuple[list[str], str]]:
        """Pairs contestants with baselines; no pair occurs twice.

        Raises:
            ConfigError: If a baseline is no contestant.
        """
        names = list(self.contestants)
        if self.against == "all":
            met = [(a, b) for b, a in combinations(names, 2)]
            return [(players, base) for base in names if (players := [a for a, b in met if b == base])]
        chosen = [names[0]] if self.against is None else self.against
        baselines = [chosen] if isinstance(chosen, str) else list(chosen)
        for name in baselines:
            if name not in names:
                raise ConfigError(f"`against`: there is no contestant `{name}`: {near_miss(str(name), names)}")
        done: set[str] = set()
        pairings = []
        for base in baselines:
            done.add(base)
            pairings.append(([name for name in names if name not in done], base))
        return [(players, base) for players, base in pairings if players]


def compare(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Compares the contestants of a configuration.

    Args:
        config: The resolved configuration.
        folder: The run folder.

    Returns:
        What ``summary.json`` says of it.

    Raises:
        ConfigError: If a value is refused or a file cannot be used.
        DuologueError: If too much failed for a result.
    """
    config = {**config, **_absolute(config)}  # a run that goes on may be told so from another folder
    own = {name: config[name] for name in Settings.__dataclass_fields__ if name in config}
    settings = construct(Settings, own, "compare")
    pairings = settings.pairings
    scenarios = load_prompts(settings.prompts, settings.split, settings.limit)
    client = InferenceClient.from_settings(config["inference"])
    try:
        endpoints = endpoints_from_settings(config["inference"])
        task = Task(
            client=client,
            assistant=endpoints["assistant"],
            interface=Plain(),
            encoder=make_encoder("hashing", client),
            scenarios=scenarios,
            user=make_user(settings.user, client, endpoints),
            system=settings.system or "",
            max_turns=settings.max_turns,
        )
        if not config.get("judge"):
            raise ConfigError("`judge` is empty: choose one, such as `judge=pairwise`")
        context = JudgeContext(client, endpoints)
        referee = make_referee(config["judge"], "judge", "judge", context, scenarios, settings.judged)
        contestants = _contestants(settings, task, referee)
        judge_model, check = endpoints.get("judge", endpoints["assistant"]).model, settings.judge_check
        about = known_of_judge(
            config["judge"], referee.asks, judge_model, _models(settings, task), check, "judge_check"
        )
        with Run("compare", folder, config, client.meter) as run, session(run, client):
            run.afterwards = lambda: _show(run, client)
            run.summary["judge"] = about
            run.summary["results"] = _play(run, client, pairings, contestants, task, referee, settings.repeats)
        return run.summary
    finally:
        client.close()


def _absolute(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration's files and folders by their whole paths."""
    prompts = Path(config["prompts"]).expanduser()
    contestants = {}
    for name, values in config["contestants"].items():
        paths = [key for key in ("answers", "bundle", "adapter") if isinstance(values, Mapping) and key in values]
        absolute = {key: str(Path(str(values[key])).expanduser().resolve()) for key in paths}
        contestants[name] = {**values, **absolute} if paths else values
    check = {"judge_check": str(Path(config["judge_check"]).resolve())} if config.get("judge_check") else {}
    source = str(prompts.resolve()) if prompts.exists() else config["prompts"]
    return {"prompts": source, "contestants": contestants, **check}


def _models(settings: Settings, task: Task) -> dict[str, str]:
    """The model of each contestant; None for answers in files."""
    known = {name: values for name, values in settings.contestants.items() if isinstance(values, Mapping)}
    return {
        name: "" if {"answers", "adapter", "local"} & set(values) else str(values.get("model", task.assistant.model))
        for name, values in known.items()
    }


def _contestants(settings: Settings, task: Task, referee: Referee) -> dict[str, Contestant]:
    """Policies of one model share its candidates; plain samples of it are apart from these and from each other."""
    made: dict[str, Contestant] = {}
    models: Counter[tuple[str, str]] = Counter()
    for name, values in settings.contestants.items():
        draw = 0
        if isinstance(values, Mapping) and not {"answers", "bundle", "policy"} & set(values):
            model = str(values.get("base_url", values.get("adapter"))), str(values.get("model", values.get("local")))
            draw = BASELINE_DRAW + _APART * models[model]
            models[model] += 1
        made[name] = CachedContestant(
            make_entrant(name, values, task, f"contestants.{name}", draw, referee.batched_judge)
        )
    return made


def _play(
    run: Run,
    client: InferenceClient,
    pairings: Sequence[tuple[Sequence[str], str]],
    contestants: Mapping[str, Contestant],
    task: Task,
    referee: Referee,
    repeats: int,
) -> list[dict[str, Any]]:
    path = run.folder / MATCHES
    path.unlink(missing_ok=True)
    total = len(task.scenarios) * repeats * len(pairings)
    tallies: list[Tally] = []
    try:
        with ProgressLine("comparing", total, client.meter) as line, calm_collection():
            done = iter(range(1, total + 1))
            for players, base in pairings:
                found = play_matches(
                    [contestants[name] for name in players],
                    contestants[base],
                    task.scenarios,
                    repeats,
                    referee,
                    path,
                    lambda: line.update(next(done)),
                )
                tallies += client.run(found)
    finally:
        client.run(referee.aclose())
    run.keep()
    check_decided(tallies, path)
    return [tally.summary() for tally in tallies]


def _show(run: Run, client: InferenceClient) -> None:
    """Prints the result, its cost and the report's place."""
    console, rows = Console(), run.summary["results"]
    show_boards(rows, console)
    write_scalars(run.folder, rows, 0)
    total = client.meter.total
    spent = f"{total.paid:,} requests made, {total.reused:,} reused, ${total.cost_usd:.4f}"
    say(f"{spent}. The report is {write_report(run.folder)}", console)
