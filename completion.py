"""`duologue completion bash|zsh|fish`: the shell's completion, of our commands and, through Hydra's own, of overrides."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .commands.table import COMMANDS, WITHOUT_CONFIGURATION

_BASH = """\
_duologue() {
    local IFS=$'\\n'
    COMPREPLY=($(duologue completion words "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//[=:@]/}
complete -o nospace -o default -F _duologue duologue"""

SCRIPTS = {
    "bash": _BASH,
    "zsh": """\
_duologue() {
    local -a found
    found=("${(@f)$(duologue completion words "${BUFFER[1,$CURSOR]}" 2>/dev/null)}")
    compadd -Q -S '' -- $found || _files
}
autoload -Uz compinit && compinit
compdef _duologue duologue""",
    "fish": "complete -c duologue -a '(duologue completion words (commandline -cp) 2>/dev/null)'",
}
"""Each to be evaluated by its shell: ``eval "$(duologue completion bash)"``, in fish ``duologue completion fish | source``."""


def run(arguments: Sequence[str]) -> None:
    """Prints a shell's script; or, for that script, the words that a line can go on with.

    Args:
        arguments: The shell's name; or ``words`` and the line up to the cursor.

    Raises:
        ConfigError: If the shell is not known.
    """
    if len(arguments) == 2 and arguments[0] == "words":
        _print_words(arguments[1])
        return
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        from .core.errors import ConfigError

        raise ConfigError(f"`duologue completion SHELL` takes one of {', '.join(SCRIPTS)}")
    print(SCRIPTS[arguments[0]])  # noqa: T201


def _print_words(line: str) -> None:
    """Prints the words that may stand at the end of a line, one a line."""
    _, *words = line.split(" ")  # as shells pass it: the last one is begun, or empty
    words = [word for word in words[:-1] if word] + words[-1:]
    every = {**COMMANDS, **WITHOUT_CONFIGURATION}
    if len(words) <= 1:
        found = [name + " " for name in every if name.startswith(words[0] if words else "")]
    elif words[0] in WITHOUT_CONFIGURATION:
        found = [word for word in every[words[0]].words if word.startswith(words[-1])]
    elif words[0] in COMMANDS:
        _print_overrides(words[0], words[1:])
        return
    else:
        found = []
    print("\n".join(found))  # noqa: T201


def _print_overrides(name: str, words: Sequence[str]) -> None:
    """Lets Hydra say what may come next; it prints its words with spaces between them."""
    from contextlib import redirect_stdout
    from io import StringIO

    from .composed import run_composed

    # Hydra does not complete `group@package=`: `judge@judges.rules=ru` is completed as `judge=ru`
    group, at, package = words[-1].partition("@")
    place = package.partition("=")[0]
    last = f"{group}={package.partition('=')[2]}" if at and "=" in package else words[-1]
    # as if the command were an application of Hydra's
    os.environ["COMP_LINE"] = " ".join(["duologue", *words[:-1], last])
    os.environ.pop("COMP_POINT", None)
    said = StringIO()
    with redirect_stdout(said):
        run_composed(name, ["--shell-completion", "query=bash"])
    found = said.getvalue().split()
    if last != words[-1]:
        found = [word.replace(f"{group}=", f"{group}@{place}=", 1) for word in found]
    sys.stdout.write("\n".join(found) + "\n")
