"""A trained policy and its baselines on held-out scenarios.

duologue evaluate bundle=runs/train/latest judge@evaluation.judge=llm
duologue run seed=1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..core.concurrency import calm_collection
from ..core.run_files import MATCHES
from ..core.settings import construct
from ..envs.scenarios.loading import load_scenarios
from ..envs.scenarios.scenario import Scenario
from ..envs.task import Task
from ..envs.users import make_user
from ..inference.client import InferenceClient
from ..inference.endpoint import endpoints_from_settings
from ..inference.progress import ProgressLine
from ..plugins.judge import JudgeContext
from ..run.run_folder import Run
from .contestants import KINDS, check_kinds, make_contestants, plain_baseline
from .matches import Tally, check_decided, play_matches
from .referee import Referee, WhichTurns, make_referee
from .report.judge_health import known_of_judge


@dataclass(frozen=True)
class Settings:
    """The configuration's part ``evaluation``.

    Attributes:
        judge: The report's judge, ``name`` and its own settings.
        split: Split of the scenarios.
        limit: Number of scenarios; None for all.
        repeats: Independent samplings of every scenario.
        baseline_repeats: Plain samples with which every answer is compared; they cost one request each, and narrow the
            interval nearly as much as repeats do.
        contestants: Of `KINDS`.
        judged: Which turns of a dialogue a judge of single replies scores, see `Referee`.
        judge_check: The folder of a `duologue judge-check` of the judge, whose figures the report then shows.
    """

    judge: Mapping[str, Any] | None
    split: str = "test"
    limit: int | None = None
    repeats: int = 1
    baseline_repeats: int = 1
    contestants: Sequence[str] = KINDS
    judged: WhichTurns = "last"
    judge_check: str | None = None

    def __post_init__(self) -> None:
        if not self.judge:
            raise ValueError("`judge` is empty: choose one by `judge@evaluation.judge=chrf`")
        for name in ("limit", "repeats", "baseline_repeats"):
            value = getattr(self, name)
            if (value is not None or name != "limit") and (not isinstance(value, int) or value < 1):
                raise ValueError(f"`{name}` must be a whole number of at least 1, not {value!r}")
        check_kinds(self.contestants)


class Checked(NamedTuple):
    """The parts of an evaluation that are checked before a bundle exists; ``about`` describes the judge."""

    settings: Settings
    scenarios: Sequence[Scenario]
    referee: Referee
    about: Mapping[str, Any]


def check(config: Mapping[str, Any], client: InferenceClient) -> Checked:
    """Builds the parts of an evaluation besides the bundle.

    Args:
        config: The resolved configuration.
        client: Asks endpoints.

    Returns:
        Settings, scenarios, referee, and what is known about the judge.

    Raises:
        ConfigError: If a name is unknown or a value is refused.
    """
    settings = construct(Settings, config["evaluation"], "evaluation")
    scenarios = load_scenarios(config["env"]["scenarios"], settings.split, settings.limit)
    endpoints = endpoints_from_settings(config["inference"])
    context, model = JudgeContext(client, endpoints), endpoints.get("judge", endpoints["assistant"]).model
    named, choose = dict(settings.judge or {}), "judge@evaluation.judge"
    referee = make_referee(named, "evaluation.judge", choose, context, scenarios, settings.judged)
    about = known_of_judge(named, referee.asks, model, {}, settings.judge_check, "evaluation.judge_check")
    return Checked(settings, scenarios, referee, about)


class Evaluation:
    """A bundle, its contestants, the held-out scenarios and the referee.

    Args:
        config: The resolved configuration.
        client: Asks endpoints.
        bundle: The bundle's folder.
        checked: The part ``evaluation`` of the configuration; its referee is closed when everything was played.
        trusted: See `load_bundle`.

    Raises:
        ConfigError: If the folder is no bundle or a value is refused.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        client: InferenceClient,
        bundle: str | Path,
        checked: Checked,
        trusted: bool = False,
    ) -> None:
        from ..agents.bundle import load_bundle

        self.client = client
        self.settings, scenarios, self.referee, self.about = checked
        self.bundle = load_bundle(bundle, client, trusted=trusted)
        endpoints = endpoints_from_settings(config["inference"])
        self.task = Task(
            client=client,
            assistant=endpoints["assistant"],
            user=make_user(config["env"].get("user", "scripted"), client, endpoints),
            interface=self.bundle.interface,
            encoder=self.bundle.encoder,
            scenarios=scenarios,
            system=self.bundle.system,
            max_turns=self.bundle.max_turns,
        )

    def play(self, run: Run) -> None:
        """Plays all matches; the results go to ``matches.jsonl`` and to the run's summary.

        Args:
            run: The run, for its folder and summary.

        Raises:
            DuologueError: If more than a fifth of the matches have no result.
        """
        path = run.folder / MATCHES
        path.unlink(missing_ok=True)  # of an earlier part of the run: the cassette has what it asked
        tallies = self.matches(path)
        run.keep()
        run.summary["trained_on"] = self.bundle.settings.get("model")
        run.summary["judge"] = self.about
        run.summary["results"] = [tally.summary() for tally in tallies]
        check_decided(tallies, path)

    def matches(self, path: Path) -> list[Tally]:
        """Plays all matches and closes the referee.

        Args:
            path: The JSONL file to which they are written.

        Returns:
            One tally per contestant.
        """
        contestants = make_contestants(
            self.settings.contestants, self.bundle.policy, self.task, self.referee.batched_judge
        )
        total = len(self.task.scenarios) * self.settings.repeats
        try:
            with ProgressLine("evaluating", total, self.client.meter) as line, calm_collection():
                done = iter(range(1, total + 1))
                return self.client.run(
                    play_matches(
                        contestants,
                        plain_baseline(self.task),
                        self.task.scenarios,
                        self.settings.repeats,
                        self.referee,
                        path,
                        lambda: line.update(next(done)),
                        self.settings.baseline_repeats,
                    )
                )
        finally:
            self.client.run(self.referee.aclose())
