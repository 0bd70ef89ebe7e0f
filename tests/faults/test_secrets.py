"""A key is nowhere but in the environment and in the request's header."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SHRUNK

KEY = "sk-canary-0123456789abcdef"


@pytest.fixture
def command(server, tmp_path):
    def start(*arguments):
        where = [
            f"inference.assistant.base_url={server.url}",
            f"inference.cassette.path={tmp_path / 'cassette.sqlite'}",
            "inference.assistant.api_key_env=CANARY",
        ]
        return subprocess.Popen(
            [sys.executable, "-m", "duologue", "run", *SHRUNK, *where, *arguments],
            cwd=tmp_path,
            env=os.environ | {"CANARY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


def files_with_the_key(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_no_file_no_output_and_no_command_line_holds_the_key(command, server, tmp_path):
    lines = []
    answer = server.answer

    def look(body):
        if len(lines) < 5:
            lines.extend(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
        return answer(body)

    server.answer = look
    process = command()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert server.headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in said
    assert lines
    assert not [line for line in lines if KEY.encode() in line]
    assert (tmp_path / "runs" / "run" / "latest" / "matches.jsonl").exists()
    assert not files_with_the_key(tmp_path)


@pytest.mark.parametrize("status", [401, 400, 500])
def test_a_server_that_repeats_the_key_does_not_make_it_known(command, server, tmp_path, status):
    """In its message, as some do, and where the error ends in a traceback."""
    server.answer = lambda body: (status, {"error": {"message": f"Incorrect API key provided: {KEY}", "key": KEY}})
    process = command("inference.assistant.max_retries=0", "inference.retries.reserve=0", "inference.retries.share=0")
    said, _ = process.communicate(timeout=120)
    assert process.returncode in (2, 3)
    assert "Incorrect API key provided: ***" in said
    assert KEY not in said
    assert not files_with_the_key(tmp_path)


def test_a_scenario_cannot_make_anything_be_built(configured, tmp_path):
    """`_target_`, interpolations and markup are text like any other."""
    from duologue.commands.evaluate import train_and_evaluate

    hostile = "${oc.env:HOME} {_target_: os.system} [red]bold[/red] <script>alert(1)</script>"
    lines = [
        json.dumps({"id": f"{split}-{i} [red]", "split": split, "user": f"{hostile} {split} {i}", "tags": [hostile]})
        for split in ("train", "test")
        for i in range(3)
    ]
    (tmp_path / "hostile.jsonl").write_text("\n".join(lines))
    train_and_evaluate(configured("run", f"env.scenarios={tmp_path / 'hostile.jsonl'}"), tmp_path / "run")
    matches = [json.loads(line) for line in (tmp_path / "run" / "matches.jsonl").read_text().splitlines()]
    assert {match["messages"][-1]["content"] for match in matches} == {f"{hostile} test {i}" for i in range(3)}


def test_a_bundle_cannot_make_anything_be_built(configured, tmp_path):
    """A name outside the package is refused unless the user trusts the bundle; `_target_` is no setting."""
    from duologue.commands.evaluate import evaluate, train_and_evaluate
    from duologue.inference import ConfigError

    train_and_evaluate(configured("run"), tmp_path / "run")
    path = tmp_path / "run" / "bundle" / "policy.json"
    record = json.loads(path.read_text())
    for poison in ({"name": "os:system"}, record["interface"] | {"_target_": "os.system"}):
        path.write_text(json.dumps(record | {"interface": poison}))
        with pytest.raises(ConfigError):
            evaluate(configured("evaluate", f"bundle={tmp_path / 'run'}"), tmp_path / "again")
