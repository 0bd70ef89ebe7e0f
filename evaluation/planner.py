"""Upper bounds of a run's requests, by phase and role, from its configuration alone.

Every count is the smaller of two bounds. The first follows from the number of turns that can be played. The second follows
from the cassette: the same request with the same sample index is paid once. A dialogue has one history for every sequence of
earlier actions, so later turns are reused less. Without a cassette (``off``) only the first bound holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium import spaces

from ..core.errors import ConfigError, near_miss
from ..envs.interfaces.base import ActionInterface
from ..envs.policies import constant_policies
from ..envs.scenarios.scenario import Scenario
from ..envs.task import Task
from ..envs.users import NoUser, ScriptedUser, most_turns
from ..inference.cassette.archive import Lengths
from ..inference.cassette.cassette import Mode
from ..inference.endpoint import Endpoint, Price
from ..inference.transport.parameters import MOST_CHANGES
from ..inference.transport.retries import RetryBudget
from .contestants import KINDS
from .referee import Referee

if TYPE_CHECKING:
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
        role: ``assistant``, ``baseline``, ``user``, ``encoder`` or ``judge``.
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


class TrainingTurns(NamedTuple):
    """The most turns that an agent plays during training.

    Attributes:
        learnt: Turns of finished episodes.
        unfinished: Turns of episodes that are begun and not used.
    """

    learnt: int
    unfinished: int = 0


_N_STEPS = {"a2c": 5, "linucb": 16, "maskable_ppo": 2048, "ppo": 2048, "recurrent_ppo": 128, "thompson": 16}
"""``n_steps`` of the agents where the configuration names none."""

_WHOLE_EPISODES = ("ppo", "linucb", "thompson")
"""Agents whose rollouts end with an episode; all others step a fixed number of dialogues at once."""


def training_turns(agent: Mapping[str, Any], task: Task) -> TrainingTurns:
    """Bounds the turns of a training in which no call fails.

    Args:
        agent: The part ``agent`` of the configuration.
        task: The task.

    Returns:
        The bound, with the turns of unfinished episodes.

    Raises:
        ConfigError: If there is no such agent, or a number is missing.
    """
    name = str(agent.get("name"))
    if name not in (known := ("dqn", *_N_STEPS)):
        raise ConfigError(f"there is no agent `{name}`: {near_miss(name, known)}")
    total, n_envs = (_whole(agent, key) for key in ("total_timesteps", "n_envs"))
    longest = max(task.turns(scenario) for scenario in task.scenarios)
    if name == "dqn":
        every = agent.get("train_freq", 4)
        number, unit = every if isinstance(every, list | tuple) else (every, "step")
        steps = int(number) * (longest if unit == "episode" else 1)
    else:
        steps = _whole({"n_steps": _N_STEPS[name], **agent}, "n_steps")
    rollout = n_envs * steps
    if name not in _WHOLE_EPISODES:
        return TrainingTurns(math.ceil(total / rollout) * rollout, n_envs)
    from ..agents.rollouts import most_training_turns

    ahead = int(agent.get("max_ahead_episodes", 0)) * longest
    return TrainingTurns(most_training_turns(task, total, rollout), ahead)


def _whole(agent: Mapping[str, Any], name: str) -> int:
    value = agent.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"`agent.{name}` must be a whole number of at least 1, not {value!r}")
    return value


class Planner:
    """Counts for one configuration.

    Args:
        task: The training task; of evaluations the same with other scenarios.
        endpoints: Endpoints by role.
        known: Measured lengths, if there are any.
        mode: The cassette's.
        workers: Processes that ask at the same time; each may pay for an answer before another has recorded it.
    """

    def __init__(
        self,
        task: Task,
        endpoints: Mapping[str, Endpoint],
        known: Lengths | None,
        mode: Mode = "record",
        workers: int = 1,
    ) -> None:
        self.task = task
        self.interface = task.interface
        self._assistant = endpoints["assistant"]
        self._judge = endpoints.get("judge", self._assistant)
        self._user = endpoints.get("user", self._assistant)
        self._encoder = task.encoder.endpoint
        self._user_requests: int = getattr(task.user, "requests_per_turn", 0)
        longest = self._assistant.sampling.max_tokens or 256
        self.lengths = known or Lengths(0, TOKENS_PER_BYTE, float(longest))
        self._branches = branches(self.interface)
        self._before = self.interface.proposals_per_turn  # requests that do not depend on the action
        self._after = self.interface.requests_per_turn - self._before
        self._copies = math.inf if mode == "off" else workers
        """How often the same request is paid for at most."""
        self._exact = isinstance(task.user, ScriptedUser | NoUser)
        """Whether every dialogue lasts as long as its scenario lets it; others may end earlier."""

    @property
    def longest(self) -> int:
        """Turns of the longest dialogue of the training."""
        return max(self._turns(scenario) for scenario in self.task.scenarios)

    def training(self, turns: int, judge_requests: int, end_requests: int, unfinished: int = 0) -> Iterator[Need]:
        """Bounds the requests of rollouts.

        Args:
            turns: Turns of finished episodes.
            judge_requests: Requests for judging a turn that does not end its dialogue.
            end_requests: Requests for judging a turn that does.
            unfinished: Turns of episodes that are begun and not used.

        Yields:
            One need per role.
        """
        scenarios, task, branches = self.task.scenarios, self.task, self._branches
        played = turns + unfinished
        roots = len(scenarios) * (math.inf if task.draws is None else task.draws) * self._copies
        shares = [*self._reaching(scenarios), 0.0]
        ends = played // min(self._turns(scenario) for scenario in scenarios) if self._exact else played
        asked, judged, replied = [], [], []
        for turn, (share, after) in enumerate(pairwise(shares)):
            states = roots * share * branches**turn
            asked.append(_times(states, self._before) + _times(states * branches, self._after))
            replied.append(_times(states * branches, self._user_requests))
            each = float(max(judge_requests, end_requests))
            if self._exact:
                each = (after * judge_requests + (share - after) * end_requests) / share
            judged.append(_times(states * branches, each))
        verdicts = played * judge_requests + ends * max(end_requests - judge_requests, 0)
        asked = _spread(played * self.interface.requests_per_turn, asked, shares[:-1])
        ahead = self._lookahead(played, roots)
        yield self._need("training", "assistant", [*asked, ahead], scenarios)
        yield self._need("training", "user", _spread(played * self._user_requests, replied, shares[:-1]), scenarios)
        yield self._need("training", "encoder", [self._encoded(played + 2 * ends + unfinished)], scenarios)
        yield self._need("training", "judge", _spread(verdicts, judged, shares[:-1]), scenarios)

    def _lookahead(self, played: int, roots: float) -> float:
        """Requests for the turn after the last one of dialogues that `max_turns` truncates."""
        task = self.task
        if not self._before or task.reward is None or task.reward.judges_ends:
            return 0.0
        cut = float(np.mean([self._goes_on(scenario) for scenario in task.scenarios]))
        cut_states = _times(roots * self._branches**task.max_turns, cut)
        return min(played // task.max_turns if cut else 0, cut_states) * self._before

    def _encoded(self, observations: float) -> float:
        """Bounds the requests for the embeddings of observations, as if no text were cached."""
        if self._encoder is None:
            return 0.0
        turns, candidates = 2 * self.task.max_turns + 2, self._before + 1 if self._before else 0
        requests = sum(self.task.encoder.requests(texts) for texts in (turns, candidates))
        return observations * requests

    def validation(self, looks: int, validator: WinRateValidator) -> Iterator[Need]:
        """Bounds the requests of validations; each may act differently from all earlier ones."""
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
            histories = min(players, self._copies * self._branches**turn)
            directed = min(players, self._copies * self._branches ** (turn + 1))
            asked.append(roots * share * (histories * self._before + directed * self._after))
            replied.append(roots * share * (directed + baseline_repeats) * self._user_requests)
        baseline = [roots * share * baseline_repeats for share in shares]
        yield self._need(phase, "assistant", asked, scenarios)
        yield self._need(phase, "baseline", baseline, scenarios)
        yield self._need(phase, "user", replied, scenarios)
        observed = roots * (players + baseline_repeats) * (sum(shares) + 1)
        yield self._need(phase, "encoder", [self._encoded(observed)], scenarios)
        judge = referee.judge
        each = getattr(judge, "requests_per_turn", 0)
        scored = roots * (players + baseline_repeats) * each * (sum(shares) if referee.judged == "all" else 1)
        if oracle:
            scored += roots * sum(shares) * self._before * each
        compared = roots * players * baseline_repeats * 2 * getattr(judge, "requests_per_pair", 0)
        last = [0.0] * (len(shares) - 1) + [scored + compared]
        yield self._need(phase, "judge", last, scenarios)

    def growth(self, longest: int) -> list[tuple[int, int, float, float, float]]:
        """The growth of one dialogue's requests, tokens and money with its turns."""
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
        if role == "encoder" and self._encoder is not None:
            endpoint, completion = self._encoder, 0.0
        if role == "judge":
            endpoint = self._judge
            prompt += requests * (JUDGE_PROMPT_TOKENS + self.lengths.completion_tokens)
            completion = float(requests * JUDGE_COMPLETION_TOKENS)
        price = dearest([endpoint, *self.task.routes.values()]) if role == "assistant" else endpoint.price
        by_token = prompt * price.per_million_prompt_tokens_usd + completion * price.per_million_completion_tokens_usd
        return Need(phase, role, requests, prompt, completion, requests * price.per_request_usd, by_token / 1e6)

    def _prompt_tokens(self, scenarios: Sequence[Scenario], turn: int) -> float:
        """Prompt tokens of a turn's request (turns from 0), averaged over the scenarios."""
        system = [len((self.task.system if s.system is None else s.system).encode()) for s in scenarios]
        said = [np.mean([len(text.encode()) for text in s.user]) * (turn + 1) for s in scenarios]
        replies = turn * self.lengths.completion_tokens
        return float((np.mean(system) + np.mean(said)) * self.lengths.tokens_per_byte + replies)

    def _turns(self, scenario: Scenario) -> int:
        return self.task.turns(scenario)

    def _goes_on(self, scenario: Scenario) -> bool:
        """Whether `max_turns` may truncate a dialogue of this scenario."""
        return most_turns(self.task.user, scenario, self.task.max_turns + 1) > self.task.max_turns

    def _reaching(self, scenarios: Sequence[Scenario]) -> list[float]:
        """The share of scenarios that have a turn with this index."""
        turns = np.array([self._turns(scenario) for scenario in scenarios])
        return [float((turns > turn).mean()) for turn in range(int(turns.max()))]


def repeated(
    needs: Sequence[Need], endpoints: Mapping[str, Endpoint], retries: RetryBudget, verdict_retries: int
) -> int:
    """Bounds the requests that failures add: retries, and dialogues and verdicts that are asked for again.

    Args:
        needs: Requests if nothing fails.
        endpoints: Endpoints by role.
        retries: Retry budget of the client.
        verdict_retries: Further attempts for a verdict that failed.

    Returns:
        The bound.
    """
    total = sum(need.requests for need in needs)
    if not total:
        return 0
    further = JUDGE_SAMPLES - 1 + max(verdict_retries, EVALUATION_RETRIES)
    verdicts = sum(need.requests for need in needs if need.role == "judge") * further
    again = sum(need.requests for need in needs if need.phase == "training") * (EPISODE_ATTEMPTS - 1)
    at_once = {e.identity: min(e.max_concurrency, total) for e in endpoints.values() if not e.embedded}
    learnt = MOST_CHANGES * sum(at_once.values())  # refused because of a parameter, until the client leaves it out
    calls = total + verdicts + again + learnt
    most = max(endpoint.max_retries for endpoint in endpoints.values())
    return verdicts + again + learnt + min(math.floor(retries.reserve + retries.share * calls), calls * most)


EPISODE_ATTEMPTS = 3
"""How often one dialogue of the training is tried."""

EVALUATION_RETRIES = 1
"""Further attempts for a verdict of the evaluation's judge."""

JUDGE_SAMPLES = 2
"""Answers that the first attempt for a verdict may take; each further attempt takes one more."""


def _times(count: float, each: float) -> float:
    """The product, where infinity times 0 is 0."""
    return count * each if each else 0.0


def _spread(total: float, most: Sequence[float], shares: Sequence[float]) -> list[float]:
    """Divides requests among turns by their index: as many as possible, and of no turn more than there can be.

    Args:
        total: Sum over all turns.
        most: Maximum over the turns.
        shares: Proportions in which turns are played.
    """
    found = [min(total * share / sum(shares), bound) for share, bound in zip(shares, most, strict=True)]
    left = total - sum(found)
    for turn in reversed(range(len(found))):
        more = min(left, most[turn] - found[turn])
        found[turn] += more
        left -= more
    return found


def dearest(endpoints: Sequence[Endpoint]) -> Price:
    """The highest of each price: a bound where a policy may ask any of them."""
    return Price(*(max(getattr(e.price, f.name) for e in endpoints) for f in fields(Price)))


def branches(interface: ActionInterface) -> float:
    """The number of different replies that one state can lead to: that of the actions, or infinity."""
    space = interface.action_space
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return float(np.prod(space.nvec)) if isinstance(space, spaces.MultiDiscrete) else math.inf
