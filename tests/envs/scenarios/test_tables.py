"""Scenarios in Parquet, and what a user is told about a table that cannot be read."""

import sys

import pytest

from duologue.envs import load_scenarios
from duologue.envs.scenarios.tables import read_rows
from duologue.inference import ConfigError, ScenarioError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = [
    {"id": "a", "split": "test", "user": ["Hello?", "Well?"], "hidden": {"code": 7, "word": None}, "tags": ["x"]},
    {"id": "b", "split": "test", "user": ["Good day."], "hidden": None, "tags": None},
]


@pytest.fixture
def write(tmp_path):
    def write(rows):
        path = tmp_path / "mine.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path

    return write


def test_a_null_column_is_a_field_that_is_not_there(write):
    first, second = load_scenarios(write(ROWS), "test")
    assert (first.user, first.hidden, first.tags) == (("Hello?", "Well?"), {"code": 7}, ("x",))
    assert (second.user, second.hidden, second.tags) == (("Good day.",), {}, ())


def test_a_bad_row_is_named(write):
    path = write([*ROWS, ROWS[0]])
    with pytest.raises(ScenarioError) as caught:
        load_scenarios(path, "test")
    assert str(caught.value) == f"{path}, row 3: id `a` was already used in row 1"
    path = write([{"id": "a", "split": "test", "user": "Hello?", "hidden": "{not json"}])
    with pytest.raises(ScenarioError, match=r"row 1: "):
        load_scenarios(path, "test")


def test_a_dataset_saved_on_disk_is_a_scenario_file(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{name: value for name, value in row.items() if name != "split"} for row in ROWS]
    parts = {name: datasets.Dataset.from_list([row]) for name, row in zip(("train", "test"), rows, strict=True)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert [scenario.id for scenario in load_scenarios(tmp_path / "saved", "test")] == ["b"]


def test_what_is_no_parquet_is_named(tmp_path):
    path = tmp_path / "mine.parquet"
    path.write_text("id,split,user\n")
    with pytest.raises(ConfigError, match=r"mine\.parquet is no Parquet"):
        list(read_rows(path))
    with pytest.raises(ConfigError, match=r"none\.parquet cannot be read"):
        list(read_rows(tmp_path / "none.parquet"))


def test_a_missing_package_is_named_with_its_extra(write, monkeypatch):
    path = write(ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet")
    with pytest.raises(ConfigError, match=r"needs the package `pyarrow`: run `pip install 'duologue\[data\]'`"):
        load_scenarios(path, "test")
