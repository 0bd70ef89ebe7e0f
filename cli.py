"""The door: `duologue COMMAND [overrides]`. It imports a room only when its command is used.

Exit status: 0 done; 1 a fault of ours; 2 a mistake that the message explains; 3 a budget was spent or too much failed;
130 and 143 ended by SIGINT and SIGTERM. After 3, 130 and 143 `resume=<run folder>` goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple


class Command(NamedTuple):
    """One command: what it is for, an example, and the function ``(config, folder)`` behind it."""

    summary: str
    example: str
    target: str


COMMANDS: Mapping[str, Command] = {
    "run": Command(
        "train a policy, then evaluate it against the plain model",
        "duologue run experiment=quickstart",
        ".evaluation.evaluate:train_and_evaluate",
    ),
    "train": Command("train a policy", "duologue train -m seed=1,2,3", ".evaluation.validation:train"),
    "plan": Command(
        "print what a run would ask for and cost, and spend nothing",
        "duologue plan inference.assistant.price.per_request_usd=0.002",
        ".evaluation.plan:plan",
    ),
    "evaluate": Command(
        "compare a trained policy with its baselines",
        "duologue evaluate bundle=runs/train/latest",
        ".evaluation.evaluate:evaluate",
    ),
    "compare": Command(
        "compare models, or answers in files, on a file of prompts",
        "duologue compare prompts=prompts.txt judge=pairwise +contestants.a.answers=a.jsonl +contestants.b.answers=b.jsonl",
        ".evaluation.compare:compare",
    ),
    "serve": Command(
        "serve a trained policy as a model of an OpenAI-compatible API",
        "duologue serve policy=runs/train/latest alias=my-model",
        ".serving.serve:serve",
    ),
    "chat": Command(
        "talk to a trained policy, and see what it does and why",
        "duologue chat policy=runs/train/latest compare=true",
        ".serving.chat:chat",
    ),
    "judge-check": Command(
        "measure how far a judge agrees with labelled data",
        "duologue judge-check judge=llm data=pairs.jsonl",
        ".evaluation.judge_check:judge_check",
    ),
}

WITHOUT_CONFIGURATION: Mapping[str, Command] = {
    "report": Command(
        "write a run's report again: one page, and a table in Markdown",
        "duologue report runs/run/latest",
        ".evaluation.report:run",
    ),
    "import": Command(
        "read questions or verdicts of AlpacaEval, MT-Bench or Arena-Hard",
        "duologue import mt_bench question.jsonl to=scenarios.jsonl",
        ".evaluation.exchange:run_import",
    ),
    "export": Command(
        "write a run's answers and verdicts in the files of these",
        "duologue export alpaca_eval runs/compare/latest to=alpaca",
        ".evaluation.exchange:run_export",
    ),
    "judges": Command(
        "list the judges that rewards and evaluations can use",
        "duologue judges --json",
        ".plugins.judges_command:run",
    ),
    "new-judge": Command(
        "write a package with a judge of your own and its test",
        "duologue new-judge politeness",
        ".plugins.new_judge:run",
    ),
    "cassette": Command(
        "look at the answers that were paid for, copy or remove them",
        "duologue cassette stats",
        ".inference.cassette_command:run",
    ),
}
"""Commands that compose no configuration."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; exits with the status that the module's docstring gives."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())  # noqa: T201
        sys.exit(0)
    if arguments[0] in ("-V", "--version"):
        from . import __version__

        print(f"duologue {__version__}")  # noqa: T201
        sys.exit(0)
    name = arguments[0]
    if name in WITHOUT_CONFIGURATION:
        _guarded(lambda: _function(WITHOUT_CONFIGURATION[name].target)(arguments[1:]))
        return
    if name not in COMMANDS:
        from .inference.errors import near_miss

        _fail(f"there is no command `{name}`: {near_miss(name, [*COMMANDS, *WITHOUT_CONFIGURATION])}")
    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if resumed:
        changes = [argument for argument in arguments[1:] if argument not in resumed]
        _guarded(lambda: _resume(name, Path(resumed[-1].partition("=")[2]), changes))
        return
    _guarded(lambda: _with_hydra(name, arguments[1:]))


def usage() -> str:
    """The help text."""
    lines = ["usage: duologue COMMAND [name=value …]", ""]
    for name, command in {**COMMANDS, **WITHOUT_CONFIGURATION}.items():
        lines += [f"  {name:<11} {command.summary}", f"              {command.example}"]
    lines += ["", "`duologue COMMAND resume=<run folder>` goes on with a run that was ended or killed."]
    lines += ["`duologue COMMAND --help` lists the configuration groups; `--cfg job` shows the whole configuration."]
    return "\n".join(lines)


def _with_hydra(name: str, overrides: Sequence[str]) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf

    from .plugins.manager import plugins
    from .plugins.publish import publish

    publish(plugins())
    failures: list[BaseException] = []

    @hydra.main(version_base="1.3", config_path="pkg://duologue.conf", config_name=name)
    def job(config: DictConfig) -> None:
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            _function(COMMANDS[name].target)(values, _shown(folder))
            _remove_if_empty(_shown(folder))  # of commands that leave nothing
        except BaseException as error:
            _remove_if_empty(_shown(folder))
            failures.append(error)
            if HydraConfig.get().mode == RunMode.MULTIRUN or not isinstance(error, Exception):
                raise  # for what is raised here Hydra prints a line that names the job: of use only among many

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on, and `_guarded` words them
    sys.argv = [f"duologue {name}", *overrides]
    try:
        job()
    except Exception:
        if not failures:
            raise
    if failures:  # as they were raised: a multirun wraps them
        raise failures[0] from None


def _resume(name: str, folder: Path, changes: Sequence[str]) -> None:
    from .plugins.resume import resumed

    folder = folder.resolve()
    config, summary = resumed(name, folder, changes)
    if summary.get("status") == "done":
        print(f"{_shown(folder)} is complete: there is nothing to resume")  # noqa: T201
        return
    _function(COMMANDS[name].target)(config, _shown(folder))


def _function(target: str) -> Callable[..., object]:
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module, __package__), attribute)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == __package__:
            raise  # ours is broken, and no installation would mend it
        from .inference.errors import ConfigError

        raise ConfigError(
            f"this command needs the package `{error.name}`: run `pip install 'duologue[train,local,serve]'`"
        ) from error


def _guarded(action: Callable[[], object]) -> None:
    """Turns a user's mistake into one line and exit status 2; a fault of ours keeps its traceback."""
    from .inference.errors import DuologueError, Interrupted, RunStopped

    try:
        action()
    except RunStopped as error:
        status = 128 + error.signal if isinstance(error, Interrupted) else 3
        _fail(f"{error}. Go on with `{error.resume}`" if error.resume else str(error), status)
    except DuologueError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except Exception as error:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        if not isinstance(error, HydraException | OmegaConfBaseException):
            raise
        _fail(_worded(error))


def _worded(error: Exception) -> str:
    """Hydra's message on one line: the setting's full name, what is wrong, the near miss."""
    from hydra.errors import MissingConfigException, OverrideParseException
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue

    from .inference.errors import near_miss

    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"the group `{group}` has no `{name}`: {near_miss(name, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"`{error.override}` cannot be read: write name=value, and 'name=\"value\"' around special characters"
    if isinstance(error, MissingMandatoryValue):
        return f"`{error.full_key}` is missing: set it to a value"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        known = cause.parent_node if isinstance(cause.parent_node, Mapping) else ()
        names = [str(name) for name in known if name != "hydra"]
        return f"`{cause.full_key}` is not in the configuration: {near_miss(str(cause.key), names)} {lines[-1]}"
    reason = [str(cause).splitlines()[0]] if cause is not None and str(cause) else []
    return ": ".join([" ".join(line for line in lines if not line.startswith(_NOISE)), *reason])


_NOISE = ("Set the environment variable", "full_key:", "object_type=", "reference_type=")
"""How those lines of Hydra's begin that help nobody who only mistyped a setting."""


def _fail(message: str, status: int = 2) -> None:
    print(f"duologue: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201  (some quote foreign messages)
    sys.exit(status)


def _shown(folder: Path) -> Path:
    """The folder relative to where we are, if it lies below."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _remove_if_empty(folder: Path) -> None:
    """Removes the folder and those above it, below where we are, that it leaves empty."""
    for place in (folder, *folder.parents):
        try:
            if place.is_absolute() and place != folder:
                return
            place.rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # not empty; or where we are
            return


if __name__ == "__main__":
    main()
