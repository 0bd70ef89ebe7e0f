"""What TRL's GRPO asks of an environment: dialogues as token sequences, and the judges' rewards for them.

Where every dialogue is one question and one answer TRL samples the answers by its own means (also by vLLM), and the judges are
its reward function. Where the user answers, dialogues are played here: what the user says stands between the model's turns in one
sequence, and is masked, so that only the model's own tokens are learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from trl.models import unwrap_model_for_generation

from ...envs.scenarios import Scenario
from ...inference.completion import Completion, Message
from ...inference.errors import ConfigError
from .playing import Play, Playing
from .writer import LocalWriter

OnPlayed = Callable[[Sequence[Play]], None]


def single_turn(playing: Playing) -> bool:
    """Whether every dialogue is over after one turn, whatever is said."""
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
        seed: Of the sampling.
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
        """Of a dialogue that failed before its first turn: TRL wants a token of everyone."""
        made = cls(writer, scenario.opening(playing.task.system))
        made.completion, made.mask = [writer.local.tokenizer.eos_token_id], [0]
        return made

    def hear(self, messages: Sequence[Message]) -> None:
        """Adds what the user said last, and the beginning of the model's next turn."""
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
    """What the chat template puts between two turns of the model.

    That is the token that ends one, the user's message, and the next one's beginning.

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
