"""A local model that writes the assistant's turns in batches.

What is drawn for a turn depends on its dialogue and its key only, not on who else is in the batch: each row brings its own
noise, and the likeliest token of logits plus Gumbel noise is a sample of their softmax (Maddison, Tarlow and Minka 2014).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch as th
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, TopPLogitsWarper

from ...core.concurrency import Batches
from ...inference.completion import Completion, Message
from .local_model import LocalModel


@dataclass(frozen=True)
class Decoding:
    """Sampling of turns, with TRL's names.

    Attributes:
        temperature: 0 for the likeliest token.
        top_p: Share of the probability from which tokens are drawn.
        max_completion_length: Tokens of a turn, at most.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_completion_length: int = 64

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.max_completion_length < 1:
            raise ValueError(
                "`temperature` must be at least 0, `top_p` in (0, 1] and `max_completion_length` at least 1, not "
                f"{self.temperature}, {self.top_p} and {self.max_completion_length}"
            )


class LocalWriter:
    """Writes turns with a local model.

    Args:
        local: The model.
        decoding: Sampling of the turns.
    """

    def __init__(self, local: LocalModel, decoding: Decoding) -> None:
        self.local, self.decoding = local, decoding

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """A dialogue as the model reads it, up to where its turn begins."""
        ids = self.local.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)
        return list(ids["input_ids"])

    def write(self, dialogues: Sequence[Sequence[Message]], keys: Sequence[int]) -> list[Completion]:
        """Writes the next turn of each dialogue.

        Args:
            dialogues: Messages that end with a user's turn.
            keys: Number of the independent sample, per dialogue.

        Returns:
            One completion per dialogue.
        """
        prompts = [self.prompt_ids(messages) for messages in dialogues]
        seeds = [crc32(repr((ids, key)).encode()) for ids, key in zip(prompts, keys, strict=True)]
        written = self.continue_ids(prompts, seeds)
        return [self.completion(ids, len(prompt)) for ids, prompt in zip(written, prompts, strict=True)]

    def completion(self, ids: Sequence[int], prompt_tokens: int = 0) -> Completion:
        """Tokens as a turn, which was cut where no token ends it."""
        text = self.local.tokenizer.decode(ids, skip_special_tokens=True)
        ended = bool(ids) and ids[-1] in self.local.eos_ids
        reason = "stop" if ended else "length"
        return Completion(text.strip(), finish_reason=reason, prompt_tokens=prompt_tokens, completion_tokens=len(ids))

    def continue_ids(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], model: Any = None
    ) -> list[list[int]]:
        """Continues token sequences, each up to the token that ends a turn, that one included.

        Args:
            prompts: At least one.
            seeds: Seeds of the rows' noise.
            model: Another than the writer's own, such as one in training.

        Returns:
            The new token ids of each row.
        """
        model = self.local.model if model is None else model
        longest = max(len(ids) for ids in prompts)
        pad = self.local.tokenizer.pad_token_id
        rows = [[pad] * (longest - len(ids)) + list(ids) for ids in prompts]
        mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]
        ends = sorted(self.local.eos_ids)
        settings = GenerationConfig(
            max_new_tokens=self.decoding.max_completion_length, do_sample=False, eos_token_id=ends, pad_token_id=pad
        )
        with th.no_grad():
            out = model.generate(
                input_ids=th.tensor(rows, device=model.device),  # (B, longest)
                attention_mask=th.tensor(mask, device=model.device),
                generation_config=settings,
                logits_processor=self._noise(seeds, model.device),
            )
        return [_up_to_end(ids, self.local.eos_ids) for ids in out[:, longest:].tolist()]

    def _noise(self, seeds: Sequence[int], device: Any) -> LogitsProcessorList:
        decoding = self.decoding
        if decoding.temperature == 0:
            return LogitsProcessorList()
        return LogitsProcessorList([_GumbelNoise(decoding.temperature, decoding.top_p, seeds, device)])


class _GumbelNoise(LogitsProcessor):  # type: ignore[misc]  # transformers has no types here
    """Makes the likeliest token a sample, with noise of each row's own."""

    def __init__(self, temperature: float, top_p: float, seeds: Sequence[int], device: Any) -> None:
        self._temperature = temperature
        self._nucleus = TopPLogitsWarper(top_p) if top_p < 1 else None
        self._generators = [th.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: th.Tensor, scores: th.Tensor) -> th.Tensor:
        """Logits, over the temperature, plus noise; (B, vocabulary)."""
        scores = scores.float() / self._temperature
        if self._nucleus is not None:
            scores = self._nucleus(input_ids, scores)
        uniform = th.stack([th.rand(scores.shape[1], generator=g, device=scores.device) for g in self._generators])
        return scores - (-uniform.clamp_min(1e-20).log()).log()


def _up_to_end(ids: Sequence[int], ends: frozenset[int]) -> list[int]:
    for place, token in enumerate(ids):
        if token in ends:
            return list(ids[: place + 1])
    return list(ids)


_Wanted = tuple[Sequence[Message], int]
"""The messages, and which of several independent turns."""


class BatchedWriter:
    """Batches the turns that coroutines wait for and writes them in a thread.

    Args:
        writer: The local writer.
        batch_size: Turns that are written together, at most.
        lock: Shared by desks of one model, which does one batch at a time.
    """

    def __init__(self, writer: LocalWriter, batch_size: int = 32, lock: threading.Lock | None = None) -> None:
        self._writer, self._lock = writer, lock or threading.Lock()
        self._batches: Batches[_Wanted, Completion] = Batches(self._in_thread, batch_size)

    async def write(self, messages: Sequence[Message], key: int) -> Completion:
        """The next turn of a dialogue; see `LocalWriter.write`."""
        return await self._batches.ask((tuple(messages), key))

    async def _in_thread(self, wanted: Sequence[_Wanted]) -> list[Completion]:
        return await asyncio.get_running_loop().run_in_executor(None, self._write, wanted)

    def _write(self, wanted: Sequence[_Wanted]) -> list[Completion]:
        with self._lock:
            return self._writer.write([messages for messages, _ in wanted], [key for _, key in wanted])
