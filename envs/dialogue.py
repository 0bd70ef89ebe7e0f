"""One dialogue as an asynchronous state machine; the three shells (Gymnasium, vector, Stable-Baselines3) wear it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from ..core.errors import CallFailed, DuologueError
from ..inference.completion import Completion, Message
from ..plugins.judge import Failure, Judged, Turn
from .episode import DialogueState, Episode, EpisodeFailed, Observation, Transition, TurnDeadline, as_turn
from .interfaces.base import Request
from .scenarios.scenario import Scenario
from .task import Task

T = TypeVar("T")


class Dialogue:
    """Plays one episode at a time; all its coroutines run on the client's loop.

    Args:
        task: The parts that all dialogues share.
        observe_end: Whether the state in which a terminated dialogue is left is observed. Nobody acts on it or estimates
            its value, but environments show it; without, the last observation is shown again.

    Attributes:
        state: The dialogue so far.
        seen: The latest observation.
    """

    def __init__(self, task: Task, *, observe_end: bool = True) -> None:
        self.task = task
        self._observer = task.observer
        self._observe_end = observe_end
        self.seen: Observation = {}
        self._scenario: Scenario = task.scenarios[0]
        self._over = True
        self._potentials: Mapping[str, float] = {}
        self.state = DialogueState([])

    async def reset(self, episode: Episode) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode.

        Args:
            episode: The episode to play.

        Returns:
            The first observation and info.

        Raises:
            EpisodeFailed: If a call failed, or the first turn was not open in time.
            DuologueError: What no retry can mend.
        """
        self._begin(episode)
        observation = await self._in_time(self._open_turn())
        self._over = False
        return observation, {
            "scenario": episode.scenario.id,
            "episode_number": episode.number,
            "draw": episode.draw,
            "messages": self._messages(),
        }

    async def try_api(self, episode: Episode) -> None:
        """Sends the first request of an episode alone, to check the API.

        An API that lacks what the interface requires is so refused at the price of one request instead of as many as may
        be under way; the cassette keeps the answer for the episode.

        Args:
            episode: The episode to try.

        Raises:
            DuologueError: What no retry can mend.
        """
        self._begin(episode)
        with suppress(EpisodeFailed):  # the episode itself will try again, and counts
            await self._ask(self.task.interface.propose(self.state)[:1])

    def _begin(self, episode: Episode) -> None:
        self._over = True  # until the first turn is open
        self._potentials = {}
        self._scenario = episode.scenario
        self.state = DialogueState(episode.scenario.opening(self.task.system), draw=episode.draw)

    async def step(self, action: Any) -> Transition:
        """Carries out an action: the assistant's turn, its verdicts and the user's answer.

        A truncated dialogue would have gone on: where there is a reward to learn from, a two-phase interface proposes
        candidates once more, which costs ``requests_per_turn`` requests. Nothing is asked after a termination, nor in
        tasks without a reward.

        Args:
            action: Action of the interface's space.

        Returns:
            The transition.

        Raises:
            EpisodeFailed: If a call or a judge failed, or the turn took too long; the episode is over, and this turn
                has no reward.
            ConfigError: If the action is not in the space; nothing has changed then.
            DuologueError: What no retry can mend.
        """
        if self._over:
            raise DuologueError("`step` was called on a dialogue that is over: call `reset` first")
        self.task.interface.check(action)
        self._over = True  # unless this step goes well and the dialogue goes on
        return await self._in_time(self._step(action))

    async def step_or_end(self, action: Any) -> Transition:
        """Carries out an action; a failure ends the episode as a truncation.

        Args:
            action: Action of the interface's space.

        Returns:
            As `step`; or if it failed, a truncated transition without a reward, which is NaN, that shows the state before
            the action once more and says in ``info`` under ``failure`` and ``failure_cause`` what happened.

        Raises:
            DuologueError: What no retry can mend.
        """
        try:
            return await self.step(action)
        except EpisodeFailed as error:
            info = {"scenario": self._scenario.id, "failure": str(error), "failure_cause": error.cause}
            return Transition(self.seen, math.nan, False, True, info)

    async def _in_time(self, job: Coroutine[Any, Any, T]) -> T:
        """Does a turn's work within the task's deadline."""
        limit_s = self.task.turn_deadline_s
        if limit_s is None:
            return await job
        timer = asyncio.timeout(limit_s)
        try:
            async with timer:
                return await job
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise TurnDeadline("deadline", f"the turn took longer than `env.turn_deadline_s={limit_s:g}`") from error

    async def _step(self, action: Any) -> Transition:
        task, state = self.task, self.state
        completions = await self._ask(task.interface.compile(action, state))
        completion = task.interface.reply(action, state, completions)
        turn = self.turn(completion)
        state.messages.append({"role": "assistant", "content": completion.text})
        state.turn += 1
        asked = [*state.proposals, *completions]
        spent = {
            "requests": len(asked),
            "completion_tokens": sum(c.completion_tokens for c in asked),
            "cost_usd": sum(c.cost_usd for c in asked),
        }
        judged, answer = await self._judge_and_answer(turn, asked)
        self._potentials = judged.potentials
        terminated = self._ended(answer)
        truncated = not terminated and state.turn >= task.max_turns
        if answer is not None:
            state.messages.append({"role": "user", "content": answer})
        if terminated or (truncated and task.reward is None):
            state.proposals = ()
            observation = await self._observe() if self._observe_end else self.seen
        else:
            observation = await self._open_turn()
            self._over = truncated
        info = self._info(action, completion, judged) | spent
        return Transition(observation, judged.reward or 0.0, terminated, truncated, info)

    async def _open_turn(self) -> Observation:
        proposals = self.state.proposals = await self._ask(self.task.interface.propose(self.state))
        if len(proposals) > 1:
            self.task.client.meter.count_candidates([proposal.text for proposal in proposals])
        self.seen = await self._observe()
        return self.seen

    async def _observe(self) -> Observation:
        try:
            return await self._observer.observe(self.state)
        except CallFailed as error:
            raise EpisodeFailed("encoder", str(error)) from error

    async def _ask(self, requests: Sequence[Request]) -> list[Completion]:
        calls = [self._call(request) for request in requests]
        try:
            return [await calls[0]] if len(calls) == 1 else list(await asyncio.gather(*calls))
        except CallFailed as error:
            raise EpisodeFailed("assistant", str(error)) from error

    def _call(self, request: Request) -> Coroutine[Any, Any, Completion]:
        task = self.task
        endpoint = task.endpoint(request.route)
        sampling = replace(endpoint.sampling, **request.sampling) if request.sampling else None
        return task.client.chat(
            endpoint,
            request.messages,
            sampling=sampling,
            sample_index=self.state.draw * task.interface.requests_per_turn + request.index,
            logprobs=request.logprobs,
            top_logprobs=request.top_logprobs,
            keep=request.sampling or (),
        )

    def _ended(self, answer: str | None) -> bool:
        """Whether the dialogue has terminated; ``max_turns`` counts as its end where a judge waits for one."""
        reward = self.task.reward
        return answer is None or (reward is not None and reward.judges_ends and self.state.turn >= self.task.max_turns)

    async def _judge(self, turn: Turn, spent: Sequence[Completion], ended: bool | Awaitable[bool]) -> Judged:
        assert self.task.reward is not None
        cost_usd, tokens = sum(c.cost_usd for c in spent), sum(c.completion_tokens for c in spent)
        judged = await self.task.reward.judge(turn, ended, self._potentials, cost_usd, tokens)
        for name, verdict in judged.verdicts.items():
            if isinstance(verdict, Failure):
                raise EpisodeFailed(name, verdict.error)
        if judged.reward is None:
            raise EpisodeFailed("reward", judged.failure or "no verdict")
        return judged

    async def _judge_and_answer(self, turn: Turn, spent: Sequence[Completion]) -> tuple[Judged, str | None]:
        """Judges the turn and asks the user concurrently; an immediate user needs no task."""
        if self.task.reward is None:
            return Judged(0.0), await self._answer()
        if getattr(self.task.user, "immediate", False):
            answer = await self._answer()
            return await self._judge(turn, spent, self._ended(answer)), answer
        answering = asyncio.ensure_future(self._answer())

        async def ended() -> bool:
            return self._ended(await answering)

        judged, answer = await asyncio.gather(self._judge(turn, spent, ended()), answering)
        return judged, answer

    async def _answer(self) -> str | None:
        try:
            return await self.task.user.reply(self._scenario, self.state)
        except CallFailed as error:
            raise EpisodeFailed("user", str(error)) from error

    def turn(self, completion: Completion) -> Turn:
        """Builds the turn that judges see from a reply."""
        index = self.state.turn
        return as_turn(
            self._scenario,
            tuple(self.state.messages),
            index,
            completion.text,
            completion.finish_reason,
            last=index + 1 >= self.task.turns(self._scenario),
        )

    def _info(self, action: Any, completion: Completion, judged: Judged) -> dict[str, Any]:
        return {
            "scenario": self._scenario.id,
            "turn": self.state.turn,
            "action": self.task.interface.describe(action),
            "reply": completion.text,
            "finish_reason": completion.finish_reason,
            "messages": self._messages(),
            **judged.logged,
        }

    def _messages(self) -> tuple[Message, ...]:
        """The dialogue so far; copies, for users keep what they are given."""
        return tuple(message.copy() for message in self.state.messages)
