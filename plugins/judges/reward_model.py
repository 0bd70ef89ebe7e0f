"""A model that was trained to give rewards: on this machine, or behind a server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec

from ...core.errors import CallFailed, ConfigError
from ...inference.endpoint import Endpoint
from ..judge import Failure, JudgeContext, Score, Turn, Verdict, defines_judge
from .asking import dialogue

Via = Literal["transformers", "score", "rerank", "classify"]


@defines_judge(name="reward_model", summary="a model trained to give rewards, here or behind a server", cost="model")
def make_reward_model(
    context: JudgeContext,
    model: str = "",
    via: Via = "transformers",
    base_url: str = "",
    api_key_env: str | None = None,
    price: Mapping[str, Any] | None = None,
    label: int = -1,
    squash: bool = False,
    max_length: int = 1024,
    device: str = "auto",
) -> LocalRewardModel | RemoteRewardModel:
    """Builds the judge.

    Args:
        context: Context with the client.
        model: A folder or a Hugging Face name for ``transformers``; else the name that the server knows it by.
        via: ``transformers``: a sequence-classification model on this machine. Or one of a server's endpoints, in the form
            that vLLM documents: ``score`` and ``rerank`` send the dialogue and the reply, ``classify`` both as one text.
        base_url: The server's address up to what ``/score``, ``/rerank`` or ``/classify`` is added to.
        api_key_env: See `Endpoint`.
        price: Settings of `Price`, for the budget and the report.
        label: Index of the output that is the reward, for models with several; the last by default.
        squash: Whether the logistic function is applied, so that the score lies in [0, 1].
        max_length: Tokens after which the beginning of a long dialogue is cut off; for ``transformers``.
        device: For ``transformers``: ``auto`` is the GPU if there is one.

    Returns:
        The judge.

    Raises:
        ValueError: If ``model`` or ``base_url`` is missing.
        ConfigError: If the model cannot be loaded, or the address is refused.
    """
    if not model:
        raise ValueError("`model` is empty: name a folder, a Hugging Face model, or the server's model")
    if via == "transformers":
        return LocalRewardModel(model, label, squash, max_length, device)
    if not base_url:
        raise ValueError(f"`base_url` is empty: it is the address of the server whose /{via} is asked")
    settings = {"base_url": base_url, "model": model, "api_key_env": api_key_env, "price": price}
    endpoint = Endpoint.from_settings(settings, "reward_model")
    return RemoteRewardModel(context, endpoint, via, label, squash)


class LocalRewardModel:
    """A sequence-classification model by transformers: its logit, or the logistic function of it."""

    def __init__(self, model: str, label: int, squash: bool, max_length: int, device: str) -> None:
        try:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer
        except ImportError as error:
            raise ConfigError(
                "the judge `reward_model` needs torch and transformers: run `pip install 'duologue[local]'`"
            ) from error
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model, truncation_side="left", trust_remote_code=False)
            loaded = AutoModelForSequenceClassification.from_pretrained(model, trust_remote_code=False)
            self._model = loaded.eval().to(chosen)
        except Exception as error:  # transformers, tokenizers and safetensors have their own kinds
            raise ConfigError(
                f"the reward model `{model}` cannot be loaded: {' '.join(str(error).split())[:200]}"
            ) from error
        labels = self._model.config.num_labels
        if not -labels <= label < labels:
            raise ConfigError(f"`label={label}`, but `{model}` has {labels} outputs")
        longest = getattr(self._model.config, "max_position_embeddings", None) or max_length
        self._max_length = min(max_length, longest, self._tokenizer.model_max_length)
        self._torch, self._label, self._squash = torch, label, squash

    async def score(self, batch: Sequence[Turn]) -> list[Verdict]:
        """One verdict per turn; all in one forward pass, on another thread."""
        return await asyncio.to_thread(self._forward, list(batch)) if batch else []

    def _forward(self, batch: Sequence[Turn]) -> list[Verdict]:
        texts = [self._text(turn) for turn in batch]
        inputs = self._tokenizer(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=self._max_length
        ).to(self._model.device)
        with self._torch.inference_mode():
            logits = self._model(**inputs).logits[:, self._label].double().tolist()
        return [_scored(value, self._squash) for value in logits]

    def _text(self, turn: Turn) -> str:
        messages: list[Any] = [*turn.messages, {"role": "assistant", "content": turn.reply}]
        if self._tokenizer.chat_template:
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False))
        return f"{dialogue(turn)}\nassistant: {turn.reply}"

    async def aclose(self) -> None:
        """Frees the model."""
        self._model = None


class RemoteRewardModel:
    """A reward model behind a server; one request a turn, so that the cassette knows it again."""

    concurrent = True  # a call a turn
    requests_per_turn = 1

    def __init__(self, context: JudgeContext, endpoint: Endpoint, via: Via, label: int, squash: bool) -> None:
        self._client, self._endpoint, self._via = context.client, endpoint, via
        self._label, self._squash = label, squash

    async def score(self, batch: Sequence[Turn]) -> list[Verdict]:
        """One verdict per turn; all are asked for at once."""
        return list(await asyncio.gather(*map(self._one, batch)))

    async def _one(self, turn: Turn) -> Verdict:
        asked = dialogue(turn)
        fields, read = {
            "score": ({"text_1": asked, "text_2": turn.reply}, _read_score),
            "rerank": ({"query": asked, "documents": [turn.reply]}, _read_rank),
            "classify": ({"input": [f"{asked}\nassistant: {turn.reply}"]}, self._read_class),
        }[self._via]
        try:
            value, cost = await self._client.post(self._endpoint, f"/{self._via}", fields, read, role="judge")  # type: ignore[arg-type]
        except CallFailed as error:
            return Failure(str(error))
        verdict = _scored(value, self._squash)
        return replace(verdict, cost_usd=cost) if isinstance(verdict, Score) else verdict

    def _read_class(self, raw: bytes) -> float:
        found = _first(raw, "data", "results")
        numbers = found.get("probs") or found.get("scores") if isinstance(found, dict) else None
        if not isinstance(numbers, list) or not -len(numbers) <= self._label < len(numbers):
            raise ValueError(f"no output number {self._label}")
        return _number(numbers[self._label])

    async def aclose(self) -> None:
        """The client is shared and not ours to close."""


def _scored(value: float, squash: bool) -> Verdict:
    if not math.isfinite(value):
        return Failure(f"the model's output is {value}")
    return Score(0.5 * (1 + math.tanh(value / 2)) if squash else value, {"logit": value} if squash else {})


def _first(raw: bytes, *names: str) -> Any:
    """The only entry of the list that an answer is, or holds under one of these names."""
    decoded = msgspec.json.decode(raw)
    entries = decoded if isinstance(decoded, list) else next((decoded[n] for n in names if n in decoded), None)
    if not isinstance(entries, list) or len(entries) != 1:
        raise ValueError(f"there is not one entry under {' or '.join(names)}")
    return entries[0]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _field(names: Sequence[str], *lists: str) -> Callable[[bytes], float]:
    def read(raw: bytes) -> float:
        found = _first(raw, *lists)
        value = next((found[name] for name in names if name in found), None) if isinstance(found, dict) else found
        return _number(value)

    return read


_read_score = _field(("score",), "data", "results")
_read_rank = _field(("relevance_score", "score"), "results", "data")
