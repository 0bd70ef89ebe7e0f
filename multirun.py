"""What surrounds the jobs of a Hydra multirun: how many at once, what is kept of each, and what is said at the end."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback

from .inference.errors import ConfigError, DuologueError, Interrupted, RunStopped
from .inference.saying import printable
from .plugins.job import RECORD, JobRecord, job_folders
from .plugins.run_folder import point_latest

FLAGS = ("-m", "--multirun")


class SweepFolder(Callback):
    """Hydra's own object: notes where the sweep of this process lies, once that is known."""

    path: ClassVar[Path | None] = None

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Called by Hydra before the first job."""
        SweepFolder.path = Path(str(config.hydra.sweep.dir))


def told(overrides: Sequence[str]) -> list[str]:
    """The command line as Hydra takes it: `--workers N` as a launcher with so many processes.

    Args:
        overrides: As they were typed.

    Raises:
        ConfigError: If the number is none, or goes with what cannot use it.
    """
    words = [part for word in overrides for part in _parted(word)]
    several = any(word in FLAGS for word in words)
    if "--workers" in words:
        place = words.index("--workers")
        number = words[place + 1] if place + 1 < len(words) else ""
        words[place : place + 2] = _launched(number, words, several)
    if several:
        words.append(f"+hydra.callbacks.duologue={{_target_:{__package__}.multirun.SweepFolder}}")
    values = [word for word in words if word[:1] in ("+", "~") or ("=" in word and word[:1] != "-")]
    return [word for word in words if word not in values] + values  # Hydra refuses values on both sides of a flag


def _parted(word: str) -> list[str]:
    return ["--workers", word.partition("=")[2]] if word.startswith("--workers=") else [word]


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
    if int(number) == 1:
        return searching
    from importlib.util import find_spec

    if find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        raise ConfigError("`--workers` needs the package `hydra-joblib-launcher`: run `pip install 'duologue[sweep]'`")
    return ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={number}", *searching]


@contextmanager
def recorded(folder: Path, number: int, overrides: Sequence[str]) -> Iterator[None]:
    """Keeps in the job's folder what it was told and why it failed; a failure goes no further.

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
        print(f"duologue: job {number} failed ({folder}): {printable(reason)}", file=sys.stderr)  # noqa: T201
    else:
        if [path.name for path in folder.iterdir()] == [RECORD]:  # of a command that leaves nothing
            (folder / RECORD).unlink()


def reason_of(error: BaseException) -> str:
    """Why a job failed, on one line; a fault of ours also prints its traceback."""
    from .wording import is_worded, worded

    if isinstance(error, DuologueError | KeyboardInterrupt):
        text = str(error)
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
        ConfigError: If all jobs failed.
        RunStopped: If some failed, or a signal ended one.
    """
    SweepFolder.path = None
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(error.__cause__, Interrupted):
            raise error.__cause__ from None
        raise
    except Exception:  # a sweeper that searches has nothing to say if all jobs failed
        _refuse(*_records())
        raise
    jobs, failed = _records()
    folder = _folder()
    if not jobs or folder is None:
        return
    point_latest(folder)
    _refuse(jobs, failed)
    cure = f"`duologue sweep-report {folder}`"
    if failed:
        raise RunStopped(f"{len(failed)} of {len(jobs)} jobs failed: {cure} names them and compares the others")
    print(f"{len(jobs)} jobs done: {cure} compares them", file=sys.stderr)  # noqa: T201


def _folder() -> Path | None:
    return SweepFolder.path


def _records() -> tuple[list[JobRecord], list[JobRecord]]:
    """The jobs of this process's sweep, and those that failed."""
    folder = _folder()
    jobs = [JobRecord.read(place) for place in job_folders(folder)] if folder else []
    return jobs, [job for job in jobs if job.error is not None]


def _refuse(jobs: Sequence[JobRecord], failed: Sequence[JobRecord]) -> None:
    if failed and len(failed) == len(jobs):
        raise ConfigError(f"all {len(jobs)} jobs failed; job {failed[0].number}: {failed[0].error}")
