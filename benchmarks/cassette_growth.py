"""How much the cassette grows with every answer that is paid for.

The client records answers of the simulated endpoint to six messages: 40 and 200 tokens, without logprobs, with them, and with
five alternatives a token. No two answers are equal, but their words come from one small list, so that real texts with
logprobs compress less. A kB is 1,000 bytes of the file, its log written back.

    python benchmarks/cassette_growth.py            # about a minute on two cores
    python benchmarks/cassette_growth.py --quick
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from harness import arguments, progress, report
from simulated_endpoint import Behaviour, SimulatedEndpoint, start

from duologue.inference import Cassette, Endpoint, InferenceClient, Sampling

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "logprobs": {"logprobs": True},
    "5 alternatives": {"logprobs": True, "top_logprobs": 5},
}
BARS = {"max_kB an answer/200 tokens/plain": 8, "max_kB an answer/200 tokens/5 alternatives": 60}
WORDS = "some words of a dialogue that has been going on for a while "
MESSAGES: list[Any] = [{"role": "assistant" if i % 2 else "user", "content": WORDS * 5} for i in range(6)]


def main() -> None:
    """Fills one cassette for each kind and length."""
    quick = arguments(__doc__ or "").quick
    figures: dict[str, Any] = {}
    for tokens in (40, 200):
        with start(Behaviour(tokens=tokens)) as endpoint:
            for kind, options in KINDS.items():
                size = grown(endpoint, 100 if quick else 5000, options)
                figures[f"kB an answer/{tokens} tokens/{kind}"] = size / 1000
                progress(f"{tokens} tokens, {kind}: {size:,.0f} bytes")
    report("cassette_growth", figures, BARS, quick=quick)


def grown(simulated: SimulatedEndpoint, answers: int, options: dict[str, Any]) -> float:
    """Bytes of the file for each answer."""
    with tempfile.TemporaryDirectory(prefix="duologue-bench-") as folder:
        path = Path(folder) / "cassette.sqlite"
        client = InferenceClient(Cassette(path))
        endpoint = Endpoint(simulated.base_url, "simulated", max_concurrency=64, sampling=Sampling(max_tokens=200))

        async def fill() -> None:
            calls = (client.chat(endpoint, MESSAGES, sample_index=index, **options) for index in range(answers))
            await asyncio.gather(*calls)

        client.run(fill())
        client.close()
        return sum(file.stat().st_size for file in path.parent.iterdir()) / answers


if __name__ == "__main__":
    main()
