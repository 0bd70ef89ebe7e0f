"""`duologue import` and `duologue export`: the files of AlpacaEval, MT-Bench and Arena-Hard; data as scenarios.

duologue import messages chats.jsonl to=scenarios.jsonl
duologue import mt_bench question.jsonl to=scenarios.jsonl
duologue import arena_hard model_judgment/gpt-4.1/*.jsonl questions=question.jsonl answers=model_answer to=runs/import/arena
duologue export alpaca_eval runs/compare/latest to=alpaca
duologue export pairs runs/pairs/latest to=pairs.jsonl margin=0.2
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.console import Console, say
from ..core.errors import ConfigError, near_miss
from ..core.files import read_records, write_lines
from ..core.run_files import MATCHES
from ..core.settings import construct, read_arguments
from ..envs.scenarios import IMPORTERS, DataOptions, counts, import_scenarios
from ..envs.scenarios.benchmarks import benchmark_scenarios
from ..envs.scenarios.scenario import Scenario, write_scenarios
from ..evaluation.exchange.benchmark_export import EXPORTS, first_matches
from ..evaluation.exchange.pairs import PairOptions, pairs_of_run, write_pairs
from ..evaluation.exchange.verdict_files import KINDS, ImportedMatch, read_verdicts
from ..evaluation.matches import Tally
from ..evaluation.report.report import ANCHOR, PAGE, number_of, read_anchor, read_matches, write_report
from ..evaluation.report.tables import show_boards
from ..inference.budget.usage import Meter
from ..run.run_folder import Run

IMPORT = """\
usage: duologue import FORMAT FILE… to=OUT [name=value …]

  FORMAT is messages, columns, cima or craigslist: data, in .jsonl, .json, .parquet or a dataset saved on disk.
  to=OUT.jsonl   scenarios for env.scenarios=, divided into train, validation and test by their content; also OUT.parquet
                 validation=0.1 test=0.1 are the shares, or split=NAME; limit=N records; skip=true leaves bad ones out;
                 columns: user=COLUMN reference=COLUMN system=COLUMN tags=COLUMN

  FORMAT is alpaca_eval, mt_bench or arena_hard; or feedback, what `duologue serve feedback=…` kept.
  to=OUT.jsonl   FILE holds questions: they are written as scenarios for env.scenarios= and prompts=
  to=FOLDER      FILE… hold verdicts: they become a run folder with its report. Verdicts of mt_bench and arena_hard need
                 questions= and answers= (a folder of <model>.jsonl); older ones of arena_hard also baseline=. For
                 AlpacaEval's length-controlled rate: difficulty=FILE, records of instruction and difficulty, and
                 anchor=FILE, records of preference, std_delta_len and instruction_difficulty"""

EXPORT = """\
usage: duologue export FORMAT RUN to=FOLDER
       duologue export pairs RUN to=FILE.jsonl [margin=0.2] [take=all]

  FORMAT is alpaca_eval, mt_bench or arena_hard; RUN is the folder of an evaluation or a comparison.
  pairs   preference pairs in TRL's format, also of the candidates that `duologue pairs` judged: margin is the least
          difference of two scores, take=all makes every pair of a turn's candidates instead of the best and the worst"""


@dataclass(frozen=True)
class ImportOptions:
    """Options of `duologue import`."""

    to: str
    questions: str | None = None
    answers: str | None = None
    baseline: str | None = None
    difficulty: str | None = None
    anchor: str | None = None

    def __post_init__(self) -> None:
        if self.anchor and not self.difficulty:
            raise ValueError("`anchor` needs `difficulty`: its observations have one, so the matches must have one too")


@dataclass(frozen=True)
class ExportOptions:
    """Options of `duologue export`."""

    to: str


@dataclass(frozen=True)
class PairExportOptions(PairOptions):
    """Options of `duologue export pairs`; ``to`` is required."""

    to: str = ""


def run_import(arguments: Sequence[str]) -> None:
    """Writes a scenario file of questions, or a run folder of verdicts.

    Args:
        arguments: Kind, files and values.

    Raises:
        ConfigError: If an argument or a file cannot be used.
    """
    words, values = read_arguments(arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(IMPORT)  # noqa: T201
        return
    kind, *files = words
    if kind not in (known := [*IMPORTERS, *KINDS, "feedback"]):
        raise ConfigError(f"there is no format `{kind}`: {near_miss(kind, known)}")
    if not files:
        raise ConfigError("`duologue import FORMAT FILE… to=OUT` needs a file to read")
    if kind in IMPORTERS:
        _import_data(kind, [Path(file) for file in files], values)
        return
    options = construct(ImportOptions, values, "duologue import")
    if options.to.endswith((".jsonl", ".parquet")):
        if len(files) > 1:
            raise ConfigError(
                f"questions come from one file, not {len(files)}; verdicts go to a folder, not {options.to}"
            )
        scenarios = benchmark_scenarios(Path(files[0]))
        write_scenarios(scenarios, Path(options.to))
        say(f"{len(scenarios):,} scenarios written to {options.to}")
        return
    if kind == "feedback":
        raise ConfigError(
            "feedback holds no verdicts on pairs: give `to=scenarios.jsonl`, or `duologue judge-check data=…`"
        )
    questions, answers = (None if path is None else Path(path) for path in (options.questions, options.answers))
    judged, twice = read_verdicts(kind, [Path(file) for file in files], questions, answers, options.baseline)
    if options.difficulty:
        judged = _with_difficulty(judged, Path(options.difficulty))
    anchor = read_records(Path(options.anchor), "the anchor") if options.anchor else []
    if options.anchor:
        read_anchor(Path(options.anchor))
    _keep(judged, kind, files, options, [record for _, record in anchor])
    if twice:
        say(f"{twice:,} verdicts occur in more than one file and count once")


def _import_data(kind: str, files: Sequence[Path], values: dict[str, Any]) -> None:
    """Writes scenarios made from data, and prints what was left out."""
    target = Path(str(values.pop("to", "")))
    if target.suffix not in (".jsonl", ".parquet"):
        raise ConfigError(
            f"`duologue import {kind} FILE… to=OUT` needs `to=` with a name that ends in .jsonl or .parquet"
        )
    found, left_out, wrong = import_scenarios(kind, files, construct(DataOptions, values, "duologue import"))
    write_scenarios(found, target)
    rest = "".join(f"; {count:,} left out: {reason}" for reason, count in left_out.items())
    say(f"{len(found):,} scenarios written to {target}: {counts(found)}{rest}")
    for text in wrong[:3]:
        say(f"  {text}")


def _with_difficulty(judged: Sequence[ImportedMatch], path: Path) -> list[ImportedMatch]:
    """Matches with the difficulty of their question."""
    known = {
        str(record.get("instruction", record.get("id"))): number_of(record, "difficulty", where)
        for where, record in read_records(path, "the difficulties")
    }
    if missing := next((one.scenario for one in judged if one.scenario not in known), None):
        raise ConfigError(f"`difficulty`: {path} has none for the question {missing[:80]!r}")
    return [replace(one, source={**one.source, "difficulty": known[one.scenario]}) for one in judged]


def _keep(
    judged: Sequence[ImportedMatch],
    kind: str,
    files: Sequence[str],
    options: ImportOptions,
    anchor: Sequence[Mapping[str, Any]],
) -> None:
    """Writes a run folder like that of a comparison."""
    folder = Path(options.to)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: give a new folder")
    tallies: dict[tuple[str, str, str], Tally] = {}
    for one in judged:
        key = (one.contestant, one.baseline, one.judge)
        tally = tallies.setdefault(key, Tally(*key))
        tally.add(Scenario(one.scenario, "test", ("imported",)), one.match)
    paths = [str(Path(file).expanduser().resolve()) for file in files]
    with Run("import", folder, {"format": kind, "files": paths, **vars(options)}, Meter()) as run:
        write_lines(folder / MATCHES, [one.record() for one in judged])
        if anchor:
            write_lines(folder / ANCHOR, anchor)
        run.summary["results"] = [tally.summary() for tally in tallies.values()]
        run.afterwards = lambda: write_report(folder)
    show_boards(run.summary["results"], Console())
    say(f"{len(judged):,} matches. The report is {folder / PAGE}")


def run_export(arguments: Sequence[str]) -> None:
    """Writes a run's matches in another evaluator's files.

    Args:
        arguments: Kind, run folder and values.

    Raises:
        ConfigError: If an argument or a file cannot be used, or the format has no place for the matches.
    """
    words, values = read_arguments(arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(EXPORT)  # noqa: T201
        return
    kind, *folders = words
    if kind not in (*EXPORTS, "pairs"):
        raise ConfigError(f"there is no format `{kind}`: {near_miss(kind, [*EXPORTS, 'pairs'])}")
    if kind == "pairs":
        _export_pairs(folders, values)
        return
    options: Any = construct(ExportOptions, values, "duologue export")
    if len(folders) != 1:
        raise ConfigError(f"`duologue export FORMAT RUN to=FOLDER` takes one run folder, not {len(folders)}")
    records = read_matches(Path(folders[0]) / MATCHES)
    chosen = first_matches(records)
    target = Path(options.to)
    EXPORTS[kind](chosen, target)
    left = len(records) - len(chosen)
    repeats = f"; {left:,} repeats are left out, for the format has one match of a pair on a question" if left else ""
    say(f"{len(chosen):,} matches written to {target}{repeats}")


def _export_pairs(folders: Sequence[str], values: Mapping[str, Any]) -> None:
    options = construct(PairExportOptions, values, "duologue export pairs")
    if len(folders) != 1 or not options.to:
        raise ConfigError("`duologue export pairs RUN to=FILE.jsonl` takes one run folder, and the file to write")
    say(write_pairs(pairs_of_run(Path(folders[0]), options), Path(options.to)))
