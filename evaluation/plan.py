"""`duologue plan`: what a run will ask for and cost at most, before anything is spent.

duologue plan inference.assistant.price.per_request_usd=0.002 env.limit=200

Counts are upper bounds that know what the cassette makes free: the same request with the same sample index is made once. A
dialogue that goes on has one history for every sequence of actions before, so later turns are reused less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ..envs.interfaces.base import ActionInterface
from ..envs.policies import constant_policies
from ..envs.scenarios import Scenario
from ..envs.task import Task
from ..envs.users import most_turns
from ..inference.client import InferenceClient
from ..inference.endpoint import Endpoint, Price, endpoints_from_settings
from ..inference.lengths import Lengths, lengths
from .contestants import KINDS
from .judging import Referee

if TYPE_CHECKING:
    from .evaluate import Checked
    from .validation import WinRateValidator

TOKENS_PER_BYTE = 0.25
"""Assumed where the cassette holds no answer of the model: about four bytes a token, as in English text."""

JUDGE_PROMPT_TOKENS, JUDGE_COMPLETION_TOKENS = 200, 256
"""Assumed of every judgement, besides the dialogue that it is about."""


@dataclass(frozen=True)
class Need:
    """Requests of one role in one phase, at most, and the tokens that they take.

    Attributes:
        phase: ``training``, ``validation`` or ``evaluation``.
        role: ``assistant``, ``baseline``, ``user`` or ``judge``.
        requests: Paid ones.
        prompt_tokens: Of all of them.
        completion_tokens: Likewise.
        flat_usd: If billed by request, at the endpoint's price.
        tokens_usd: If billed by token.
    """

    phase: str
    role: str
    requests: int
    prompt_tokens: float
    completion_tokens: float
    flat_usd: float
    tokens_usd: float


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


class Planner:
    """Counts for one configuration.

    Args:
        task: The training task; of evaluations the same with other scenarios.
        endpoints: By role.
        known: Measured lengths, if there are any.
    """

    def __init__(self, task: Task, endpoints: Mapping[str, Endpoint], known: Lengths | None) -> None:
        self.task = task
        self.interface = task.interface
        self._assistant = endpoints["assistant"]
        self._judge = endpoints.get("judge", self._assistant)
        self._user = endpoints.get("user", self._assistant)
        self._user_requests: int = getattr(task.user, "requests_per_turn", 0)
        longest = self._assistant.sampling.max_tokens or 256
        self.lengths = known or Lengths(0, TOKENS_PER_BYTE, float(longest))
        self._branches = branches(self.interface)
        self._before = self.interface.proposals_per_turn  # requests that do not depend on the action
        self._after = self.interface.requests_per_turn - self._before

    def training(self, turns: int, judge_requests: int, end_requests: int) -> Iterator[Need]:
        """Rollouts of so many turns, and their judging by so many requests each, and for those that end a dialogue."""
        scenarios = self.task.scenarios
        episodes = math.ceil(turns / np.mean([self._turns(scenario) for scenario in scenarios]))
        draws = episodes if self.task.draws is None else math.ceil(self.task.draws)
        roots = min(episodes, len(scenarios) * draws)
        asked, judged, replied = [], [], []
        shares = [*self._reaching(scenarios), 0.0]
        for turn, (share, after) in enumerate(pairwise(shares)):
            played, distinct = episodes * share, roots * share * self._branches**turn
            per_history = self._before + (self._after * self._branches if self._after else 0)
            asked.append(min(played * self.interface.requests_per_turn, distinct * per_history))
            each = (after * judge_requests + (share - after) * end_requests) / share
            judged.append(min(played, distinct * self._branches) * each)
            replied.append(min(played, distinct * self._branches) * self._user_requests)
        if self.interface.two_phase and self.task.reward is not None:  # a truncated dialogue looks one turn ahead
            cut = np.mean([self._goes_on(scenario) for scenario in scenarios])
            asked.append(episodes * float(cut) * self._before)
        yield self._need("training", "assistant", asked, scenarios)
        yield self._need("training", "user", replied, scenarios)
        yield self._need("training", "judge", judged, scenarios)

    def validation(self, looks: int, validator: WinRateValidator) -> Iterator[Need]:
        """So many looks at the policy during its training: each may act otherwise than all before."""
        own, settings = validator.task.scenarios, validator.settings
        yield from self._matches(
            "validation", own, looks, settings.repeats, settings.baseline_repeats, validator.referee
        )

    def evaluation(
        self, scenarios: Sequence[Scenario], kinds: Sequence[str], repeats: int, baseline_repeats: int, referee: Referee
    ) -> Iterator[Need]:
        """All contestants on the held-out scenarios, their baseline, and the referee."""
        constants = len(constant_policies(self.interface)) if "constants" in kinds else 0
        players = constants + sum(kind in kinds for kind in KINDS if kind != "constants")
        oracle = "oracle" in kinds and self.interface.chooses_reply
        yield from self._matches("evaluation", scenarios, players, repeats, baseline_repeats, referee, oracle)

    def _matches(
        self,
        phase: str,
        scenarios: Sequence[Scenario],
        players: float,
        repeats: int,
        baseline_repeats: int,
        referee: Referee,
        oracle: bool = False,
    ) -> Iterator[Need]:
        roots = len(scenarios) * repeats
        asked, replied, shares = [], [], self._reaching(scenarios)
        for turn, share in enumerate(shares):
            histories = min(players, self._branches**turn)
            directed = min(players, self._branches ** (turn + 1))
            asked.append(roots * share * (histories * self._before + directed * self._after))
            replied.append(roots * share * (directed + baseline_repeats) * self._user_requests)
        baseline = [roots * share * baseline_repeats for share in shares]
        yield self._need(phase, "assistant", asked, scenarios)
        yield self._need(phase, "baseline", baseline, scenarios)
        yield self._need(phase, "user", replied, scenarios)
        judge = referee.judge
        each = getattr(judge, "requests_per_turn", 0)
        scored = roots * (players + baseline_repeats) * each * (sum(shares) if referee.judged == "all" else 1)
        if oracle:
            scored += roots * sum(shares) * self._before * each
        compared = roots * players * baseline_repeats * 2 * getattr(judge, "requests_per_pair", 0)
        last = [0.0] * (len(shares) - 1) + [scored + compared]
        yield self._need(phase, "judge", last, scenarios)

    def growth(self, longest: int) -> list[tuple[int, int, float, float, float]]:
        """How one dialogue's requests, tokens and money grow with its turns."""
        rows = []
        for turns in sorted({1, 2, 4, 8, 16, longest}):
            each = [float(self.interface.requests_per_turn)] * turns
            need = self._need("", "assistant", each, self.task.scenarios)
            tokens = need.prompt_tokens + need.completion_tokens
            rows.append((turns, need.requests, tokens, need.flat_usd, need.tokens_usd))
        return rows

    def _need(self, phase: str, role: str, by_turn: Sequence[float], scenarios: Sequence[Scenario]) -> Need:
        requests = math.ceil(round(sum(by_turn), 6))
        prompt = sum(count * self._prompt_tokens(scenarios, turn) for turn, count in enumerate(by_turn))
        completion = requests * self.lengths.completion_tokens
        endpoint = self._user if role == "user" else self._assistant
        if role == "judge":
            endpoint = self._judge
            prompt += requests * (JUDGE_PROMPT_TOKENS + self.lengths.completion_tokens)
            completion = float(requests * JUDGE_COMPLETION_TOKENS)
        price = dearest([endpoint, *self.task.routes.values()]) if role == "assistant" else endpoint.price
        by_token = prompt * price.per_million_prompt_tokens_usd + completion * price.per_million_completion_tokens_usd
        return Need(phase, role, requests, prompt, completion, requests * price.per_request_usd, by_token / 1e6)

    def _prompt_tokens(self, scenarios: Sequence[Scenario], turn: int) -> float:
        """Of the request of one turn, from 0, averaged over the scenarios; a script goes on as long as its mean turn."""
        system = [len((self.task.system if s.system is None else s.system).encode()) for s in scenarios]
        said = [np.mean([len(text.encode()) for text in s.user]) * (turn + 1) for s in scenarios]
        replies = turn * self.lengths.completion_tokens
        return float((np.mean(system) + np.mean(said)) * self.lengths.tokens_per_byte + replies)

    def _turns(self, scenario: Scenario) -> int:
        return self.task.turns(scenario)

    def _goes_on(self, scenario: Scenario) -> bool:
        """Whether `max_turns` may cut a dialogue of this scenario."""
        return most_turns(self.task.user, scenario, self.task.max_turns + 1) > self.task.max_turns

    def _reaching(self, scenarios: Sequence[Scenario]) -> list[float]:
        """The share of scenarios that have a turn with this index."""
        turns = np.array([self._turns(scenario) for scenario in scenarios])
        return [float((turns > turn).mean()) for turn in range(int(turns.max()))]


def dearest(endpoints: Sequence[Endpoint]) -> Price:
    """The highest of each price: a bound where a policy may ask any of them."""
    return Price(*(max(getattr(e.price, f.name) for e in endpoints) for f in fields(Price)))


def branches(interface: ActionInterface) -> float:
    """How many different replies one state can lead to: the number of actions; infinite where it is not finite."""
    space = interface.action_space
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return float(np.prod(space.nvec)) if isinstance(space, spaces.MultiDiscrete) else math.inf


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
    planner = Planner(task, endpoints, lengths(client.cassette.path, endpoints["assistant"].identity))
    agent = config["agent"]
    rollout = agent["n_envs"] * agent["n_steps"]
    turns = math.ceil(agent["total_timesteps"] / rollout) * rollout
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
    console.print(text, soft_wrap=True, highlight=False, markup=False)


_BILLED = ("$/request", "$/token")


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
