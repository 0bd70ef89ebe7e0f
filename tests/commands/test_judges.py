"""`duologue judges` names every judge with where it comes from; what a plugin says of a judge is checked."""

import json

import pytest

from duologue.commands import judges as judges_command
from duologue.core.errors import PluginError
from duologue.inference import ConfigError
from duologue.plugins import Plugins, hookimpl


class Offer:
    """A plugin object with one judge."""

    def __init__(self, **options):
        self.options = options

    @hookimpl
    def duologue_register_judges(self, register):
        register.judge("mine", "package:Mine", summary="[bold]what[/bold] it is", **self.options)


def registry(**options):
    found = Plugins(discover=False)
    found.register(Offer(**options), name="offer")
    return found


def test_the_list_for_scripts_has_every_field(capsys):
    judges_command.run(["--json"], registry(kind="compare", cost="requests"))
    listed = {judge["name"]: judge for judge in json.loads(capsys.readouterr().out)}
    assert listed["mine"] == {
        "name": "mine",
        "kind": "compare",
        "cost": "requests",
        "plugin": "offer",
        "distribution": "",
        "target": "package:Mine",
        "summary": "[bold]what[/bold] it is",
    }
    assert listed["llm"]["cost"] == "requests"
    assert listed["rules"]["distribution"].startswith("duologue ")
    assert list(listed) == sorted(listed)


def test_the_table_shows_a_summary_as_it_was_written(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    judges_command.run([], registry())
    shown = capsys.readouterr().out
    assert "[bold]what[/bold] it is" in shown
    assert "offer" in shown


def test_another_argument_is_refused():
    with pytest.raises(ConfigError, match=r"takes `--json` or nothing, not `--jsn`"):
        judges_command.run(["--jsn"])


@pytest.mark.parametrize(
    ("options", "said"),
    [({"kind": "both"}, "`both` is none of score, compare"), ({"cost": "much"}, "`much` is none of free, model")],
)
def test_a_kind_or_cost_that_does_not_exist_is_refused(options, said):
    with pytest.raises(PluginError, match=said):
        _ = registry(**options).judges
