"""Texts to vectors: what observations and semantic judges are computed from.

    static     WordLlama's token averages, 256 numbers, 0.1 ms a text, no torch; the default
    minilm     all-MiniLM-L6-v2 from its wheel, 384 numbers, tens of ms a text
    hashing    word and character n-grams hashed into buckets; needs no model at all
    endpoint   the ``/embeddings`` of any OpenAI-compatible server

Every vector has length 1 (or 0 for an empty text), so that a dot product is the cosine.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import ConfigError
from ..core.settings import named
from .client import InferenceClient
from .endpoint import Endpoint, Price

Vectors = npt.NDArray[np.float32]


class Encoder(ABC):
    """Encodes texts in batches and remembers them.

    Attributes:
        dim: Length of a vector.
        endpoint: The server that it sends texts to; None if it computes on this machine.
        settings: Plain values from which `make_encoder` builds the same encoder.
    """

    name: str
    dim: int
    endpoint: Endpoint | None = None
    cache_size = 10_000  # texts: some 15 MB, and a training set's candidates fit

    def __init__(self) -> None:
        self._cache: OrderedDict[str, Vectors] = OrderedDict()

    @property
    def settings(self) -> dict[str, Any]:
        """Name and arguments, as YAML and bundles hold them."""
        return {"name": self.name}

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """Encodes texts; those seen before cost nothing.

        Args:
            texts: Any number of texts.

        Returns:
            Array of shape (len(texts), dim), float32, rows of unit length.
        """
        # what is known is held on to: another batch may push it out of the cache while this one waits
        known = {text: self._cache[text] for text in texts if text in self._cache}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        fresh = dict(zip(new, await self._encode_new(new), strict=True)) if new else {}
        self._cache.update(fresh)
        rows = [fresh[text] if text in fresh else known[text] for text in texts]
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def requests(self, texts: int) -> int:
        """The number of requests for the embeddings of a number of new texts."""
        return 0

    @abstractmethod
    async def _encode_new(self, texts: list[str]) -> Vectors:
        """Encodes texts that are not in the cache; at least one, none twice."""


def unit(vectors: npt.NDArray[Any]) -> Vectors:
    """Scales rows to length 1; rows of zeros stay as they are."""
    norms = np.sqrt(np.add.reduce(vectors * vectors, axis=1, keepdims=True))
    return (vectors / np.where(norms > 0, norms, 1.0)).astype(np.float32, copy=False)


def package_folder(package: str) -> Path:
    """Finds an installed package without importing it.

    Args:
        package: Import name.

    Returns:
        The package's folder.

    Raises:
        ConfigError: If it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(f"the package `{package}` is not installed: run `pip install 'duologue[local]'`")
    return Path(spec.origin).parent


class StaticEncoder(Encoder):
    """Mean of WordLlama's static token embeddings."""

    name = "static"
    dim = 256

    def __init__(self) -> None:
        super().__init__()
        # wordllama's own load() looks for its tokenizer in the wrong folder and then tries to download it
        folder = package_folder("wordllama")
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        table = load_file(folder / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
        self._table = table.astype(np.float32)  # once, instead of at every text
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))

    async def _encode_new(self, texts: list[str]) -> Vectors:
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, encoding in zip(rows, self._tokenizer.encode_batch_fast(texts, add_special_tokens=False), strict=True):
            if encoding.ids:
                row[:] = np.add.reduce(self._table[encoding.ids], axis=0) / len(encoding.ids)
        return unit(rows)


class HashingEncoder(Encoder):
    """Counts of words, word pairs and character trigrams, each hashed to a signed bucket."""

    name = "hashing"

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"`dim` must be at least 1, not {dim}")
        self.dim = dim

    @property
    def settings(self) -> dict[str, Any]:
        """Name and dimension."""
        return {"name": self.name, "dim": self.dim}

    async def _encode_new(self, texts: list[str]) -> Vectors:
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for gram in self._grams(text):
                digest = hashlib.blake2b(gram.encode(), digest_size=8).digest()
                bucket = int.from_bytes(digest[:7], "big") % self.dim
                row[bucket] += 1.0 if digest[7] & 1 else -1.0
        return unit(rows)

    @staticmethod
    def _grams(text: str) -> list[str]:
        words = re.findall(r"\w+", text.lower())
        pairs = [f"{a} {b}" for a, b in pairwise(words)]
        trigrams = [word[i : i + 3] for word in (f"<{w}>" for w in words) for i in range(len(word) - 2)]
        return words + pairs + trigrams


class EndpointEncoder(Encoder):
    """The ``/embeddings`` of a server; answers are kept in the client's cassette like all others.

    Args:
        base_url: Address up to and including ``/v1``.
        model: The embedding model's name there.
        dim: Length of its vectors; checked at the first answer.
        client: Supplied by the program.
        api_key_env: See `Endpoint`.
        batch_size: Texts per request, at most.
        price: Settings of `Price`, for the budget and the report.
    """

    name = "endpoint"

    def __init__(
        self,
        base_url: str,
        model: str,
        dim: int,
        client: InferenceClient,
        api_key_env: str | None = "OPENAI_API_KEY",
        batch_size: int = 64,
        price: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("dim", dim), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, not {value}")
        settings = {"base_url": base_url, "model": model, "api_key_env": api_key_env, "price": price}
        self.endpoint: Endpoint = Endpoint.from_settings(settings, "encoder")
        self.dim = dim
        self._client = client
        self._batch_size = batch_size

    @property
    def settings(self) -> dict[str, Any]:
        """Address, model and dimension; the name of the key's variable, never the key."""
        endpoint = self.endpoint
        settings: dict[str, Any] = {"base_url": endpoint.base_url, "model": endpoint.model}
        settings |= {"api_key_env": endpoint.api_key_env}
        if endpoint.price != Price():
            settings["price"] = asdict(endpoint.price)
        return {"name": self.name, "dim": self.dim, "batch_size": self._batch_size, **settings}

    def requests(self, texts: int) -> int:
        """One for each batch."""
        return -(-texts // self._batch_size)

    async def _encode_new(self, texts: list[str]) -> Vectors:
        size = self._batch_size
        spoken = [text for text in texts if text.strip()]  # servers refuse empty texts, and models say them
        if not spoken:
            return np.zeros((len(texts), self.dim), np.float32)
        batches = [spoken[i : i + size] for i in range(0, len(spoken), size)]
        answers = await asyncio.gather(*(self._client.embed(self.endpoint, batch) for batch in batches))
        vectors = np.concatenate(answers)
        if vectors.shape[1] != self.dim:
            raise ConfigError(
                f"`encoder.dim={self.dim}`, but `{self.endpoint.model}` gives vectors of length {vectors.shape[1]}: "
                f"set `encoder.dim={vectors.shape[1]}`"
            )
        rows = np.zeros((len(texts), self.dim), np.float32)
        rows[[bool(text.strip()) for text in texts]] = unit(vectors)
        return rows


ENCODERS: Mapping[str, str] = {
    "static": ".inference.encoders:StaticEncoder",
    "minilm": ".inference.minilm:MiniLMEncoder",
    "hashing": ".inference.encoders:HashingEncoder",
    "endpoint": ".inference.encoders:EndpointEncoder",
}


def make_encoder(
    settings: Mapping[str, Any] | str, client: InferenceClient | None = None, *, custom: bool = True
) -> Encoder:
    """Builds the encoder that ``settings["name"]`` names.

    Args:
        settings: A name, or a mapping with ``name`` and constructor arguments.
        client: For the encoders that call an endpoint; the process's shared one by default.
        custom: Whether ``name`` may be a dotted path ``package.module:Class``.

    Returns:
        The encoder.

    Raises:
        ConfigError: If the name is unknown or an argument is refused.
    """
    name = settings if isinstance(settings, str) else settings.get("name")
    extra = {"client": client or InferenceClient.shared()} if name not in ("static", "minilm", "hashing") else {}
    encoder: Encoder = named(ENCODERS, settings, "encoder", custom=custom, **extra)
    return encoder
