import io

import pytest
from rich.console import Console

from duologue.evaluation.report.tables import headline, show_results


def row(contestant, win_rate=None, low=None, high=None, n=0, **counts):
    filled = {"wins": 0, "ties": 0, "losses": 0, "failures": 0} | counts
    return {
        "contestant": contestant,
        "baseline": "plain model",
        "judge": "chrf",
        "win_rate": win_rate,
        "low": low,
        "high": high,
        "n": n,
        **filled,
    }


@pytest.fixture
def shown():
    """The table's lines, without frames: each a list of cells."""

    def show(rows, width=120):
        console = Console(file=io.StringIO(), width=width)
        show_results(rows, console)
        lines = console.file.getvalue().splitlines()
        return lines[0].strip(), [[c.strip() for c in line.strip("│┃ ").split("│")] for line in lines if "│" in line]

    return show


def test_the_table_names_baseline_and_judge_and_puts_the_best_first(shown):
    title, cells = shown(
        [
            row("random", 0.5, 0.4, 0.6, 8, wins=3, ties=2, losses=3),
            row("trained policy", 0.75, 0.6, 0.85, 8, wins=6, losses=2),
            row("always candidate 0", failures=8),
            row("always candidate 1", 0.0, 0.0, 0.1, 8, losses=8),
        ]
    )
    assert title == "Win rate against plain model, judged by chrf"
    assert cells == [
        ["trained policy", "0.750", "0.600 to 0.850", "6", "0", "2", "0"],
        ["random", "0.500", "0.400 to 0.600", "3", "2", "3", "0"],
        ["always candidate 1", "0.000", "0.000 to 0.100", "0", "0", "8", "0"],
        ["always candidate 0", "none", "", "0", "0", "0", "8"],
    ]


def test_the_candidates_of_select_fit_eighty_columns(shown):
    rows = [row(f"always candidate {i}", 0.5, 0.4, 0.6, 999, wins=333, ties=333, losses=333) for i in range(4)]
    _, cells = shown(rows, width=80)
    assert [line[0] for line in cells] == [f"always candidate {i}" for i in range(4)]


def test_a_directive_with_brackets_is_shown_as_it_is(shown):
    _, cells = shown([row("always End with [/done] or [red]", 0.5, 0.4, 0.6, 8)])
    assert cells[0][0] == "always End with [/done] or [red]"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.51, 0.7, "better than"),
        (0.3, 0.49, "worse than"),
        (0.5, 0.7, "not shown to differ from"),
        (0.3, 0.5, "not shown to differ from"),
        (0.45, 0.7, "not shown to differ from"),
    ],
)
def test_the_headline_claims_a_difference_only_if_the_interval_leaves_out_one_half(low, high, verdict):
    text = headline([row("trained policy", 0.6, low, high, 40)])
    assert text == (
        f"The trained policy is {verdict} plain model: win rate 60.0% ({low:.1%} to {high:.1%}) over 40 held-out matches, "
        "0 won, 0 tied and 0 lost."
    )


def test_the_headline_compares_with_the_best_constant_action_that_was_decided():
    constants = [row("always candidate 0", 0.4), row("plain sample", 0.55), row("always candidate 2")]
    text = headline([row("random", 0.9), row("trained policy", 0.6, 0.4, 0.7, 40), *constants])
    assert text.endswith("over 40 held-out matches, 0 won, 0 tied and 0 lost; the best constant action has 55.0%.")


@pytest.mark.parametrize(
    "rows", [[], [row("random", failures=8)], [row("trained policy", failures=8), row("random", 0.5, 0.4, 0.6, 8)]]
)
def test_there_is_no_headline_without_a_decided_match(rows):
    assert headline(rows) == ""


def test_without_a_trained_policy_the_best_has_the_headline():
    rows = [row("a", 0.4, 0.3, 0.5, 8), row("b", 0.7, 0.6, 0.8, 8, wins=2, ties=6)]
    said = "b is better than plain model: win rate 70.0% (60.0% to 80.0%) over 8 matches, 2 won, 6 tied and 0 lost."
    assert headline(rows) == said


LONG = [f"meta-llama/Llama-3.1-{size}-Instruct-Turbo-{kind}" for size in ("8B", "70B") for kind in ("FP8", "BF16")]


@pytest.mark.parametrize(
    "names",
    [
        LONG,
        ["my-company/" + "x" * 60 + f"/{i}/" + "y" * 60 for i in range(12)],
        ["a" * 40, "a" * 41],
        ["short", "a name\nof\tseveral lines that goes on for longer than there is room"],
    ],
)
@pytest.mark.parametrize("width", [80, 100])
def test_names_that_are_too_long_are_told_apart(shown, names, width):
    rows = [row(name, 0.5, 0.4, 0.6, 999, wins=333, ties=333, losses=333) for name in names]
    _, cells = shown(rows, width=width)
    assert len(cells) == len(names)
    assert len({line[0] for line in cells}) == len(names)


def test_names_that_fit_are_shown_whole(shown):
    rows = [row(name, 0.5, 0.4, 0.6, 9) for name in LONG]
    assert [line[0] for line in shown(rows, width=140)[1]] == LONG
