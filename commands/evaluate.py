"""`duologue evaluate` and `duologue run`: a bundle against its baselines on held-out scenarios.

duologue evaluate bundle=runs/train/latest judge@evaluation.judge=llm
duologue run seed=1
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.console import Console, say
from ..evaluation.evaluation import Checked, Evaluation, check
from ..evaluation.plan import make_plan
from ..evaluation.report.curves import write_scalars
from ..evaluation.report.report import write_report
from ..evaluation.report.tables import show_boards
from ..evaluation.validation import make_validator
from ..inference.client import InferenceClient
from ..run.run_folder import Run
from ..run.session import session
from .train import refuse_writer


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
        prepared = Evaluation(config, client, config["bundle"], checked_evaluation(config, client), trusted)
        with Run("evaluate", folder, config, client.meter) as run, session(run, client):
            run.afterwards = lambda: report(run, client)
            _play(prepared, run, trusted)
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
    from ..agents.agent import build_agent, build_task
    from ..agents.training import check_deployable, learn, save, warn_of_one_rollout

    client = InferenceClient.from_settings(config["inference"])
    try:
        task = build_task(config, client)
        agent, steps = build_agent(config, task)
        check_deployable(agent, config)
        warn_of_one_rollout(config, steps)
        checked = checked_evaluation(
            config, client
        )  # a mistake in the evaluation's part must not show after the training
        validator = make_validator(config, folder, task)
        planned = make_plan(config, task, client, checked, validator).summary()
        with Run("run", folder, config, client.meter) as run, session(run, client):
            run.afterwards = lambda: report(run, client)
            run.summary["plan"] = planned
            learn(agent, steps, run, task, validator)
            bundle = save(agent, task, run, config)
            _play(Evaluation(config, client, bundle, checked, trusted=True), run, True)
        return run.summary
    finally:
        client.close()


def checked_evaluation(config: Mapping[str, Any], client: InferenceClient) -> Checked:
    """Builds the parts of an evaluation besides the bundle; refuses settings that `rollouts=ray` cannot share.

    Args:
        config: The resolved configuration.
        client: Asks endpoints.

    Returns:
        See `check`.

    Raises:
        ConfigError: If a name is unknown or a value is refused.
    """
    if _over_ray(config):
        from ..evaluation.distributed import check_ray

        check_ray(config, client)
    return check(config, client)


def _play(evaluation: Evaluation, run: Run, trusted: bool) -> None:
    """Plays the matches; with `rollouts=ray` the cluster's processes ask for all answers first."""
    if _over_ray(run.info.config):
        from ..evaluation.distributed import ask_ahead

        folder = str(evaluation.bundle.folder.resolve())
        ask_ahead(run.info.config, evaluation.client, folder, trusted, len(evaluation.task.scenarios))
    evaluation.play(run)


def _over_ray(config: Mapping[str, Any]) -> bool:
    return (config.get("rollouts") or {}).get("name") == "ray"


def report(run: Run, client: InferenceClient) -> None:
    """Prints the results, the cost and the report's place."""
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
