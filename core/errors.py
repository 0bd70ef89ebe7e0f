"""The project's exceptions, one small tree.

    DuologueError                  every error that a user can meet; its text is one line with the cure
    ├── ConfigError                a setting, a name or a file that cannot be used as given
    │   ├── ArgumentError          an argument that an environment does not know; also a TypeError
    │   ├── ScenarioError          a scenario file with a bad line
    │   └── PluginError            a plugin that cannot be loaded or that clashes with another
    ├── CassetteError              the store of answers cannot be read or written
    │   └── CassetteMiss           replay mode, and the answer was never recorded
    ├── RunStopped                 the run ends here on purpose; `resume=<run folder>` goes on with it
    │   ├── BudgetSpent            the next request might exceed a limit on requests, tokens or money
    │   ├── Interrupted            a signal asked for it
    │   └── TooManyFailures        more failed than the run allows
    └── InferenceError             a call to an endpoint
        ├── EndpointRefused        it cannot work as configured: key, account, model, capability. Ends the run
        └── CallFailed             it did not work this time, after bounded retries. Ends one episode
            ├── Rejected           this very request is not accepted, while others are
            └── Unreadable         what came is no answer
                └── NotAnAPI       it is a web page or a plain text

`EndpointRefused` and `CallFailed` differ in what the caller should do, not in what the server said: the first is
the user's to mend, the second is the weather.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DuologueError(Exception):
    """Base of all errors that Duologue raises on purpose.

    Attributes:
        resume: The command that goes on with the run that it ended; None if there is nothing to go on with.
    """

    resume: str | None = None


class ConfigError(DuologueError):
    """A setting, a name or a file cannot be used as given."""


class ArgumentError(ConfigError, TypeError):
    """An argument that an environment's constructor does not know: libraries that try one look for a TypeError."""


class ScenarioError(ConfigError):
    """A scenario file holds a line that is no scenario; the message names file and line."""


class PluginError(ConfigError):
    """A plugin cannot be loaded or clashes with another; the message names it."""


class CassetteError(DuologueError):
    """The store of requests and answers cannot be read or written."""


class CassetteMiss(CassetteError):
    """Replay was asked for, and this request was never recorded."""


class RunStopped(DuologueError):
    """The run ends early on purpose; its results are kept, and it can be resumed."""


class BudgetSpent(RunStopped):
    """The next request might exceed a limit on requests, tokens or money."""


class Interrupted(RunStopped):
    """A signal asked for the run's end.

    Attributes:
        signal: Its number.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message, signal)  # both, so that it can be pickled
        self.signal = signal

    def __str__(self) -> str:
        return str(self.args[0])


class TooManyFailures(RunStopped):
    """A larger share of calls or judgements failed than the run allows."""


class InferenceError(DuologueError):
    """A call to an endpoint did not give a usable answer.

    Attributes:
        status: The HTTP status of the refusal; None if there was none.
    """

    status: int | None = None


class EndpointRefused(InferenceError):
    """The endpoint cannot serve this configuration: wrong key, account, address, model or capability."""


class CallFailed(InferenceError):
    """One call failed after its bounded retries; other calls may well succeed."""


class Rejected(CallFailed):
    """The endpoint does not accept this very request: it is too long, or refused for its content; others may be accepted."""


class Unreadable(CallFailed):
    """The endpoint's answer cannot be read."""


class NotAnAPI(Unreadable):
    """The endpoint answered with a web page or a plain text: the address may be that of something else."""


def near_miss(name: str, known: Iterable[str]) -> str:
    """Ends an error message: the closest known name, or all of them.

    Args:
        name: The user's word.
        known: The names that would have been accepted.

    Returns:
        ``did you mean `x`?`` where a name is close, else the sorted list of known names.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return "known: " + (", ".join(f"`{n}`" for n in names) if names else "none")
