"""Mistakes in a user's own configuration files are named with their file and the near miss."""

import sys

import pytest

from duologue.cli import main
from duologue.wording import misspelt_part, with_file

FILES = {
    "a setting": (
        "agent: {learning_rat: 1}",
        "conf/experiment/mine.yaml: `agent.learning_rat` is not a setting of PPO",
    ),
    "a part": (
        "validatoin: {every: 8}",
        "conf/experiment/mine.yaml: `validatoin` is not in the configuration: did you",
    ),
    "a value": (
        "env: {limit: many}",
        "conf/experiment/mine.yaml: `env.limit` must be a whole number or null, not 'many'",
    ),
    "a judge's setting": (
        "judges: {rules: {baned: []}}",
        "conf/experiment/mine.yaml: `judges.rules.baned` is not in the configuration: did you mean `banned`?",
    ),
    "an option": (
        "defaults: [{override /interface: selct}]",
        "conf/experiment/mine.yaml: the group `interface` has no `selct`: did you mean `select`?",
    ),
    "no YAML": ("agent: {n_envs: 1", "conf/experiment/mine.yaml, line 3: this is no YAML"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_mistake_in_a_file_is_named_with_the_file(name, tmp_path, monkeypatch, capfd):
    text, said = FILES[name]
    path = tmp_path / "conf" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"# @package _global_\n{text}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["duologue"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(SystemExit) as ended:
        main(["train", "--config-dir", "conf", "experiment=mine", "encoder=hashing", "~judges.reference"])
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.removeprefix("duologue: ").removeprefix(f"{tmp_path}/").startswith(said)
    assert [*tmp_path.iterdir()] == [tmp_path / "conf"]


def test_what_the_command_line_sets_is_not_blamed_on_a_file(tmp_path):
    path = tmp_path / "experiment" / "mine.yaml"
    path.parent.mkdir()
    path.write_text("env: {limit: 3}")
    line = [f"--config-dir={tmp_path}", "experiment=mine"]
    assert with_file("`env.limit` must be", line) == f"{path}: `env.limit` must be"
    assert with_file("`env.limit` must be", [*line, "env.limit=x"]) == "`env.limit` must be"
    assert with_file("`env.split` must be", line) == "`env.split` must be"


def test_a_part_with_a_name_of_its_own_is_left_to_plugins():
    assert misspelt_part({"agent": {}, "tracking": {}}, ["agent", "env"]) is None
    assert (
        misspelt_part({"agnet": {}}, ["agent", "env"]) == "`agnet` is not in the configuration: did you mean `agent`?"
    )
