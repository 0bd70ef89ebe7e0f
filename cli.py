"""The door: `duologue COMMAND [overrides]`. It imports a room only when its command is used.

Exit status: 0 done; 1 a fault of ours; 2 a mistake that the message explains; 3 a budget was spent or too much failed;
130 and 143 ended by SIGINT and SIGTERM. After 3, 130 and 143 `resume=<run folder>` goes on.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from .commands.table import COMMANDS, WITHOUT_CONFIGURATION, function, usage

_OF_THE_PLACE = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
"""Errors of a folder or a disk that cannot be written to, which are the user's to mend."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; exits with the status that the module's docstring gives."""
    try:
        _main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        sys.exit(141)  # as a shell says it of programs that SIGPIPE ended


def _nobody_reads() -> bool:
    """Detects a broken standard output (`duologue --help | head -1`) and silences it."""
    place = sys.stdout.fileno()
    poll = select.poll()
    poll.register(place, select.POLLERR)
    broken = bool(poll.poll(0))
    if broken:
        os.dup2(os.open(os.devnull, os.O_WRONLY), place)
    return broken


def _main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), flush=True)  # noqa: T201
        sys.exit(0)
    if arguments[0] in ("-V", "--version"):
        from . import __version__

        print(f"duologue {__version__}")  # noqa: T201
        sys.exit(0)
    name, *rest = arguments
    if name in WITHOUT_CONFIGURATION and rest[:1] in (["-h"], ["--help"]) and not WITHOUT_CONFIGURATION[name].helps:
        print(WITHOUT_CONFIGURATION[name].described())  # noqa: T201
    elif name in WITHOUT_CONFIGURATION:
        _guarded(lambda: function(WITHOUT_CONFIGURATION[name].target)(rest), rest)
    elif name in COMMANDS and {"-h", "--help"} & set(rest):
        from .commands.help import command_help

        print(command_help(name), flush=True)  # noqa: T201
    elif name in COMMANDS:
        _guarded(lambda: _command(name, rest), rest)
    else:
        from .core.errors import near_miss

        _fail(f"there is no command `{name}`: {near_miss(name, [*COMMANDS, *WITHOUT_CONFIGURATION])}")


def _command(name: str, arguments: Sequence[str]) -> None:
    """Runs a command that composes a configuration, or one that goes on with a run."""
    from .composed import play, run_composed, shown, task_overrides

    as_json = "--json" in arguments
    arguments = [argument for argument in arguments if argument != "--json"]
    if name == "bench":
        arguments = task_overrides(arguments)
    going_on = [argument for argument in arguments if argument.startswith("resume=")]
    if not going_on:
        run_composed(name, arguments, as_json)
        return
    from .run.resume import resumed

    folder = Path(going_on[-1].partition("=")[2]).resolve()
    config, summary = resumed(name, folder, [argument for argument in arguments if argument not in going_on])
    if summary.get("status") == "done":
        print(f"{shown(folder)} is complete: there is nothing to resume")  # noqa: T201
        return
    began_in = Path(str(summary.get("working_dir", "")))
    if began_in.is_dir() and not began_in.samefile(Path.cwd()):  # relative paths in the configuration start there
        os.chdir(began_in)
    else:
        folder = shown(folder)
    play(name, config, folder, as_json)


def _guarded(action: Callable[[], object], arguments: Sequence[str]) -> None:
    """Turns a user's mistake into one line and exit status 2; a bug keeps its traceback."""
    from .core.errors import ConfigError, DuologueError, Interrupted, RunStopped

    try:
        action()
    except ConfigError as error:
        from .wording import with_file

        _fail(with_file(str(error), arguments))
    except DuologueError as error:
        status = 128 + error.signal if isinstance(error, Interrupted) else 3 if isinstance(error, RunStopped) else 2
        _fail(f"{error}. Go on with `{error.resume}`" if error.resume else str(error), status)
    except KeyboardInterrupt as error:
        print("interrupted", file=sys.stderr)  # noqa: T201
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(128 + getattr(error, "signal", signal.SIGINT))  # at once: a user's thread may never end
    except Exception as error:
        from .wording import is_worded, not_utf8, with_file, worded

        if is_worded(error):
            _fail(with_file(worded(error), arguments))
        if isinstance(error, OSError) and error.errno in _OF_THE_PLACE:
            _fail(f"{error.filename or 'a file'}: {error.strerror}. Give another folder, or make this one writable")
        if isinstance(error, UnicodeDecodeError) and (path := not_utf8(arguments)) is not None:
            _fail(f"{path}: this is not UTF-8: save it in that encoding")
        raise


def _fail(message: str, status: int = 2) -> None:
    from .core.console import printable

    print(f"duologue: {printable(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201  (some quote foreign messages)
    sys.exit(status)


if __name__ == "__main__":
    main()
