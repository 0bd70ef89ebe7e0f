"""The child process of `inference.embedded`: llama.cpp's server until standard input closes.

Run as ``python embedded_server.py MODEL.gguf SLOTS THREADS``; prints one line of JSON with its address when ready.
It imports nothing of Duologue, so that it starts fast.
"""

from __future__ import annotations

import json
import os
import sys

CONTEXT = 2048  # tokens per slot: SmolLM2's own limit


def main(model: str, slots: int, threads: int) -> None:
    """Serves until the parent closes our standard input, or dies, which closes it too."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel = slots
    params.n_ctx = slots * CONTEXT
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.port = 0  # any free one
    params.ui = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(json.dumps({"url": f"{server.listening_address}/v1"}), flush=True)  # noqa: T201
    sys.stdin.read()
    os._exit(0)  # requests under way have nobody left to answer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
