"""The frame of a Hydra multirun: the shared folder, a record per job, and the closing message."""

from __future__ import annotations

import json
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hydra.experimental.callback import Callback

from .core.errors import ConfigError, DuologueError, Interrupted, RunStopped
from .core.run_files import SUMMARY
from .job_processes import MULTIRUN, say_failed
from .run.jobs import RECORD, JobRecord, job_folders, planned_jobs, write_planned
from .run.run_folder import FolderLock, point_latest


class _Refused(BaseException):
    """Carries an error through Hydra, which makes a warning of any `Exception` in a callback."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__(error)
        self.error = error


class SweepFolder(Callback):
    """Hydra's own object: claims the folder of this process's sweep before the first job.

    Attributes:
        path: The folder; None outside a sweep.
    """

    path: ClassVar[Path | None] = None
    _lock: ClassVar[FolderLock | None] = None

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Called by Hydra before the first job."""
        folder = Path(str(config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder)
        try:
            lock.acquire()
            if job_folders(folder):
                lock.release()
                raise ConfigError(
                    f"{folder} holds the jobs of a sweep already: choose another `hydra.sweep.dir`, or go on with a single "
                    f"job by `duologue COMMAND resume={folder}/NUMBER`"
                )
        except ConfigError as error:
            raise _Refused(error) from error
        SweepFolder.path, SweepFolder._lock = folder, lock
        write_planned(folder, [])
        point_latest(folder)

    @classmethod
    def leave(cls) -> None:
        """Gives the folder back."""
        if cls._lock is not None:
            cls._lock.release()


class Words(NamedTuple):
    """A command line as Hydra takes it, which refuses values on both sides of a flag."""

    flags: tuple[str, ...]
    values: tuple[str, ...]


def split_command_line(overrides: Sequence[str]) -> Words:
    """Separates a command line into Hydra's flags and values; ``--workers N`` becomes a setting of the launcher.

    Args:
        overrides: Words of the command line.

    Returns:
        Flags and values.

    Raises:
        ConfigError: If the number is none, or goes with what cannot use it.
    """
    words = [part for word in overrides for part in _parted(word)]
    several = any(word in (*MULTIRUN, "hydra.mode=MULTIRUN") for word in words)
    if "--workers" in words:
        place = words.index("--workers")
        number = words[place + 1] if place + 1 < len(words) else ""
        words[place : place + 2] = _launched(number, words, several)
    return _flags_and_values(words)


def _parted(word: str) -> list[str]:
    return ["--workers", word.partition("=")[2]] if word.startswith("--workers=") else [word]


def _flags_and_values(words: Sequence[str]) -> Words:
    """Separates Hydra's flags, with their arguments, from all other words."""
    from hydra._internal.utils import get_args_parser

    takes = {
        name: action.nargs for action in get_args_parser()._actions for name in action.option_strings
    }  # None: one argument; "?": one or none; 0: none
    flags: list[str] = []
    values: list[str] = []
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if word not in takes:
            (flags if word.startswith("-") else values).append(word)
            continue
        flags.append(word)
        if rest and (takes[word] is None or (takes[word] == "?" and "=" not in rest[0] and rest[0][:1] != "-")):
            flags.append(rest.popleft())
    return Words((*flags,), (*values,))


def _launched(number: str, words: Sequence[str], several: bool) -> list[str]:
    if not number.isdecimal() or int(number) < 1:
        raise ConfigError(f"`--workers N` takes the number of jobs at once, at least 1, not `{number}`")
    if not several:
        raise ConfigError("`--workers` is for a multirun: add `-m`, and more than one value, such as `seed=1,2,3`")
    if own := [word for word in words if word.startswith("hydra/launcher=")]:
        raise ConfigError(
            f"`--workers` starts processes on this machine; with `{own[0]}` set that launcher's own options"
        )
    searching = [f"hydra.sweeper.n_jobs={number}"] if any(word.startswith("hydra/sweeper=") for word in words) else []
    return [f"hydra.launcher.n_jobs={number}", *searching]


@contextmanager
def recorded(folder: Path, number: int, overrides: Sequence[str]) -> Iterator[None]:
    """Records a job's overrides and its error in the job's folder; the error is not raised further.

    Args:
        folder: The job's folder.
        number: The job's number.
        overrides: The job's overrides.

    Yields:
        Nothing.

    Raises:
        KeyboardInterrupt: If a signal ended the job, since no other shall be begun then.
    """
    record = JobRecord(number, (*overrides,))
    record.write(folder)
    try:
        yield
    except BaseException as error:
        reason = reason_of(error)
        JobRecord(number, record.overrides, reason).write(folder)
        if isinstance(error, Interrupted):
            raise KeyboardInterrupt(reason) from error
        if not isinstance(error, Exception):
            raise
        say_failed(number, folder, reason)
    else:
        if [path.name for path in folder.iterdir()] == [RECORD]:  # of a command that leaves nothing
            (folder / RECORD).unlink()


def reason_of(error: BaseException) -> str:
    """Describes why a job failed, on one line; a bug also prints its traceback."""
    from .wording import is_worded, worded

    if isinstance(error, DuologueError | KeyboardInterrupt):
        text = str(error)
        if isinstance(error, DuologueError) and error.resume:
            text = f"{text}. Go on with `{error.resume}`"
    elif isinstance(error, Exception) and is_worded(error):
        text = worded(error)
    else:
        traceback.print_exception(error)
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def concluded() -> Iterator[None]:
    """Says at the end of a sweep where its jobs lie and how to compare them; outside a sweep it does nothing.

    Raises:
        ConfigError: If the sweep was refused, or all jobs failed.
        RunStopped: If some failed, or a signal ended one.
    """
    SweepFolder.path = None
    try:
        yield
        _conclude()
    except _Refused as refused:
        raise refused.error from None
    except KeyboardInterrupt as error:
        if isinstance(error.__cause__, Interrupted):
            raise _interrupted(error.__cause__) from None
        raise
    except ValueError as error:
        _refuse(*_records())
        if not _raised_by(error, "optuna"):
            raise
        raise ConfigError(
            f"the sweep cannot go on: {error}. A study keeps the choices that it began with: give another one a name by "
            "`hydra.sweeper.study_name=…`"
        ) from error
    except Exception:  # a sweeper that searches has nothing to say if all jobs failed
        _refuse(*_records())
        raise
    finally:
        SweepFolder.leave()


def _raised_by(error: BaseException, package: str) -> bool:
    """Whether an error was raised in a package's own code."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == package


def _conclude() -> None:
    jobs, failed = _records()
    folder = SweepFolder.path
    if not jobs or folder is None:
        return
    _refuse(jobs, failed)
    cure = f"`duologue sweep-report {folder}`"
    if failed:
        raise RunStopped(f"{len(failed)} of {len(jobs)} jobs failed: {cure} names them and compares the others")
    print(f"{len(jobs)} jobs done: {cure} compares them", file=sys.stderr)  # noqa: T201


def _interrupted(reason: Interrupted) -> Interrupted:
    """Describes an interrupted sweep: which jobs are done, still running, or not begun."""
    folder = SweepFolder.path
    if folder is None:
        return reason
    begun = {JobRecord.read(place).number for place in job_folders(folder)}
    done = sum(_status(place) == "done" for place in job_folders(folder))
    left = [str(job.number) for job in planned_jobs(folder) if job.number not in begun]
    waiting = f"; not begun: {', '.join(left)}" if left else ""
    said = (
        f"{reason}: {done} of {len(begun) + len(left)} jobs are done{waiting}. `duologue sweep-report {folder}` has all"
    )
    stopped = Interrupted(said, reason.signal)
    stopped.resume = reason.resume
    return stopped


def _status(folder: Path) -> str:
    try:
        return str(json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["status"])
    except (OSError, ValueError, KeyError):
        return ""


def _records() -> tuple[list[JobRecord], list[JobRecord]]:
    """The jobs of this process's sweep, and those that failed."""
    folder = SweepFolder.path
    jobs = [JobRecord.read(place) for place in job_folders(folder)] if folder else []
    return jobs, [job for job in jobs if job.error is not None]


def _refuse(jobs: Sequence[JobRecord], failed: Sequence[JobRecord]) -> None:
    if failed and len(failed) == len(jobs):
        raise ConfigError(f"all {len(jobs)} jobs failed; job {failed[0].number}: {failed[0].error}")
