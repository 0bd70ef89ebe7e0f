"""Cassettes from outside: counted, copied between machines, pruned; damage is found, and nothing half-written."""

import asyncio
import json
import sqlite3
import time

import pytest

from duologue.commands.cassette import run
from duologue.inference import Cassette, ConfigError
from duologue.inference.cassette import archive
from duologue.inference.cassette.cassette import pack

BODY = (
    b'{"choices":[{"message":{"content":"[bold]Hi[/bold] \\u00e9"}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}'
)
LONG = b'{"choices":[],"padding":"' + b"x" * 10_000 + b'"}'


def fill(path, count, endpoint="http://host/v1 model", body=BODY):
    cassette = Cassette(path)

    async def keep():
        for i in range(count):
            key, request = cassette.key({"endpoint": endpoint, "path": "/chat/completions", "body": {}, "i": i})
            await cassette.keep(key, request, body, 0.25)

    asyncio.run(keep())
    cassette.close()
    return path


def count(path):
    cassette = Cassette(path)
    try:
        return len(cassette)
    finally:
        cassette.close()


def damage(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE answers SET body = X'7b00' WHERE key = (SELECT key FROM answers LIMIT 1)")
    connection.close()


def test_statistics_count_by_endpoint(tmp_path):
    path = fill(tmp_path / "c.sqlite", 3)
    fill(path, 1, "http://other/v1 [red]judge")
    damage(path)
    found = archive.stats(path)
    assert found.damaged == 1
    assert found.answers == 3
    assert sum(shelf.prompt_tokens for shelf in found.shelves) == 21
    assert found.file_bytes >= path.stat().st_size


ODD = [
    b"[[0.1, 0.2]]",
    b'[{"index": 0, "score": 0.5}]',
    b'{"usage": {"prompt_tokens": null}}',
    b'{"usage": [[' + b"[" * 9999,
]


@pytest.mark.parametrize("body", ODD)
def test_an_answer_of_another_form_is_no_damage(tmp_path, body):
    path = fill(tmp_path / "c.sqlite", 2, "http://host/v1 encoder", body)
    found = archive.stats(path)
    assert (found.damaged, found.answers, found.shelves[0].counted) == (0, 2, 0)
    assert archive.prune(path, dry_run=False) == 0


def test_what_is_counted_as_damaged_is_what_pruning_removes(tmp_path):
    path = fill(tmp_path / "c.sqlite", 3)
    damage(path)
    with sqlite3.connect(path) as connection:
        row = (b"key", pack(b"[]"), pack(BODY), 0.5, time.time())  # the request is none
        connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", row)
    connection.close()
    assert archive.stats(path).damaged == archive.prune(path, dry_run=False) == 2
    assert archive.stats(path).damaged == 0


def test_an_export_is_imported_elsewhere_byte_for_byte(tmp_path):
    path = fill(tmp_path / "a.sqlite", 3)
    fill(path, 2, "http://long/v1 m", LONG)
    assert archive.export(path, tmp_path / "out.jsonl") == 5
    assert archive.import_(tmp_path / "b.sqlite", tmp_path / "out.jsonl") == (5, 5)
    assert archive.import_(tmp_path / "b.sqlite", tmp_path / "out.jsonl") == (0, 5)
    one, other = Cassette(path, "replay"), Cassette(tmp_path / "b.sqlite", "replay")
    for endpoint, i in [("http://host/v1 model", 2), ("http://long/v1 m", 0)]:
        key = one.key({"endpoint": endpoint, "path": "/chat/completions", "body": {}, "i": i})[0]
        assert one.find(key) == other.find(key)
    one.close()
    other.close()


def test_a_bad_line_imports_nothing(tmp_path):
    archive.export(fill(tmp_path / "a.sqlite", 2), tmp_path / "out.jsonl")
    with (tmp_path / "out.jsonl").open("a") as file:
        file.write('{"request": 3}\n')
    with pytest.raises(ConfigError, match=r"out.jsonl, line 3: no line of an exported cassette .*nothing was imported"):
        archive.import_(tmp_path / "b.sqlite", tmp_path / "out.jsonl")
    assert count(tmp_path / "b.sqlite") == 0


def test_an_export_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        archive.export(fill(tmp_path / "a.sqlite", 2), tmp_path / "nowhere" / "out.jsonl")


def test_pruning_counts_first_and_removes_what_matches_every_condition(tmp_path):
    path = fill(fill(tmp_path / "c.sqlite", 3), 2, "http://other/v1 judge")
    with sqlite3.connect(path) as connection:
        old = time.time() - 10 * 86_400
        connection.execute("UPDATE answers SET created = ? WHERE key IN (SELECT key FROM answers LIMIT 4)", (old,))
    connection.close()
    assert archive.prune(path) == 0
    assert archive.prune(path, older_than_days=5) == 4
    assert archive.prune(path, endpoint="judge") == 2
    both = archive.prune(path, endpoint="judge", older_than_days=5)
    assert both in (1, 2)
    assert archive.prune(path, endpoint="judge", dry_run=False) == 2
    assert count(path) == 3
    damage(path)
    assert archive.prune(path, dry_run=False) == 1
    assert count(path) == 2


def test_the_command_shows_contents_as_they_are(tmp_path, capsys):
    path = fill(tmp_path / "c.sqlite", 2, "http://host/v1 [red]model")
    run(["stats", f"path={path}"])
    shown = capsys.readouterr().out
    assert "[red]" in shown
    assert "2 answers." in " ".join(shown.split())
    run(["stats", f"path={path}", "json=true"])
    assert json.loads(capsys.readouterr().out)["answers"] == 2
    run(["prune", f"path={path}", "endpoint=model"])
    assert "2 answers would be removed" in capsys.readouterr().out
    run(["prune", f"path={path}", "endpoint=model", "yes=true"])
    assert count(path) == 0
    run(["--help"])
    assert "prune" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stat"], "did you mean `stats`"),
        (["stats", "path=nowhere.sqlite"], "there is no cassette at nowhere.sqlite"),
        (["stats", "pth=x"], "`cassette stats.pth` is not a setting here: did you mean `path`"),
        (["export"], "`cassette export.to` is missing"),
        (["stats", "--json"], "write name=value"),
        (["prune", "older_than_days=soon"], "must be a number or null"),
        (["import", "source=nowhere.jsonl", "path={}/x.sqlite"], "nowhere.jsonl cannot be read"),
    ],
)
def test_mistakes_are_named(arguments, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        run([argument.format(tmp_path) for argument in arguments])
