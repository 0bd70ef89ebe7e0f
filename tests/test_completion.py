"""The shell's completion, asked as shells ask."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from duologue.cli import main
from duologue.commands.table import COMMANDS, WITHOUT_CONFIGURATION
from duologue.completion import SCRIPTS


@pytest.fixture
def words(monkeypatch, capsys):
    """Returns what a line can go on with."""
    monkeypatch.setattr(sys, "argv", ["duologue"])
    monkeypatch.setenv("COMP_LINE", "")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def ask(line: str) -> list[str]:
        main(["completion", "words", line])
        return [word for word in capsys.readouterr().out.split("\n") if word]

    return ask


def test_commands_are_completed(words):
    assert words("duologue ") == [f"{name} " for name in {**COMMANDS, **WITHOUT_CONFIGURATION}]
    assert words("duologue tr") == ["train "]
    assert words("duologue nothing like it ") == []


def test_the_words_of_a_command_are_completed(words):
    assert words("duologue cassette ex") == ["export"]
    assert words("duologue completion ") == ["bash", "zsh", "fish"]


def test_overrides_are_completed_by_hydra(words):
    assert words("duologue train interface=s") == [
        "interface=select",
        "interface=strategy",
        "interface=strategy_decode",
    ]
    assert words("duologue train seed=1 agent.learn") == ["agent.learning_rate="]
    assert words("duologue judge-check judge=ll") == ["judge=llm"]
    assert words("duologue train judge@judges.rules=ru") == ["judge@judges.rules=rubric", "judge@judges.rules=rules"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_offers_the_words(tmp_path):
    """The script itself, in a real bash with the line and the cursor set as readline sets them."""
    command = tmp_path / "duologue"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m duologue "$@"\n')
    command.chmod(0o755)
    script = f"""
    PATH={tmp_path}:$PATH
    eval "$(duologue completion bash)"
    COMP_LINE="duologue ju"; COMP_POINT=${{#COMP_LINE}}
    _duologue; printf '%s\\n' "${{COMPREPLY[@]}}"; complete -p duologue
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.stdout.splitlines()[:2] == ["judge-check ", "judges "]
    assert "_duologue" in done.stdout.splitlines()[2]


@pytest.mark.parametrize("arguments", [[], ["tcsh"]])
def test_an_unknown_shell_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["completion", *arguments])
    assert ended.value.code == 2
    assert "takes one of bash, zsh, fish" in capsys.readouterr().err
    assert {"bash", "zsh", "fish"} == set(SCRIPTS)
