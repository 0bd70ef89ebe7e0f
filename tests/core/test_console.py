"""Texts from outside in a terminal: whatever they hold, only our own styles steer it."""

import io

import pytest
from rich.table import Table
from rich.text import Text

from duologue.core.console import Console, printable, say

STEERING = "a\x1b[31mb\x1b]0;title\x07c\x9bd\u202ee\rf\ud800g"
SHOWN = r"a\x1b[31mb\x1b]0;title\x07c\x9bd\u202ee\rf\ud800g"


def test_what_steers_is_written_out_and_the_rest_stays():
    assert printable(STEERING) == SHOWN
    for text in ("plain", "Größe, 日本語, 👍🏽, שלום", "two\nlines\tand a tab", r"C:\x1b"):
        assert printable(text) == text


def in_table(text):
    table = Table(title=text)
    table.add_column(text)
    table.add_row(Text(text), text.replace("[", "("), style="bold")
    return table


@pytest.mark.parametrize("make", [str, Text, in_table, lambda text: Text.assemble(("x", "bold"), text)])
def test_a_console_shows_any_text_without_obeying_it(make):
    plain = Console(file=io.StringIO(), width=200)
    plain.print(make(STEERING), markup=False, highlight=False)
    shown = plain.file.getvalue()
    assert not set("\x1b\x07\x9b\u202e\ud800\r") & set(shown)
    assert r"\x1b" in shown
    assert shown.encode()


def test_styles_of_our_own_still_colour():
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(Text.assemble(("red", "red"), "\x1b[32m"))
    assert console.file.getvalue() == "\x1b[31mred\x1b[0m\\x1b[32m\n"


def test_lines(capsys):
    say(f"[b]{STEERING}")
    assert capsys.readouterr().out.startswith(r"[b]a\x1b[31mb")
