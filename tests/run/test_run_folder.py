import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import pytest

from duologue.core.errors import CallFailed, ConfigError, EndpointRefused, RunStopped, ScenarioError
from duologue.core.files import write_json
from duologue.inference import Completion
from duologue.inference.budget.usage import Meter
from duologue.plugins import Plugins, RunInfo, hookimpl
from duologue.run.run_folder import FolderLock, Run

CONFIG = {"seed": 3, "env": {"limit": None}}
KEYS = {
    "version",
    "status",
    "command",
    "seed",
    "config_digest",
    "versions",
    "wall_s",
    "requests",
    "tokens",
    "cost_usd",
    "working_dir",
}


class Diary:
    """A plugin that writes down what happens, and what it finds in the run folder."""

    def __init__(self) -> None:
        self.entries: list[tuple] = []

    @hookimpl
    def duologue_run_start(self, run: RunInfo) -> None:
        self.entries.append(("start", run, sorted(path.name for path in run.folder.iterdir())))

    @hookimpl
    def duologue_run_end(self, run: RunInfo, error: BaseException | None) -> None:
        self.entries.append(("end", run, error))


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def start(tmp_path, diary):
    """Builds a run in `tmp_path/train/one` with the diary and what else is given as plugins."""

    def make(*others: object, folder: Path = tmp_path / "train" / "one", meter: Meter | None = None, **config) -> Run:
        registry = Plugins(discover=False)
        for plugin in (diary, *others):
            registry.register(plugin)
        return Run("train", folder, CONFIG | config, meter or Meter(), registry)

    return make


def summary(run: Run) -> dict:
    return json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))


def failing(run: Run, error: BaseException, *, keep: bool = False) -> None:
    def block() -> None:
        with run:
            if keep:
                run.keep()
            raise error

    with pytest.raises(type(error)) as caught:
        block()
    assert caught.value is error


def test_the_summary_has_the_documented_keys(start):
    with start() as run:
        pass
    written = summary(run)
    assert set(written) == KEYS
    assert (written["version"], written["status"], written["command"], written["seed"]) == (1, "done", "train", 3)
    assert written["requests"] == {"paid": 0, "reused": 0, "failed": 0}
    assert written["tokens"] == {"prompt": 0, "completion": 0}
    assert written["cost_usd"] == 0
    assert written["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"duologue", "numpy", "openai"} <= set(written["versions"])
    assert written["wall_s"] >= 0


def test_the_summary_counts_what_was_asked_for(start):
    meter = Meter()
    run = start(meter=meter)
    with run:
        meter.count("assistant", Completion("x", prompt_tokens=5, completion_tokens=2, cost_usd=0.5))
        meter.count("judge", Completion("x", prompt_tokens=9, completion_tokens=9, cost_usd=9.0, reused=True))
        meter.count_failed("judge")
    written = summary(run)
    assert written["requests"] == {"paid": 1, "reused": 1, "failed": 1}
    assert written["tokens"] == {"prompt": 5, "completion": 2}
    assert written["cost_usd"] == 0.5


def test_results_are_part_of_the_summary(start):
    with start() as run:
        run.summary["results"] = [{"win_rate": 0.6}]
    assert summary(run)["results"] == [{"win_rate": 0.6}]


def test_the_configuration_is_written_at_the_start_and_its_digest_does_not_depend_on_the_order(start):
    with start() as run:
        assert json.loads((run.folder / "config.json").read_text()) == CONFIG
    expected = hashlib.sha256(b'{"env": {"limit": null}, "seed": 3}').hexdigest()[:16]
    assert summary(run)["config_digest"] == run.config_digest == expected
    assert Run("train", run.folder, dict(reversed(CONFIG.items())), Meter()).config_digest == expected
    assert start(seed=4).config_digest != expected


def test_hooks_are_called_once_each_and_the_end_has_no_error(start, diary):
    with start() as run:
        assert [entry[0] for entry in diary.entries] == ["start"]
    held = ["config.json", "run.lock", "summary.json"]
    assert diary.entries == [("start", run.info, held), ("end", run.info, None)]
    assert (run.info.command, run.info.folder, run.info.config) == ("train", run.folder, CONFIG)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("kind", [ConfigError, ScenarioError, EndpointRefused])
def test_a_mistake_of_the_user_leaves_no_folder_unless_there_are_results_to_keep(start, diary, kind, keep):
    run = start()
    error = kind("wrong")
    failing(run, error, keep=keep)
    assert run.folder.exists() == keep
    assert os.path.lexists(run.folder.parent / "latest") == keep
    assert diary.entries[-1] == ("end", run.info, error)
    if keep:
        assert (summary(run)["status"], summary(run)["error"]) == ("failed", "wrong")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (RuntimeError("boom"), "failed", "boom"),
        (CallFailed("weather"), "failed", "weather"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(1), "failed", "1"),
        (ZeroDivisionError(), "failed", "ZeroDivisionError"),
    ],
)
def test_what_ended_a_run_is_in_its_summary_and_told_to_the_hooks_once(start, diary, error, status, text):
    run = start()
    failing(run, error)
    assert (summary(run)["status"], summary(run)["error"]) == (status, text)
    assert diary.entries[1:] == [("end", run.info, error)]
    assert (run.folder.parent / "latest").resolve() == run.folder


def test_a_folder_that_held_something_before_is_never_removed(start, tmp_path):
    treasure = tmp_path / "mine" / "results.csv"
    treasure.parent.mkdir()
    treasure.write_text("precious")
    failing(start(folder=treasure.parent), ConfigError("wrong"))
    assert treasure.read_text() == "precious"


def test_an_empty_folder_that_was_made_for_the_run_is_removed_with_it(start, tmp_path):
    (tmp_path / "made").mkdir()
    failing(start(folder=tmp_path / "made"), ConfigError("wrong"))
    assert not (tmp_path / "made").exists()


def test_latest_points_to_the_run_that_ended_last_and_moves_with_the_folder(start, tmp_path):
    for name in ("one", "two"):
        with start(folder=tmp_path / "train" / name):
            pass
    link = tmp_path / "train" / "latest"
    assert link.is_symlink()
    assert link.readlink() == Path("two")
    (tmp_path / "train").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "latest" / "summary.json").exists()


def test_a_real_folder_called_latest_is_left_alone(start, tmp_path):
    kept = tmp_path / "train" / "latest" / "notes.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with start() as run:
        pass
    assert kept.read_text() == "mine"
    assert summary(run)["status"] == "done"
    assert sorted(path.name for path in run.folder.parent.iterdir()) == ["latest", "one"]


class FailsAtTheEnd:
    @hookimpl
    def duologue_run_end(self):
        raise OSError("the tracker is gone")


class FailsAtTheStart:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    @hookimpl(trylast=True)
    def duologue_run_start(self):
        raise self.error


def test_a_plugin_that_fails_at_the_end_does_not_cost_the_summary(start):
    run = start(FailsAtTheEnd())
    with pytest.raises(OSError, match="the tracker is gone"), run:
        run.summary["results"] = [1]
    assert (summary(run)["status"], summary(run)["results"]) == ("done", [1])


def test_a_plugin_that_fails_at_the_start_ends_the_run_for_the_others_too(start, diary):
    error = RuntimeError("no tracker")
    run = start(FailsAtTheStart(error))
    with pytest.raises(RuntimeError, match="no tracker"), run:
        pytest.fail("the run began")
    assert [entry[0] for entry in diary.entries] == ["start", "end"]
    assert diary.entries[-1][2] is error
    assert summary(run)["status"] == "failed"


def test_a_plugin_that_refuses_the_configuration_leaves_no_folder(start):
    run = start(FailsAtTheStart(ConfigError("no tracker configured")))
    with pytest.raises(ConfigError), run:
        pytest.fail("the run began")
    assert not run.folder.exists()


def test_json_that_cannot_be_written_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_write_that_stops_half_way_leaves_the_old_file_whole(tmp_path):
    """A text that no file can hold (a lone surrogate) stops the write after the file was opened."""
    path = tmp_path / "summary.json"
    write_json(path, {"a": 1})
    with pytest.raises(UnicodeEncodeError):
        write_json(path, {"a": "x" * 100_000 + "\ud800"})
    assert json.loads(path.read_text()) == {"a": 1}


def test_json_is_utf8_whatever_the_locale(tmp_path):
    path = tmp_path / "x.json"
    code = (
        "import sys; from pathlib import Path; from duologue.core.files import write_json; "
        "write_json(Path(sys.argv[1]), chr(233) + chr(8230))"
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-X", "utf8=0", "-c", code, str(path)], check=True, env=environment)
    assert path.read_text(encoding="utf-8") == '"é…"\n'


HOLDER = """
    import sys
    from pathlib import Path
    from duologue.inference.budget.usage import Meter
    from duologue.plugins import Plugins
    from duologue.run.run_folder import Run

    with Run("train", Path(sys.argv[1]), {"seed": 3, "env": {"limit": None}}, Meter(), Plugins(discover=False)):
        print("holding", flush=True)
        sys.stdin.read()
"""


@contextmanager
def another_process_in(folder: Path):
    """A process inside its run of this folder; it leaves the run when its standard input closes."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(HOLDER), str(folder)], **pipes) as process:
        assert process.stdout.readline() == "holding\n"
        yield process


def test_a_folder_in_use_by_another_process_is_refused_and_its_owner_named(start, tmp_path):
    folder = tmp_path / "train" / "one"
    with another_process_in(folder) as owner:
        with pytest.raises(ConfigError) as refused, start():
            pytest.fail("two processes in one folder")
        assert f"is in use by process {owner.pid} on {socket.gethostname()}" in str(refused.value)
        assert json.loads((folder / "summary.json").read_text())["status"] == "running"
        owner.stdin.close()
        owner.wait(30)
    with start() as run:
        pass
    assert summary(run)["status"] == "done"
    assert not (folder / "run.lock").exists()


def test_the_lock_of_a_process_that_was_killed_is_taken_over(start, tmp_path):
    with another_process_in(tmp_path / "train" / "one") as owner:
        owner.kill()
        owner.wait(30)
    assert (tmp_path / "train" / "one" / "run.lock").exists()
    with start() as run:
        assert (run.folder / "run.lock").read_text().startswith(f"process {os.getpid()} on ")


def test_of_many_who_want_a_folder_at_once_one_has_it(tmp_path):
    code = "import sys; from pathlib import Path; from duologue.run.run_folder import FolderLock\n"
    code += "sys.stdin.readline()\nlock = FolderLock(Path(sys.argv[1]))\ntry:\n    lock.acquire(); print('got it', flush=True)\n"
    code += "except Exception: print('refused', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    crowd = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(4)
    ]
    for process in crowd:
        process.stdin.write("now\n")
    said = sorted(process.stdout.readline().strip() for process in crowd)
    for process in crowd:
        process.communicate(timeout=60)
    assert said == ["got it", "refused", "refused", "refused"]


def test_a_lock_that_was_given_back_can_be_taken_again(tmp_path):
    for _ in range(2):
        lock = FolderLock(tmp_path)
        lock.acquire()
        with pytest.raises(ConfigError, match="is in use by process"):
            FolderLock(tmp_path).acquire()
        lock.release()
        lock.release()
    assert not [*tmp_path.iterdir()]


def test_latest_names_a_run_from_its_start(start, tmp_path):
    link = tmp_path / "train" / "latest"
    with start(folder=tmp_path / "train" / "one"):
        assert link.readlink() == Path("one")
    with start(folder=tmp_path / "train" / "two"):
        assert link.readlink() == Path("two")


def test_latest_goes_back_to_the_run_before_if_a_mistake_leaves_nothing(start, tmp_path):
    with start(folder=tmp_path / "train" / "one"):
        pass
    failing(start(folder=tmp_path / "train" / "two"), ConfigError("wrong"))
    assert (tmp_path / "train" / "latest").readlink() == Path("one")


def test_a_folder_with_a_run_of_other_settings_is_refused_and_left_as_it_was(start):
    with start() as run:
        (run.folder / "checkpoint.pt").write_bytes(b"of seed 3")
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    with pytest.raises(ConfigError, match="holds a run of another configuration"), start(seed=4):
        pytest.fail("the run began")
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


def test_limits_prices_and_the_cassettes_place_make_no_other_run(start):
    asked = {"base_url": "http://host/v1", "max_retries": 1, "price": None}
    first = {"assistant": asked, "cassette": {"path": "a.sqlite"}, "budget": {"requests": 5}}
    second = {"assistant": asked | {"max_retries": 9, "price": {"per_request_usd": 1}}, "budget": None}
    with start(inference=first) as run:
        digest = run.config_digest
    with start(inference=second) as run:
        assert run.config_digest == digest
    with pytest.raises(ConfigError), start(inference={"assistant": asked | {"base_url": "http://other/v1"}}):
        pytest.fail("the run began")


def test_the_configuration_of_the_folder_names_cassette_and_shared_budget_absolutely(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"cassette": {"path": "c.sqlite", "mode": "record"}, "budget": {"usd": 1, "shared": "b.sqlite"}}
    with start(inference=given) as run:
        written = json.loads((run.folder / "config.json").read_text())["inference"]
    assert written["cassette"] == {"path": str(tmp_path / "c.sqlite"), "mode": "record"}
    assert written["budget"] == {"usd": 1, "shared": str(tmp_path / "b.sqlite")}
    address = {"cassette": {"path": "postgresql://host/database"}}
    with start(folder=tmp_path / "other", inference=address) as run:
        written = json.loads((run.folder / "config.json").read_text())["inference"]
    assert written == address


def test_a_run_is_done_when_what_is_made_from_its_summary_is_there(start, diary):
    run = start()
    with run:
        run.summary["results"] = [1]
        run.afterwards = lambda: seen.append(summary(run))
        seen: list[dict] = []
    assert [(one["status"], one["results"]) for one in seen] == [("running", [1])]
    assert summary(run)["status"] == "done"

    def report() -> None:
        raise RuntimeError("no report")

    with pytest.raises(RuntimeError, match="no report"), start() as run:
        run.afterwards = report
    assert (summary(run)["status"], summary(run)["error"]) == ("failed", "no report")
    assert diary.entries[-1][2] is not None


def test_a_full_disk_stops_the_run_with_the_command_that_goes_on(start):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(RunStopped, match="make room on the disk") as stopped, start() as run:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
            (run.folder / "large").write_bytes(b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stopped.value.resume == f"duologue train resume={run.folder}"
    assert summary(run)["status"] == "stopped"


@pytest.mark.parametrize(("equal", "different", "told"), [(8, 0, True), (6, 6, True), (2, 10, False), (4, 0, False)])
def test_candidates_that_are_all_the_same_are_said(tmp_path, capsys, equal, different, told):
    meter = Meter()
    with Run("train", tmp_path / "r", CONFIG, meter, Plugins(discover=False)):
        for _ in range(equal):
            meter.count_candidates(["So.", "So.", "So."])
        for _ in range(different):
            meter.count_candidates(["So.", "So.", "Well."])
    assert ("ALARM (identical candidates)" in capsys.readouterr().err) is told
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["identical_candidates"] == equal / (equal + different)
