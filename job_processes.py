"""Runs the jobs of a Hydra multirun as processes: starts them, forwards signals, reports lost ones."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import FrameType, ModuleType
from typing import IO, Any, ClassVar, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf, open_dict

from .core.console import printable
from .core.errors import Interrupted
from .core.run_files import SUMMARY
from .run.jobs import RECORD, JobRecord, PlannedJob, objective, planned_jobs, write_planned

MULTIRUN = ("-m", "--multirun")
"""Hydra's flags of a multirun."""

_SECOND_SIGNAL_S = 10.0
"""After a second signal jobs have so long to end by themselves."""


class CommandLine(NamedTuple):
    """The command whose jobs are run: its name, Hydra's flags, and whether results go out as JSON."""

    name: str
    flags: tuple[str, ...]
    as_json: bool


class Processes(Launcher):
    """Hydra's launcher of jobs as processes of this machine, ``hydra/launcher=processes``.

    Every job is the same command with its own values. A job that is killed costs nothing but itself. Signals go on to all
    jobs, which checkpoint and end, and no other is begun.

    Args:
        n_jobs: Jobs at once.

    Attributes:
        command: Set before Hydra starts.
    """

    __module__ = "hydra_plugins.duologue"  # see `register`
    command: ClassVar[CommandLine]

    def __init__(self, n_jobs: int = 1) -> None:
        self._n_jobs = n_jobs

    @classmethod
    def register(cls, command: CommandLine) -> None:
        """Makes the launcher known to Hydra, which finds launchers in the package `hydra_plugins` only."""
        cls.command = command
        module = ModuleType(cls.__module__)
        setattr(module, cls.__name__, cls)
        sys.modules[cls.__module__] = module
        package = cls.__module__.partition(".")[0]
        if package not in sys.modules and importlib.util.find_spec(package) is None:  # no plugin is installed
            sys.modules[package] = ModuleType(package)
        Plugins.instance().register(cls)

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Called by Hydra."""
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Runs jobs to their end; Hydra calls it.

        Args:
            job_overrides: One list of overrides per job.
            initial_job_idx: Number of the first job.

        Returns:
            What a search calls their values; None for jobs that failed.

        Raises:
            KeyboardInterrupt: If a signal came.
        """
        sweep = Path(str(self._config.hydra.sweep.dir))
        jobs = [self._job(sweep, initial_job_idx + i, overrides) for i, overrides in enumerate(job_overrides)]
        write_planned(sweep, [*planned_jobs(sweep), *(job.planned for job in jobs)])
        _Running(self._n_jobs).run(jobs)
        return [self._returned(job) for job in jobs]

    def _job(self, sweep: Path, number: int, overrides: Sequence[str]) -> _Job:
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.num, config.hydra.job.id = number, str(number)
        HydraConfig.instance().set_config(config)
        place = str(OmegaConf.select(config, "hydra.sweep.subdir"))
        given = [word for word in self._config.hydra.overrides.hydra if not word.startswith("hydra.mode=")]
        own = [f"hydra.job.num={number}", f"hydra.job.id={number}", f"hydra.run.dir={_quoted(str(sweep / place))}"]
        flags = [flag for flag in self.command.flags if flag not in MULTIRUN]
        words = (self.command.name, *flags, *(["--json"] if self.command.as_json else []), *given, *overrides, *own)
        return _Job(PlannedJob(number, tuple(config.hydra.overrides.task), place), sweep / place, words)

    @staticmethod
    def _returned(job: _Job) -> JobReturn:
        value = None  # as a search takes a failure: of NaN it would make an error
        if (job.folder / SUMMARY).exists() and JobRecord.read(job.folder).error is None:
            value = objective(json.loads((job.folder / SUMMARY).read_text(encoding="utf-8")))
        return JobReturn(overrides=list(job.planned.overrides), status=JobStatus.COMPLETED, _return_value=value)


class _Job(NamedTuple):
    """One job: its plan, its folder and its command line."""

    planned: PlannedJob
    folder: Path
    words: tuple[str, ...]


class _Running:
    """Jobs as child processes.

    Args:
        n_jobs: At once. If it is more than one, what they print comes line by line, with their numbers on standard error.
    """

    def __init__(self, n_jobs: int) -> None:
        self._n_jobs = n_jobs
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._signals: list[int] = []

    def run(self, jobs: Sequence[_Job]) -> None:
        """Runs all of them; notes in their folders why a job ended that could not say so itself.

        Raises:
            KeyboardInterrupt: If a signal came; its cause is what the user reads.
        """
        waiting, ended = deque(jobs), SimpleQueue[tuple[_Job, int]]()
        main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            while (waiting and not self._signals) or self._children:
                while waiting and not self._signals and len(self._children) < self._n_jobs:
                    self._start(waiting.popleft(), ended)
                job, status = ended.get()
                del self._children[job.planned.number]
                self._note(job, status)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._signals:
            stopped = Interrupted(f"stopped by {signal.Signals(self._signals[0]).name}", self._signals[0])
            raise KeyboardInterrupt(str(stopped)) from stopped

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """A signal: it goes on to all jobs; those that outlive the second one for long are killed."""
        self._signals.append(number)
        if len(self._signals) > 2:
            self._kill()
        elif len(self._signals) == 2:
            killing = threading.Timer(_SECOND_SIGNAL_S, self._kill)
            killing.daemon = True
            killing.start()
        for child in [*self._children.values()]:
            child.send_signal(number)

    def _kill(self) -> None:
        for child in [*self._children.values()]:
            child.kill()

    def _start(self, job: _Job, ended: SimpleQueue[tuple[_Job, int]]) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        JobRecord(job.planned.number, job.planned.overrides).write(job.folder)
        code = f"from {__package__} import cli, job_processes; job_processes.run_job(cli.main)"
        pipe = None if self._n_jobs == 1 else subprocess.PIPE
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *job.words],
            stdin=subprocess.PIPE,  # never written to: it closes when this process ends, whatever ends it
            stdout=pipe,
            stderr=pipe,
            process_group=0,  # the terminal's signals come by `_handle`, once
        )
        self._children[job.planned.number] = child
        for number in self._signals:  # that came meanwhile
            child.send_signal(number)
        streams = [(child.stdout, sys.stdout, ""), (child.stderr, sys.stderr, f"[{job.planned.number}] ")]
        relays = [threading.Thread(target=_relay, args=(*one,), daemon=True) for one in streams if one[0] is not None]
        for relay in relays:
            relay.start()

        def wait() -> None:
            status = child.wait()
            for relay in relays:
                relay.join()
            ended.put((job, status))

        threading.Thread(target=wait, daemon=True).start()

    def _note(self, job: _Job, status: int) -> None:
        """Records why a job ended that could not do so itself."""
        if not status:
            return
        job.folder.mkdir(parents=True, exist_ok=True)
        if (job.folder / RECORD).exists() and JobRecord.read(job.folder).error is not None:
            return
        reason = f"ended with status {status}" if status > 0 else f"killed by {signal.Signals(-status).name}"
        JobRecord(job.planned.number, job.planned.overrides, reason).write(job.folder)
        if not self._signals:
            say_failed(job.planned.number, job.folder, reason)


def _relay(source: IO[bytes], target: IO[str], mark: str) -> None:
    """Forwards a job's output line by line, so that lines of different jobs do not mix."""
    for line in source:
        target.write(mark + line.decode("utf-8", "replace").rstrip("\n") + "\n")
        target.flush()


def _quoted(text: str) -> str:
    """A text as a value in Hydra's grammar."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


def run_job(main: Callable[[Sequence[str]], None]) -> None:
    """Runs a job in its own process, until the sweep's process is gone and standard input closes.

    Args:
        main: Runs the command line.
    """

    def watch() -> None:
        os.read(0, 1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # whoever read them may be gone, too
            os.dup2(nowhere, stream)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    main(sys.argv[1:])


def say_failed(number: int, folder: Path, reason: str) -> None:
    """Says on standard error that a job failed, and why."""
    print(f"duologue: job {number} failed ({folder}): {printable(reason)}", file=sys.stderr)  # noqa: T201
