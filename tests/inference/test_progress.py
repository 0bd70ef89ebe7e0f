import io

import pytest
from rich.console import Console

from duologue.inference import Completion, Meter
from duologue.inference.progress import ProgressLine

PAID = Completion("x", completion_tokens=5)


@pytest.fixture
def file(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):  # each makes a terminal of any file
        monkeypatch.delenv(name, raising=False)
    return io.StringIO()


def test_a_log_file_gets_one_plain_line_at_the_end(file):
    meter = Meter()
    meter.count("assistant", PAID)  # before the line: not its own
    with ProgressLine("training", 300, meter, Console(file=file)) as line:
        for done in range(1, 301):
            meter.count("assistant", PAID)
            line.update(done, f"reward {done / 1000:.2f}")
    text = file.getvalue()
    assert text.startswith("training 300/300 · reward 0.30 · 300 requests · ")
    assert text.endswith(" s\n")
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\r" not in text


def test_a_long_line_is_not_broken(file):
    with ProgressLine("training " + "x" * 200, 1, Meter(), Console(file=file, width=40)):
        pass
    assert file.getvalue().count("\n") == 1


def test_brackets_in_a_title_or_figure_are_shown_as_they_are(file):
    with ProgressLine("run [red]", 1, Meter(), Console(file=file)) as line:
        line.update(1, "mean [blue]")
    assert file.getvalue().startswith("run [red] 1/1 · mean [blue] · ")


def test_the_last_figure_stays_until_another_comes(file):
    with ProgressLine("training", 4, Meter(), Console(file=file)) as line:
        line.update(1, "reward 0.50")
        line.update(2)
    assert file.getvalue().startswith("training 2/4 · reward 0.50 · 0 requests · 0 tokens/s · ")


def test_no_more_is_done_than_there_is(file):
    with ProgressLine("training", 4, Meter(), Console(file=file)) as line:
        line.update(6)
    assert file.getvalue().startswith("training 4/4 · ")


def test_a_failed_run_has_no_line_that_looks_like_its_end(file):
    line = ProgressLine("training", 4, Meter(), Console(file=file))
    with pytest.raises(LookupError), line:
        line.update(1)
        raise LookupError
    assert file.getvalue() == ""


def test_a_terminal_gets_a_bar_and_no_plain_line(file):
    with ProgressLine("run [red]", 4, Meter(), Console(file=file, force_terminal=True, width=120)) as line:
        line.update(4, "mean [blue]")
    text = file.getvalue()
    assert "\x1b[" in text
    assert "4/4" in text
    assert "run [red] 4/4 · " not in text
    assert "run [red]" in text
    assert "mean [blue]" in text


def test_progress_goes_to_standard_error_by_default(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with ProgressLine("training", 1, Meter()) as line:
        line.update(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "training" in err


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(file, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with ProgressLine("training", 2, Meter(), Console(file=file, force_terminal=True)) as line:
        line.update(1)
    assert file.getvalue().startswith("training 1/2 · ")
    assert file.getvalue().count("\n") == 1


def test_a_narrow_terminal_shortens_the_figures_and_keeps_the_count(file):
    console = Console(file=file, force_terminal=True, width=80, color_system=None, legacy_windows=False)
    with ProgressLine("training", 1536, Meter(), console) as line:
        line.update(1536, "reward 0.523 in the last hundred episodes of all")
    last = [line for line in file.getvalue().splitlines() if "training" in line][-1]
    assert "1536/1536" in last
    assert "reward 0.523" in last
    assert "0:00:0" in last
