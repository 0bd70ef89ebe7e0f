"""The arithmetic of a sweep's report, on job folders that are written here."""

import json

import pytest

from duologue.commands.sweep_report import run, write_sweep_report
from duologue.core.files import write_json
from duologue.evaluation.sweeps.sweep import Mean, effects, leaderboard
from duologue.evaluation.sweeps.sweep_folder import read_sweep
from duologue.inference import ConfigError
from duologue.run.jobs import JobRecord


@pytest.fixture
def job(tmp_path):
    """Writes a job's folder: `job(0, ["seed=1"], 0.5)`, or without a figure."""

    def write(number, overrides, value=None, *, status="done", error=None, summary=None):
        folder = tmp_path / str(number)
        folder.mkdir()
        JobRecord(number, tuple(overrides), error).write(folder)
        told = {"status": status, "reward_last": value, "bundle": "bundle", **(summary or {})}
        (folder / "summary.json").write_text(json.dumps(told))

    return write


def test_a_mean_has_students_interval_and_one_seed_has_none():
    """By the table: t(0.975, 2) = 4.302653, and the standard error of 1, 2, 3 is 1/√3."""
    mean = Mean.of([1.0, 2.0, 3.0])
    assert (mean.mean, mean.seeds) == (2.0, 3)
    assert (mean.low, mean.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-6)
    assert Mean.of([0.4]) == Mean(0.4, None, None, 1)


def test_settings_are_ranked_by_their_mean_over_seeds(job, tmp_path):
    for number, (rate, seed, value) in enumerate([("1", 1, 0.2), ("1", 2, 0.4), ("2", 1, 0.9), ("2", 2, 0.1)]):
        job(number, ["encoder=hashing", f"agent.learning_rate={rate}", f"seed={seed}"], value)
    sweep = read_sweep(tmp_path)
    assert sweep.fixed == (("encoder", "hashing"),)
    assert sweep.parameters == ["agent.learning_rate"]
    first, second = leaderboard(sweep)
    assert (first.settings, first.mean.mean) == ((("agent.learning_rate", "2"),), 0.5)
    assert [one.name for one in first.jobs] == ["2", "3"]
    assert second.mean.mean == pytest.approx(0.3)


def test_a_parameter_is_compared_where_all_its_values_ran(job, tmp_path):
    """The third b was tried with a=1 only, and seed 3 with b=x only."""
    figures = {
        ("1", "x", 1): 0.1,
        ("2", "x", 1): 0.3,
        ("1", "y", 1): 0.5,
        ("2", "y", 1): 0.7,
        ("1", "x", 2): 0.2,
        ("2", "x", 2): 0.4,
        ("1", "y", 2): 0.6,
        ("2", "y", 2): None,
        ("1", "x", 3): 9.0,
    }
    for number, ((a, b, seed), value) in enumerate(figures.items()):
        job(number, [f"+a={a}", f"b={b}", f"seed={seed}"], value)
    by_a, by_b = effects(read_sweep(tmp_path))
    assert by_a.left_out == 2
    assert by_a.values["1"].mean == pytest.approx((0.1 + 0.5) / 4 + 0.2 / 2)
    assert by_a.values["2"].mean == pytest.approx((0.3 + 0.7) / 4 + 0.4 / 2)
    assert by_b.left_out == 2
    assert by_b.values["y"].mean == pytest.approx((0.5 + 0.7) / 4 + 0.6 / 2)
    assert by_b.values["y"].seeds == 2


def test_a_parameter_of_many_numbers_has_a_rank_correlation(job, tmp_path):
    for number in range(12):
        job(number, [f"rate={number / 7}"], -(number**3.0))
    (effect,) = effects(read_sweep(tmp_path))
    assert (effect.rank_correlation, effect.values) == (pytest.approx(-1), {})
    write_sweep_report(tmp_path)
    assert "many values" in (tmp_path / "sweep.md").read_text()


def test_every_job_without_a_figure_is_named_with_its_reason(job, tmp_path):
    job(0, ["seed=0"], 0.5)
    job(1, ["seed=1"], None)
    job(3, ["seed=3"], status="stopped", error="of the record", summary={"error": "the budget is spent"})
    job(4, ["seed=4"], status="running")
    (tmp_path / "4" / "summary.json").unlink()
    (tmp_path / "latest").symlink_to("0")
    failed = {one.name: one.reason for one in read_sweep(tmp_path).failed}
    assert failed == {
        "1": "done, but without a mean reward of an episode in the last rollout",
        "2": "left nothing: it died before it began",
        "3": "the budget is spent",
        "4": "running still, or killed",
    }


def test_the_validation_of_the_kept_policy_comes_before_the_reward(job, tmp_path):
    rows = [{"timesteps": 8, "win_rate": 0.7}, {"timesteps": 16, "win_rate": 0.6}]
    job(0, ["seed=1"], 5.0, summary={"validation": {"results": rows, "kept": 8}})
    assert [one.value for one in read_sweep(tmp_path).jobs] == [0.7]
    assert [one.value for one in read_sweep(tmp_path, "reward").jobs] == [5.0]
    assert [one.value for one in read_sweep(tmp_path, "evaluation").jobs] == [None]


def test_several_sweeps_are_reported_as_one(job, tmp_path):
    for name in ("a", "b"):
        for number in (0, 1):
            place = tmp_path / name / str(number)
            place.mkdir(parents=True)
            JobRecord(number, (f"seed={name}{number}",)).write(place)
            (place / "summary.json").write_text(json.dumps({"status": "done", "reward_last": 1.0}))
    (place,) = leaderboard(read_sweep(tmp_path))
    assert (place.mean.seeds, [one.name for one in place.jobs]) == (4, ["a/0", "a/1", "b/0", "b/1"])


def test_what_the_tables_cannot_say_is_noted(job, tmp_path):
    job(0, ["judge@judges.x=a"], 0.5)
    job(1, ["judge@judges.x=b"], 0.6)
    figures, _ = write_sweep_report(tmp_path)
    said = " ".join(figures["notes"])
    assert "one seed, so there are no intervals" in said
    assert "the best of 2 settings looks better here than it is" in said
    assert "rewards of different judges" in said
    assert figures["best"]["bundle"] == str(tmp_path / "1" / "bundle")
    assert "one seed: none" in (tmp_path / "sweep.md").read_text()


def test_the_tables_are_printed(job, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    job(0, ["rate=[1,2]", "seed=1"], 0.5)
    job(1, ["rate=[3]", "seed=1"], None, status="failed", error="it broke")
    run([str(tmp_path)])
    said = capsys.readouterr().out
    assert "[1,2]" in said
    assert "failed: job 1 (rate=[3], seed 1): it broke" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "takes the folder of a multirun"),
        (["{folder}"], "holds no job: give the folder of `duologue train -m …`"),
        (["{folder}", "metric=rewrd"], "did you mean `reward`?"),
        (["{folder}", "by=reward"], "`sweep-report.by` is not a setting here"),
    ],
)
def test_mistakes_are_named(arguments, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        run([argument.format(folder=tmp_path) for argument in arguments])


def test_a_folder_whose_name_looks_like_an_option_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "sw=1" / "a" / "0"
    folder.mkdir(parents=True)
    JobRecord(0, ("seed=1",)).write(folder)
    write_json(folder / "summary.json", {"status": "done", "reward_last": 0.5})
    run(["sw=1/a", "metric=reward", "--json"])
    assert json.loads(capsys.readouterr().out)["leaderboard"][0]["mean"] == 0.5
