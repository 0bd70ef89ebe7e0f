"""A real MLflow server with a SQLite store, for the tests of trackers.

It needs SQLAlchemy 2 and the search over sweeps an older one, so it lives in an environment of its own:
``DUOLOGUE_MLFLOW`` names its program ``mlflow``.
"""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def program() -> Path | None:
    """The server's program; None where there is none."""
    path = Path(os.environ.get("DUOLOGUE_MLFLOW", ""))
    return path if path.is_file() else None


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Runs the server on a free port and gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store, artefacts = f"sqlite:///{folder / 'mlflow.sqlite'}", folder / "artefacts"
    command = [program(), "server", "--backend-store-uri", store, "--artifacts-destination", artefacts]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)  # uvicorn's workers, too
        process.wait(30)


def ask(uri: str, call: str, **values: Any) -> Any:
    """One question to the server's API, past MLflow's own client."""
    body = json.dumps(values).encode()
    request = urllib.request.Request(f"{uri}/api/2.0/mlflow/{call}", body, {"content-type": "application/json"})
    if call.startswith(("metrics/", "artifacts/", "experiments/get")):
        pairs = "&".join(f"{name}={value}" for name, value in values.items())
        request = urllib.request.Request(f"{uri}/api/2.0/mlflow/{call}?{pairs}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
