"""One run of a command: its folder, its summary and its lifecycle hooks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..core.console import Console, say
from ..core.errors import ConfigError, DuologueError, EndpointRefused, Interrupted, RunStopped
from ..core.files import write_json
from ..core.run_files import CONFIG, LOCK, SUMMARY
from ..inference.budget.usage import Meter
from ..plugins.hookspecs import RunInfo
from ..plugins.manager import Plugins, plugins
from .resume import anchored, decisive

try:
    import fcntl
except ImportError:  # no such locks on Windows
    fcntl = None  # type: ignore[assignment]

SUMMARY_VERSION = 1
"""Version of ``summary.json``'s keys; see docs/run-folder.md."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a quota or a limit that is used up."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)
"""Errors of file systems without locks."""

_PACKAGES = (
    "duologue",
    "openai",
    "gymnasium",
    "stable-baselines3",
    "torch",
    "transformers",
    "trl",
    "peft",
    "numpy",
    "hydra-core",
)


_FEW_PROMPTS, _MANY_EQUAL = 8, 0.5
"""Prompts, and the share of them with equal candidates, from which on a run says so."""


class Run:
    """A run folder that is complete or not there.

    Inside the ``with`` block results go to `folder` and to `summary`; ``summary.json`` says ``running`` meanwhile, and the
    folder is locked against other processes. If the block ends because the user's configuration cannot work, and `keep`
    was not called, the folder is removed again, unless it held something before.

    Args:
        command: The command's name.
        folder: Folder of the results; its parent gets a link ``latest``.
        config: The resolved configuration; in the folder the places of the cassette and of a shared budget are absolute.
        meter: Counts of the run's requests.
        registry: Plugins whose hooks are called; the process's by default.

    Attributes:
        summary: Entries of ``summary.json`` beside those of every run.
        afterwards: Set inside the block: writes and shows what is made from ``summary.json`` if all went well. The status
            is ``done`` only after it, so that a run that was killed before it goes on.

    Raises:
        ConfigError: On entering, if another process uses the folder, or it holds a run of another configuration.
        RunStopped: On leaving, if the disk is full.
    """

    def __init__(
        self, command: str, folder: Path, config: Mapping[str, Any], meter: Meter, registry: Plugins | None = None
    ) -> None:
        self.info = RunInfo(command, folder, anchored(config))
        self.summary: dict[str, Any] = {}
        self.afterwards: Callable[[], object] | None = None
        self._meter = meter
        self._hook = (registry or plugins()).hook
        self._kept = False
        self._lock = FolderLock(folder)
        self._latest_before: Path | None = None
        self._start = time.monotonic()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.info.folder

    @property
    def config_digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of all settings that decide the results."""
        return hashlib.sha256(json.dumps(decisive(self.info.config), sort_keys=True).encode()).hexdigest()[:16]

    def keep(self) -> None:
        """Says that there are results worth keeping from here on."""
        self._kept = True

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        held = [path.name for path in self.folder.iterdir()]
        self._lock.acquire()
        try:
            self._refuse_another_configuration()
            self._kept = bool(held)  # what somebody else put there is not ours to remove
            write_json(self.folder / CONFIG, dict(self.info.config))
            self._write_summary("running")
            self._latest_before = point_latest(self.folder)
        except BaseException:
            self._lock.release()
            raise
        try:
            self._hook.duologue_run_start(run=self.info)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _refuse_another_configuration(self) -> None:
        """Refuses a folder with a run of other settings, whose checkpoint would be mistaken for this run's."""
        try:
            before = json.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except ValueError:  # a file that was never whole decides nothing
            return
        if decisive(before) != decisive(json.loads(json.dumps(dict(self.info.config)))):
            raise ConfigError(
                f"{self.folder} holds a run of another configuration, whose training would be taken for this one's: choose "
                f"an empty folder, or go on with that run by `{_resume(self.info.command, self.folder)}`"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = error
        try:
            if error is None and self.afterwards is not None:
                try:
                    self._write_summary("running")
                    self.afterwards()
                except BaseException as late:  # noqa: BLE001  (raised below, when the summary tells of it)
                    ended = late
            if isinstance(ended, OSError):
                ended = _stopped_if_full(ended)
            try:
                self._finish(ended)
            except OSError as unwritten:  # the summary goes on to say `running`, as after a kill
                ended = _stopped_if_full(unwritten) if ended is None else ended
        finally:
            self._lock.release()
            self._hook.duologue_run_end(run=self.info, error=ended)
        if ended is not None and ended is not error:
            raise ended

    def _finish(self, error: BaseException | None) -> None:
        if isinstance(error, ConfigError | EndpointRefused) and not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)
            restore_latest(self.folder, self._latest_before)
            return
        if isinstance(error, DuologueError) and not isinstance(error, ConfigError):
            error.resume = _resume(self.info.command, self.folder)
        self._write_summary(_status(error), error)
        _warn_of_equals(self._meter)
        point_latest(self.folder)

    def _write_summary(self, status: str, error: BaseException | None = None) -> None:
        summary = {
            "version": SUMMARY_VERSION,
            "status": status,
            "command": self.info.command,
            "seed": self.info.config.get("seed"),
            "working_dir": str(Path.cwd()),
            "config_digest": self.config_digest,
            "versions": versions(),
            "wall_s": round(time.monotonic() - self._start, 1),
            **self._meter.summary(),
            **({"error": f"{error}" or type(error).__name__} if error is not None else {}),
            **self.summary,
        }
        write_json(self.folder / SUMMARY, summary)


def refuse_used(command: str, folder: Path) -> None:
    """Raises ConfigError if a folder that shall hold a new run holds one already."""
    if any((folder / name).exists() for name in (CONFIG, SUMMARY)):
        raise ConfigError(
            f"{folder} holds a run already: choose another folder, or go on with that run by `{_resume(command, folder)}`"
        )


def _resume(command: str, folder: Path) -> str:
    return f"duologue {command} {shlex.quote(f'resume={folder}')}"


def _stopped_if_full(error: OSError) -> Exception:
    """Words the error of a full disk; other errors stay unchanged."""
    if error.errno not in _FULL:
        return error
    place = f"{error.filename}: " if error.filename else ""
    stopped = RunStopped(f"{place}{error.strerror}: make room on the disk")
    stopped.__cause__ = error
    return stopped


def _warn_of_equals(meter: Meter) -> None:
    """Says that candidates were the same, which no figure of a result shows: every contestant then ties."""
    share = meter.identical / max(meter.drawn, 1)
    if meter.drawn >= _FEW_PROMPTS and share >= _MANY_EQUAL:
        say(
            f"ALARM (identical candidates): for {share:.0%} of {meter.drawn:,} prompts all candidates were the same text, so there "
            "was nothing to choose. The server may ignore `temperature` or the seed: `duologue doctor` shows it",
            Console(stderr=True),
        )


def _status(error: BaseException | None) -> str:
    match error:
        case None:
            return "done"
        case KeyboardInterrupt() | Interrupted():
            return "interrupted"
        case RunStopped():
            return "stopped"
        case _:
            return "failed"


def versions() -> dict[str, str]:
    """Python's version and those of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def point_latest(folder: Path) -> Path | None:
    """Points the link ``latest`` beside a folder to that folder.

    Args:
        folder: The run folder.

    Returns:
        Where the link pointed before; None if there was none.
    """
    link = folder.parent / "latest"
    before = link.readlink() if link.is_symlink() else None
    _link(link, Path(folder.name))
    return before


def restore_latest(folder: Path, before: Path | None) -> None:
    """Undoes `point_latest`, unless another run has moved the link since."""
    link = folder.parent / "latest"
    if not link.is_symlink() or link.readlink() != Path(folder.name):
        return
    if before is None or not (folder.parent / before).exists():
        link.unlink(missing_ok=True)
    else:
        _link(link, before)


def _link(link: Path, target: Path) -> None:
    fresh = link.with_name(f".latest-{os.getpid()}")
    try:
        fresh.symlink_to(target)
        fresh.replace(link)
    except OSError:  # no links on this file system: a convenience less
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


class FolderLock:
    """Lets one process at a time write to a folder.

    The operating system releases the lock of a process that was killed, and the next one takes it over; the file says who
    holds it. It is held across hosts where the file system offers that, as NFS version 4 does.

    Args:
        folder: Folder to lock; must exist when the lock is acquired.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._file: int | None = None

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            ConfigError: If a living process holds it.
        """
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    owner = os.pread(file, 200, 0).decode("utf-8", "replace").strip() or "another process"
                    os.close(file)
                    raise ConfigError(
                        f"{self._path.parent} is in use by {owner}: wait until that has ended, or stop it"
                    ) from error
            if self._is(file):
                break
            os.close(file)  # its last owner removed it just before: there is another file of this name, or none
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._file = file

    def _is(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Gives the lock back and removes its file; again does nothing."""
        if self._file is not None:
            with suppress(OSError):
                if self._is(self._file):
                    self._path.unlink()
            os.close(self._file)
            self._file = None
