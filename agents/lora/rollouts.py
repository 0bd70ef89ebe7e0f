"""Dialogues as TRL's GRPO needs them: token sequences with the judges' rewards."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from trl.models import unwrap_model_for_generation

from ...core.errors import ConfigError
from ...envs.dialogue import Dialogue
from ...envs.episode import Episode, EpisodeFailed
from ...envs.scenarios.scenario import Scenario
from ...envs.task import Task
from ...inference.completion import Completion, Message
from ..rollouts import FailureWatch
from .writer import LocalWriter

Write = Callable[[Sequence["Play"]], Sequence[Completion]]


@dataclass
class Play:
    """A dialogue that is being played.

    Attributes:
        scenario: The scenario.
        messages: The dialogue so far.
        rewards: Rewards of the turns.
        infos: Likewise, see `DialogueEnv`.
        over: Whether it has ended.
        failure: Why it ended before its time.
    """

    scenario: Scenario
    messages: Sequence[Message] = ()
    rewards: list[float] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)
    over: bool = False
    failure: EpisodeFailed | None = None

    def worth(self, gamma: float) -> float | None:
        """The discounted sum of its rewards; None if anything in it failed."""
        if self.failure is not None:
            return None
        return sum(gamma**turn * reward for turn, reward in enumerate(self.rewards))


class Playing:
    """Plays dialogues on the `text` interface.

    Args:
        task: The task, with the interface `text`.
        max_failure_fraction: Share of failed dialogues, over the last 50, above which the run stops.
    """

    def __init__(self, task: Task, max_failure_fraction: float = 0.2) -> None:
        self.task = task
        self._watch = FailureWatch(max_failure_fraction, "dialogues")
        self.failures: Counter[str] = Counter()

    def play(self, scenarios: Sequence[Scenario], write: Write) -> list[Play]:
        """Plays each scenario to its end; all dialogues that wait for a turn get it together.

        Args:
            scenarios: One for each dialogue.
            write: Gives the next turn of each of the dialogues that it is handed.

        Returns:
            One play per scenario.

        Raises:
            TooManyFailures: If more failed than is allowed.
            DuologueError: What no retry can mend.
        """
        plays = [Play(scenario) for scenario in scenarios]
        dialogues = [Dialogue(self.task, observe_end=False) for _ in scenarios]
        self.task.client.run(_all(_start(play, dialogue) for play, dialogue in zip(plays, dialogues, strict=True)))
        while waiting := [(play, dialogue) for play, dialogue in zip(plays, dialogues, strict=True) if not play.over]:
            written = write([play for play, _ in waiting])
            steps = (_step(*pair, turn) for pair, turn in zip(waiting, written, strict=True))
            self.task.client.run(_all(steps))
        for play in plays:
            if play.failure is not None:
                self.failures[play.failure.cause] += 1
            self._watch.add(play.failure)
        if self.task.reward is not None:
            self.task.reward.observe(info for play in plays for info in play.infos)
        return plays


async def _start(play: Play, dialogue: Dialogue) -> None:
    try:
        _, info = await dialogue.reset(Episode(0, play.scenario))
        play.messages = info["messages"]
    except EpisodeFailed as error:
        play.over, play.failure = True, error


async def _step(play: Play, dialogue: Dialogue, turn: Completion) -> None:
    try:
        transition = await dialogue.step(turn)
    except EpisodeFailed as error:
        play.over, play.failure = True, error
        return
    play.messages = transition.info["messages"]
    play.rewards.append(transition.reward)
    play.infos.append(transition.info)
    play.over = transition.terminated or transition.truncated


async def _all(coroutines: Any) -> None:
    """Waits for every one, then raises the first error."""
    for result in await asyncio.gather(*coroutines, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


OnPlayed = Callable[[Sequence[Play]], None]


def single_turn(playing: Playing) -> bool:
    """Whether every dialogue ends after one turn."""
    return all(playing.task.turns(scenario) == 1 for scenario in playing.task.scenarios)


class Judges:
    """TRL's reward function: the judges' composition as one number for each completion, None where there is none.

    Args:
        playing: Plays and judges.
        writer: Reads completions.
        gamma: Discount of later turns.
        told: Gets the dialogues of each batch when they are over.
    """

    __name__ = "judges"  # what TRL calls it in its logs

    def __init__(self, playing: Playing, writer: LocalWriter, gamma: float, told: OnPlayed) -> None:
        self._playing, self._writer, self._gamma, self._told = playing, writer, gamma, told
        self._scenarios = {scenario.id: scenario for scenario in playing.task.scenarios}

    def __call__(
        self, *, scenario: Sequence[str], completion_ids: Sequence[Sequence[int]], **rest: Any
    ) -> list[float | None]:
        """The rewards of completions; TRL gives None no advantage and leaves it out of the group's mean."""
        if "worth" in rest:  # of dialogues that `Rollout` has played
            return list(rest["worth"])
        turns = iter([self._writer.completion(ids) for ids in completion_ids])
        plays = self._playing.play(self.chosen(scenario), lambda waiting: [next(turns) for _ in waiting])
        self._told(plays)
        return [play.worth(self._gamma) for play in plays]

    def chosen(self, names: Sequence[str]) -> list[Scenario]:
        """The scenarios of these names."""
        return [self._scenarios[name] for name in names]


class Rollout:
    """TRL's `rollout_func` for dialogues.

    Args:
        playing: Plays and judges.
        writer: Tells how the model reads dialogues, and how it is sampled.
        gamma: Discount of later turns.
        seed: Seed of the sampling.
        told: Gets the dialogues of each batch when they are over.
        batches: Batches that earlier parts of a resumed run played.
    """

    def __init__(
        self, playing: Playing, writer: LocalWriter, gamma: float, seed: int, told: OnPlayed, batches: int = 0
    ) -> None:
        self._playing, self._writer, self._gamma, self._told = playing, writer, gamma, told
        self._scenarios = {scenario.id: scenario for scenario in playing.task.scenarios}
        self._seed, self._batches = seed, batches

    def __call__(self, prompts: Sequence[Sequence[dict[str, str]]], trainer: Any) -> dict[str, Any]:
        """Plays one dialogue for each prompt.

        Returns:
            Token ids of prompts and of what followed, ``env_mask`` with 0 for what the user said, and ``worth``.
        """
        scenarios = [self._scenarios[prompt[-1]["scenario"]] for prompt in prompts]
        tokens: dict[int, _Tokens] = {}
        base = (self._seed * 1_000_003 + self._batches) * 65_537
        self._batches += 1

        def write(waiting: Sequence[Play]) -> list[Completion]:
            rows = [tokens.setdefault(id(play), _Tokens(self._writer, play.messages)) for play in waiting]
            for row, play in zip(rows, waiting, strict=True):
                row.hear(play.messages)
            seeds = [(base + 4099 * row.turns + number) % 2**63 for number, row in enumerate(rows)]
            with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
                ids = self._writer.continue_ids([row.prompt + row.completion for row in rows], seeds, model)
            return [row.say(own) for row, own in zip(rows, ids, strict=True)]

        plays = self._playing.play(scenarios, write)
        self._told(plays)
        rows = [tokens.get(id(play)) or _Tokens.unplayed(self._writer, play.scenario, self._playing) for play in plays]
        return {
            "prompt_ids": [row.prompt for row in rows],
            "completion_ids": [row.completion for row in rows],
            "logprobs": None,
            "env_mask": [row.mask for row in rows],
            "worth": [play.worth(self._gamma) for play in plays],
        }


class _Tokens:
    """One dialogue as a token sequence: the prompt, then turns of the model (mask 1) and of the user (mask 0)."""

    def __init__(self, writer: LocalWriter, messages: Sequence[Message]) -> None:
        self._writer = writer
        self.prompt = writer.prompt_ids(messages)
        self.completion: list[int] = []
        self.mask: list[int] = []
        self.turns = 0

    @classmethod
    def unplayed(cls, writer: LocalWriter, scenario: Scenario, playing: Playing) -> _Tokens:
        """Placeholder of a dialogue that failed before its first turn: TRL needs at least one token."""
        made = cls(writer, scenario.opening(playing.task.system))
        made.completion, made.mask = [writer.local.tokenizer.eos_token_id], [0]
        return made

    def hear(self, messages: Sequence[Message]) -> None:
        """Appends the user's last message and the beginning of the model's next turn."""
        if self.completion:
            ended = self.completion[-1] in self._writer.local.eos_ids
            self._add(between_turns(self._writer, messages[-1])[ended:], 0)

    def say(self, ids: list[int]) -> Completion:
        """Adds the model's turn."""
        self._add(ids, 1)
        self.turns += 1
        return self._writer.completion(ids)

    def _add(self, ids: Sequence[int], mask: int) -> None:
        self.completion += ids
        self.mask += [mask] * len(ids)


def between_turns(writer: LocalWriter, said: Message) -> list[int]:
    """Tokenizes the text between two turns of the model.

    That is the token that ends one, the user's message, and the next one's beginning.

    Args:
        writer: The local model.
        said: The user's message.

    Returns:
        Token ids.

    Raises:
        ConfigError: If the template ends turns by no token that the model knows as an end.
    """
    before: list[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    whole = writer.prompt_ids([*before, said])
    ended = writer.local.tokenizer.apply_chat_template(before, return_dict=True)["input_ids"]
    with suppress(StopIteration):
        last = next(place for place in reversed(range(len(ended))) if ended[place] in writer.local.eos_ids)
        if whole[: last + 1] == list(ended[: last + 1]):
            return whole[last:]
    raise ConfigError(
        f"the chat template of `{writer.local.name}` does not end a turn by one of the model's end tokens, so dialogues of "
        "several turns cannot be told from one: set `env.max_turns=1`, or choose another model"
    )
