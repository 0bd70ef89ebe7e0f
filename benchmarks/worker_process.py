"""A contender in a process of its own: cases go in as lines of JSON, measurements come out the same way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class WorkerProcess:
    """Runs a script of this folder until the ``with`` block ends.

    Args:
        script: The script's file name.
        arguments: Its command line.
        python: The interpreter; this one by default.
        core: The core that it is bound to; None for any.
    """

    def __init__(self, script: str, *arguments: str, python: Path | None = None, core: int | None = None) -> None:
        self._name = " ".join([script, *arguments])
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the worker ends)
        self._child = subprocess.Popen(
            [str(python or sys.executable), str(Path(__file__).parent / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        if core is not None:
            os.sched_setaffinity(self._child.pid, {core})

    def ask(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Sends one case and waits for its measurement.

        Raises:
            RuntimeError: If the worker died; holds the end of what it wrote to standard error.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(case) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # it died; the reading below says why
        for line in self._child.stdout:
            if line.startswith("{"):  # some contenders print
                return dict(json.loads(line))
        self._errors.seek(0)
        raise RuntimeError(f"{self._name} ended early:\n{self._errors.read().decode(errors='replace')[-3000:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes its standard input, which ends it; kills it if that does not."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._errors.close()
