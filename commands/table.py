"""The table of commands: purpose, example and the function behind each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NamedTuple


class Command(NamedTuple):
    """One command.

    Attributes:
        summary: Purpose of the command.
        example: A line that works.
        target: The function behind it: ``(config, folder)``, or ``(arguments)`` where no configuration is composed.
        group: Under which heading the help lists it.
        words: Words that may follow the name, for shell completion.
        helps: Whether its function answers ``--help`` itself.
    """

    summary: str
    example: str
    target: str
    group: str
    words: tuple[str, ...] = ()
    helps: bool = False

    def described(self) -> str:
        """The summary and an example."""
        return f"{self.summary}\n  {self.example}"


BEGIN, WORK, SERVE, JUDGES, FILES = "Begin", "Train, evaluate, compare", "Serve", "Judges", "Answers and files"

COMMANDS: Mapping[str, Command] = {
    "doctor": Command(
        "check this installation, the endpoint and what its API can do",
        "duologue doctor inference=openai inference.assistant.model=gpt-4o-mini",
        ".commands.doctor:doctor",
        BEGIN,
    ),
    "plan": Command(
        "print what a run would ask for and cost, and spend nothing",
        "duologue plan inference.assistant.price.per_request_usd=0.002",
        ".commands.plan:plan",
        BEGIN,
    ),
    "run": Command(
        "train a policy, then evaluate it against the plain model",
        "duologue run experiment=quickstart",
        ".commands.evaluate:train_and_evaluate",
        WORK,
    ),
    "train": Command(
        "train a policy; with -m one for each combination of values",
        "duologue train -m seed=1,2,3 agent.learning_rate=0.001,0.003 --workers 2",
        ".commands.train:train",
        WORK,
    ),
    "evaluate": Command(
        "compare a trained policy with its baselines",
        "duologue evaluate bundle=runs/train/latest",
        ".commands.evaluate:evaluate",
        WORK,
    ),
    "bench": Command(
        "measure what can be learnt on a task: chance, constants, a bandit, the agent, the oracle",
        "duologue bench bargain",
        ".commands.bench:bench",
        WORK,
        ("assistant", "bargain", "forms", "support", "tutoring"),
    ),
    "compare": Command(
        "compare models, or answers in files, on a file of prompts",
        "duologue compare prompts=prompts.txt judge=chrf +contestants.a.answers=a.jsonl +contestants.b.answers=b.jsonl",
        ".commands.compare:compare",
        WORK,
    ),
    "serve": Command(
        "serve a trained policy as a model of an OpenAI-compatible API",
        "duologue serve policy=runs/train/latest alias=my-model",
        ".commands.serve:serve",
        SERVE,
    ),
    "chat": Command(
        "talk to a trained policy, and see what it does and why",
        "duologue chat policy=runs/train/latest compare=true",
        ".commands.chat:chat",
        SERVE,
    ),
    "pairs": Command(
        "sample answers, judge them, and keep preference pairs for DPO",
        "duologue pairs interface.n=8 pairs.margin=0.2",
        ".commands.pairs:make_pairs",
        FILES,
    ),
    "judge-check": Command(
        "measure how far a judge agrees with labelled data",
        "duologue judge-check judge=llm data=pairs.jsonl inference=openai inference.assistant.model=gpt-4o-mini",
        ".commands.judge_check:judge_check",
        JUDGES,
    ),
}
"""Commands that compose a configuration."""

WITHOUT_CONFIGURATION: Mapping[str, Command] = {
    "init": Command(
        "write a project: configuration, scenarios, a judge, a README",
        "duologue init my-project",
        ".commands.init:run",
        BEGIN,
    ),
    "completion": Command(
        "print the completion script of bash, zsh or fish",
        'eval "$(duologue completion bash)"',
        ".completion:run",
        BEGIN,
        ("bash", "zsh", "fish"),
    ),
    "report": Command(
        "write a run's report again: one page, and a table in Markdown",
        "duologue report runs/run/latest",
        ".commands.report:run",
        WORK,
    ),
    "sweep-report": Command(
        "compare the jobs of a multirun: settings, parameters, failures",
        "duologue sweep-report runs/sweeps/latest",
        ".commands.sweep_report:run",
        WORK,
        ("--json", "metric="),
    ),
    "judges": Command(
        "list the judges that rewards and evaluations can use",
        "duologue judges --json",
        ".commands.judges:run",
        JUDGES,
        ("--json",),
    ),
    "new-judge": Command(
        "write a package with a judge of your own and its test",
        "duologue new-judge politeness",
        ".commands.new_judge:run",
        JUDGES,
    ),
    "cassette": Command(
        "look at the answers that were paid for, copy or remove them",
        "duologue cassette stats",
        ".commands.cassette:run",
        FILES,
        ("stats", "export", "import", "prune"),
        helps=True,
    ),
    "import": Command(
        "make scenarios of data, or read questions or verdicts of AlpacaEval, MT-Bench or Arena-Hard",
        "duologue import messages chats.jsonl to=scenarios.jsonl",
        ".commands.exchange:run_import",
        FILES,
        ("messages", "columns", "cima", "craigslist", "alpaca_eval", "mt_bench", "arena_hard", "feedback"),
        helps=True,
    ),
    "export": Command(
        "write a run's answers and verdicts in the files of these, or as pairs",
        "duologue export alpaca_eval runs/compare/latest to=alpaca",
        ".commands.exchange:run_export",
        FILES,
        ("alpaca_eval", "mt_bench", "arena_hard", "pairs"),
        helps=True,
    ),
}
"""Commands that compose no configuration."""

_END = """\
  duologue COMMAND --help                list a command's settings; --cfg job shows the whole configuration
  duologue COMMAND resume=<run folder>   go on with a run that was ended or killed
  duologue COMMAND --json                print the results as one line of JSON, and all else on standard error
  duologue COMMAND -m a=1,2 --workers 2  every combination of values, two at a time

Exit status: 0 done; 1 a fault of Duologue; 2 a mistake that the message explains; 3 a budget was spent or too much
failed; 130 and 143 ended by SIGINT and SIGTERM. After 3, 130 and 143 `resume=` goes on. NO_COLOR=1 prints no colours."""


def usage() -> str:
    """The help text: the commands by group, each with an example."""
    lines = ["usage: duologue COMMAND [name=value …]"]
    every = {**COMMANDS, **WITHOUT_CONFIGURATION}
    for group in (BEGIN, WORK, SERVE, JUDGES, FILES):
        lines += ["", group]
        for name, command in every.items():
            if command.group == group:
                lines += [f"  {name:<12} {command.summary}", f"               {command.example}"]
    return "\n".join([*lines, "", "Every command", _END])


def function(target: str) -> Callable[..., object]:
    """Imports the function behind a command."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module, (__package__ or "").rpartition(".")[0]), attribute)  # type: ignore[no-any-return]
