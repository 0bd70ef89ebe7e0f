"""Contestants of an evaluation: anything that plays a scenario to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias
from zlib import crc32

from ..core.errors import ConfigError, near_miss
from ..envs.dialogue import Dialogue
from ..envs.episode import Episode, Observation, Transition, as_turn
from ..envs.interfaces.one_phase import Plain
from ..envs.policies import PLAIN_SAMPLE, ConstantPolicy, Policy, RandomPolicy, constant_policies
from ..envs.scenarios.scenario import Scenario
from ..envs.task import Task
from ..inference.completion import Message
from ..plugins.batched_judge import BatchedJudge
from ..plugins.judge import Score, Turn

ActFunction: TypeAlias = Callable[[Observation, Dialogue], Awaitable[Any]]
"""From what is seen, and the dialogue itself, to the action."""


async def play_episode(
    task: Task, episode: Episode, act: ActFunction
) -> AsyncIterator[tuple[tuple[Message, ...], Transition]]:
    """Plays an episode.

    Args:
        task: The task.
        episode: The episode.
        act: Chooses the actions.

    Yields:
        Every turn: the messages before it, and what came of it.

    Raises:
        EpisodeFailed: If a call failed after its retries.
    """
    dialogue = Dialogue(task, observe_end=False)
    observation, _ = await dialogue.reset(episode)
    over = False
    while not over:
        action = await act(observation, dialogue)
        before = tuple(dialogue.state.messages)
        transition = await dialogue.step(action)
        observation, over = transition.observation, transition.terminated or transition.truncated
        yield before, transition


BASELINE_DRAW = 10_000
"""Where the plain baseline's samples begin: far from any candidate's, so that it is never compared with itself."""


@dataclass(frozen=True)
class Answer:
    """One dialogue as a contestant played it.

    Attributes:
        scenario: The scenario.
        repeat: Number of the independent repetition, from 0.
        turns: The assistant's turns, as judges see them.
        actions: The actions, in words.
    """

    scenario: Scenario
    repeat: int
    turns: tuple[Turn, ...]
    actions: tuple[str, ...]

    @property
    def reply(self) -> str:
        """The last reply."""
        return self.turns[-1].reply


class Contestant(Protocol):
    """Answers scenarios; called for many at once, on the client's loop."""

    name: str

    async def answer(self, scenario: Scenario, repeat: int) -> Answer:
        """Plays one scenario.

        Args:
            scenario: The scenario.
            repeat: Number of the repetition, from 0.

        Returns:
            The answer.

        Raises:
            EpisodeFailed: If a call failed after its retries.
        """
        ...


class PolicyContestant:
    """A policy on a task.

    Args:
        name: Name in tables.
        policy: The acting policy.
        task: The task without reward.
        first_draw: Added to the repeat to give the draw.
    """

    def __init__(self, name: str, policy: Policy, task: Task, first_draw: int = 0) -> None:
        self.name = name
        self.task = task
        self._policy = policy
        self._first_draw = first_draw

    async def answer(self, scenario: Scenario, repeat: int) -> Answer:
        """Plays one scenario to its end."""
        turns: list[Turn] = []
        actions: list[str] = []
        episode = Episode(repeat, scenario, self._first_draw + repeat)
        async for before, transition in play_episode(
            self.task, episode, lambda seen, dialogue: self._act(seen, dialogue, scenario, repeat)
        ):
            over = transition.terminated or transition.truncated
            actions.append(transition.info["action"])
            reply, reason = transition.info["reply"], transition.info["finish_reason"]
            turns.append(as_turn(scenario, before, len(turns), reply, reason, over))
        return Answer(scenario, repeat, tuple(turns), tuple(actions))

    async def _act(self, observation: Observation, dialogue: Dialogue, scenario: Scenario, repeat: int) -> Any:
        return self._policy.act(observation, (crc32(scenario.id.encode()), repeat, dialogue.state.turn))


class OracleContestant(PolicyContestant):
    """Sends the candidate that the report's own judge likes best: what no policy on these candidates can beat.

    Args:
        task: A task whose interface chooses among replies.
        batched_judge: The report's judge, if it scores replies one by one.
        name: Name in tables.
        first_draw: Added to the repeat to give the draw.
    """

    def __init__(
        self, task: Task, batched_judge: BatchedJudge, name: str = "best-of-n oracle", first_draw: int = 0
    ) -> None:
        super().__init__(name, ConstantPolicy(0), task, first_draw)
        self._batched_judge = batched_judge

    async def _act(self, observation: Observation, dialogue: Dialogue, scenario: Scenario, repeat: int) -> Any:
        messages, index = tuple(dialogue.state.messages), dialogue.state.turn
        values = []
        for candidate in dialogue.state.proposals:
            turn = as_turn(scenario, messages, index, candidate.text, candidate.finish_reason)
            verdict = await self._batched_judge.score(turn)
            values.append(verdict.value if isinstance(verdict, Score) else float("-inf"))
        return max(range(len(values)), key=values.__getitem__)


KINDS = ("policy", "constants", "random", "oracle")


def check_kinds(kinds: Sequence[str]) -> None:
    """Refuses anything but a list of `KINDS`.

    Args:
        kinds: The configured list.

    Raises:
        ValueError: If it is empty, no list, or names an unknown kind.
    """
    if isinstance(kinds, str) or not kinds:
        raise ValueError(f"`contestants` must be a list like [policy, random], not {kinds!r}")
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"`contestants` holds `{kind}`, which is no kind: {near_miss(str(kind), KINDS)}")


def make_contestants(
    kinds: Sequence[str], policy: Policy, task: Task, batched_judge: BatchedJudge | None
) -> list[Contestant]:
    """Builds the contestants of an evaluation.

    Args:
        kinds: Of `KINDS`: the trained policy, every constant policy (see `constant_policies`), a random one, the best-of-n oracle. The oracle is
            left out where the interface has no candidates or the judge only compares pairs.
        policy: The trained policy.
        task: The task without reward.
        batched_judge: The report's judge, if it scores replies one by one.

    Returns:
        The contestants.

    Raises:
        ValueError: If a kind is unknown.
        ConfigError: If nobody is left.
    """
    check_kinds(kinds)
    contestants: list[Contestant] = []
    for kind in kinds:
        if kind == "policy":
            contestants.append(PolicyContestant("trained policy", policy, task))
        elif kind == "constants":
            named = constant_policies(task.interface).items()
            contestants += [
                PolicyContestant(name if name == PLAIN_SAMPLE else f"always {name}", constant, task)
                for name, constant in named
            ]
        elif kind == "random":
            contestants.append(PolicyContestant("random", RandomPolicy(task.interface.action_space), task))
        elif batched_judge is not None and task.interface.chooses_reply:
            contestants.append(OracleContestant(task, batched_judge))
    if not contestants:
        raise ConfigError(
            "`evaluation.contestants` leaves nobody to play: the oracle needs an interface with candidates and a "
            "judge that scores replies one by one. Add `policy`"
        )
    return contestants


def plain_baseline(task: Task) -> PolicyContestant:
    """One plain sample of the same model under the same system prompt."""
    return PolicyContestant("plain model", ConstantPolicy(0), replace(task, interface=Plain()), BASELINE_DRAW)
