"""Evaluation during training: the policy against the plain model on the validation split.

duologue train validation.every=1024
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..core.settings import construct
from ..envs.policies import Policy
from ..envs.scenarios.loading import load_scenarios
from ..envs.task import Task
from ..inference.endpoint import endpoints_from_settings
from ..plugins.judge import JudgeContext
from .contestants import PolicyContestant, plain_baseline
from .entrants import CachedContestant
from .matches import MAX_FAILURE_FRACTION, play_matches
from .referee import Referee, WhichTurns, make_referee


@dataclass(frozen=True)
class Settings:
    """The configuration's part ``validation``.

    Attributes:
        judge: The selection judge, ``name`` and its own settings. It should not be the report's: what was chosen by a
            judge looks better to that judge than to another.
        every: Turns of training between two validations; None for none at all.
        limit: Number of scenarios of the validation split; None for all.
        repeats: Independent samplings of every scenario.
        baseline_repeats: Plain samples with which every answer is compared.
        keep: Whether the best or the last policy becomes the bundle.
        judged: Which turns of a dialogue a judge of single replies scores, see `Referee`.
    """

    judge: Mapping[str, Any] | None = None
    every: int | None = None
    limit: int | None = None
    repeats: int = 1
    baseline_repeats: int = 3
    keep: Literal["best", "last"] = "best"
    judged: WhichTurns = "last"

    def __post_init__(self) -> None:
        if self.every is not None and not self.judge:
            raise ValueError("`judge` is empty: choose one by `judge@validation.judge=chrf`")
        for name in ("every", "limit", "repeats", "baseline_repeats"):
            value = getattr(self, name)
            if (value is not None or name not in ("every", "limit")) and (not isinstance(value, int) or value < 1):
                raise ValueError(f"`{name}` must be a whole number of at least 1, not {value!r}")


class WinRateValidator:
    """A `Validator`: the win rate against one plain sample of the same model, by the selection judge.

    The baseline's answers are asked for once; those of the policy come from the cassette wherever an earlier validation
    already asked for them. The matches go to ``validation/<timesteps>.jsonl`` in the run folder.

    Args:
        settings: With ``every`` set.
        task: The training's; its scenarios and its reward are not used.
        referee: The referee.
        folder: The run folder.
    """

    def __init__(self, settings: Settings, task: Task, referee: Referee, folder: Path) -> None:
        assert settings.every is not None
        self.every, self.keep = settings.every, settings.keep
        self.task, self.referee = task, referee
        self.settings, self._folder = settings, folder / "validation"
        self._baseline = CachedContestant(plain_baseline(task))

    def validate(self, policy: Policy, timesteps: int) -> dict[str, Any]:
        """Plays the matches of one validation.

        Args:
            policy: The policy so far.
            timesteps: Turns it has learnt from.

        Returns:
            A row of ``results``; without figures if more than a fifth of the matches have no result.
        """
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{timesteps}.jsonl"
        path.unlink(missing_ok=True)
        playing = play_matches(
            [PolicyContestant("trained policy", policy, self.task)],
            self._baseline,
            self.task.scenarios,
            self.settings.repeats,
            self.referee,
            path,
            baseline_repeats=self.settings.baseline_repeats,
        )
        row = self.task.client.run(playing)[0].summary()
        if row["failures"] > MAX_FAILURE_FRACTION * (row["failures"] + row["n"]):
            row |= dict.fromkeys(("win_rate", "low", "high"))
        return row

    async def aclose(self) -> None:
        """Closes the judge."""
        await self.referee.aclose()


def make_validator(config: Mapping[str, Any], folder: Path, task: Task) -> WinRateValidator | None:
    """Builds the validator of a configuration.

    Args:
        config: The resolved configuration.
        folder: The run folder.
        task: The training's.

    Returns:
        The validator; None if the configuration asks for none.

    Raises:
        ConfigError: If a value is refused, or there are no scenarios to validate on.
    """
    settings = construct(Settings, dict(config.get("validation") or {}), "validation")
    if settings.every is None:
        return None
    scenarios = load_scenarios(config["env"]["scenarios"], "validation", settings.limit)
    context = JudgeContext(task.client, endpoints_from_settings(config["inference"]))
    judge = dict(settings.judge or {})
    referee = make_referee(judge, "validation.judge", "judge@validation.judge", context, scenarios, settings.judged)
    return WinRateValidator(settings, replace(task.without_reward(scenarios), turn_deadline_s=None), referee, folder)
