"""`duologue evaluate` and `duologue run`: a bundle against its baselines on held-out scenarios.

duologue evaluate bundle=runs/train/latest judge@evaluation.judge=llm
duologue run seed=1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..envs.scenarios import Scenario, load_scenarios
from ..envs.task import Task
from ..envs.users import make_user
from ..inference.client import InferenceClient
from ..inference.endpoint import endpoints_from_settings
from ..inference.garbage import calm_collection
from ..inference.progress import ProgressLine
from ..inference.saying import Console, say
from ..inference.settings import construct
from ..plugins.judge import JudgeContext
from ..plugins.places import MATCHES
from ..plugins.run_folder import Run
from ..plugins.session import session
from .contestants import KINDS, check_kinds, make_contestants, plain_baseline
from .judge_health import known_of_judge
from .judging import Referee, WhichTurns, make_referee
from .matches import Tally, check_decided, play_matches
from .plan import make_plan
from .report import write_report
from .table import show_boards
from .tensorboard import write_scalars
from .validation import make_validator, refuse_writer


@dataclass(frozen=True)
class Settings:
    """The configuration's part ``evaluation``.

    Attributes:
        judge: The report's judge, ``name`` and its own settings.
        split: Of which split the scenarios are.
        limit: How many of them; None for all.
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


def evaluate(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Evaluates the bundle that ``config["bundle"]`` names.

    Args:
        config: The resolved configuration, plain values.
        folder: The run folder.

    Returns:
        What ``summary.json`` says of the evaluation.
    """
    config = {**config, "bundle": str(Path(config["bundle"]).resolve())}  # `latest` will name another one tomorrow
    client = InferenceClient.from_settings(config["inference"])
    try:
        trusted = bool(config.get("trusted"))
        prepared = Evaluation(config, client, config["bundle"], check(config, client), trusted)
        with Run("evaluate", folder, config, client.meter) as run, session(run, client):
            run.afterwards = lambda: report(run, client)
            prepared.play(run)
        return run.summary
    finally:
        client.close()


def train_and_evaluate(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Trains a policy and evaluates it; both leave their results in one run folder.

    Args:
        config: The resolved configuration, plain values.
        folder: The run folder.

    Returns:
        What ``summary.json`` says of both.
    """
    refuse_writer(config, "run")
    from ..agents.agent import build_agent
    from ..agents.train import build_task, check_deployable, learn, save, warn_of_one_rollout

    client = InferenceClient.from_settings(config["inference"])
    try:
        task = build_task(config, client)
        agent, steps = build_agent(config, task)
        check_deployable(agent, config)
        warn_of_one_rollout(config, steps)
        checked = check(config, client)  # a mistake in the evaluation's part must not show after the training
        validator = make_validator(config, folder, task)
        planned = make_plan(config, task, client, checked, validator).summary()
        with Run("run", folder, config, client.meter) as run, session(run, client):
            run.afterwards = lambda: report(run, client)
            run.summary["plan"] = planned
            learn(agent, steps, run, task, validator)
            bundle = save(agent, task, run, config)
            Evaluation(config, client, bundle, checked, trusted=True).play(run)
        return run.summary
    finally:
        client.close()


def _over_ray(config: Mapping[str, Any]) -> bool:
    return (config.get("rollouts") or {}).get("name") == "ray"


class Checked(NamedTuple):
    """Everything of an evaluation that can be wrong before there is a bundle; ``about`` is what is known of the judge."""

    settings: Settings
    scenarios: Sequence[Scenario]
    referee: Referee
    about: Mapping[str, Any]


def check(config: Mapping[str, Any], client: InferenceClient) -> Checked:
    """Builds what an evaluation needs besides the bundle.

    Raises:
        ConfigError: If a name is unknown or a value is refused.
    """
    settings = construct(Settings, config["evaluation"], "evaluation")
    if _over_ray(config):
        from .ray_matches import check_ray

        check_ray(config, client)
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

        self.client, self._config, self._trusted = client, config, trusted
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

        Raises:
            DuologueError: If more than a fifth of the matches have no result.
        """
        path = run.folder / MATCHES
        path.unlink(missing_ok=True)  # of an earlier part of the run: the cassette has what it asked
        if _over_ray(self._config):
            from .ray_matches import ask_ahead

            folder = str(self.bundle.folder.resolve())
            ask_ahead(self._config, self.client, folder, self._trusted, len(self.task.scenarios))
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
        """
        contestants = make_contestants(self.settings.contestants, self.bundle.policy, self.task, self.referee.bench)
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


def report(run: Run, client: InferenceClient) -> None:
    """Ends the command with one screen: who won, by how much, how sure, what it cost, where it is."""
    console = Console()
    rows = run.summary["results"]
    if rows:
        show_boards(rows, console)
    for alarm in run.summary.get("alarms", []):
        say(f"ALARM in training ({alarm['name']}): {alarm['message']}", console)
    asked, trained = run.info.config["inference"]["assistant"]["model"], run.summary["trained_on"]
    if asked != trained:
        say(f"Mind: the policy was trained on `{trained}` and evaluated on `{asked}`.", console)
    total = client.meter.total
    planned = run.summary.get("plan")
    bound = f" (planned: at most {planned['requests']:,})" if planned else ""
    spent = f"{total.paid:,} requests made{bound}, {total.reused:,} reused, {total.completion_tokens:,} tokens"
    money = f", ${total.cost_usd:.4f}" if total.cost_usd else ""
    page = write_report(run.folder)
    write_scalars(run.folder, rows, run.summary.get("timesteps", 0))
    say(f"{spent}{money}. The report is {page}", console)
