"""Several judges as one: what they say together, and what becomes of those that fail or abstain."""

import pytest

from duologue.inference import ConfigError
from duologue.plugins import Abstain, Failure, Plugins, Preference, Turn
from duologue.plugins.judges.panel import PairPanel, ScorePanel


def first(turn):
    return says(turn, 0)


def second(turn):
    return says(turn, 1)


def third(turn):
    return says(turn, 2)


def says(turn, place):
    """The member's verdict is in the reply: `0.2|fail|none`, an entry a member."""
    said = turn.reply.split("|")[place]
    return Failure("broken") if said == "fail" else None if said == "none" else float(said)


def panel(context, **settings):
    judges = {name: {"name": "python", "function": f"{__name__}:{name}"} for name in ("first", "second", "third")}
    return Plugins(discover=False).build({"name": "panel", "judges": judges, **settings}, "judges.x", context)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


@pytest.mark.parametrize(
    ("settings", "said", "expected"),
    [
        ({}, "0.2|0.4|0.9", 0.5),
        ({"how": "median"}, "0.2|0.4|0.9", 0.4),
        ({"how": "vote"}, "0.2|0.4|0.9", 0.0),
        ({"how": "vote"}, "0.2|0.6|0.9", 1.0),
        ({"how": "vote", "threshold": 0.95}, "0.2|0.6|0.9", 0.0),
        ({"how": "vote"}, "0.2|0.6|none", 0.5),
        ({}, "0.2|0.4|none", 0.3),
        ({"quorum": 2}, "0.2|0.4|fail", 0.3),
        ({"quorum": 2}, "0.2|fail|none", None),
        ({}, "0.2|0.4|fail", None),
    ],
)
def test_scores_are_folded_and_a_failure_is_never_a_number(context, settings, said, expected):
    judge = panel(context, **settings)
    (verdict,) = context.client.run(judge.score([Turn((), said)]))
    if expected is None:
        assert verdict == Failure(f"{'second' if 'none' in said else 'third'}: broken")
    else:
        assert verdict.value == pytest.approx(expected)
        assert verdict.components == {
            name: float(entry)
            for name, entry in zip(("first", "second", "third"), said.split("|"), strict=True)
            if entry not in ("none", "fail")
        }


def test_where_all_abstain_the_panel_abstains(context):
    (verdict,) = context.client.run(panel(context).score([Turn((), "none|none|none")]))
    assert isinstance(verdict, Abstain)
    assert "first: the function returned None" in verdict.reason


class Fixed:
    """Prefers what it was told to."""

    requests_per_pair = 1

    def __init__(self, winner, score=None):
        self.winner, self.score, self.closed = winner, score, False

    async def compare(self, batch):
        if self.winner == "fail":
            return [Failure("broken")] * len(batch)
        return [Preference(self.winner, score=self.score, cost_usd=0.5) for _ in batch]

    async def aclose(self):
        self.closed = True


@pytest.mark.parametrize(
    ("winners", "quorum", "expected"),
    [
        (("first", "first", "second"), 0, "first"),
        (("first", "second", "tie"), 0, "tie"),
        (("tie", "tie", "second"), 0, "tie"),
        (("first", "fail", "first"), 2, "first"),
        (("first", "second", "fail"), 2, "tie"),
        (("first", "first", "fail"), 0, None),
    ],
)
def test_comparisons_are_decided_by_the_most(client, winners, quorum, expected):
    judge = PairPanel({str(i): Fixed(winner) for i, winner in enumerate(winners)}, quorum)
    (verdict,) = client.run(judge.compare([(Turn((), "a"), Turn((), "b"))]))
    if expected is None:
        assert verdict == Failure("2: broken")
    else:
        assert verdict.winner == expected
        assert verdict.cost_usd == 0.5 * sum(winner != "fail" for winner in winners)
    assert judge.requests_per_pair == 3


def test_the_members_certainty_enters_the_panels_score(client):
    judge = PairPanel({"a": Fixed("first", 0.6), "b": Fixed("second")}, 0)
    (verdict,) = client.run(judge.compare([(Turn((), "a"), Turn((), "b"))]))
    assert verdict.score == pytest.approx(0.3)


def test_closing_a_panel_closes_its_members(client):
    members = {"a": Fixed("first"), "b": Fixed("tie")}
    client.run(PairPanel(members, 0).aclose())
    assert all(judge.closed for judge in members.values())


def test_a_panel_counts_the_requests_of_its_members(context):
    judge = Plugins(discover=False).build(
        {"name": "panel", "judges": {"a": "llm", "b": {"name": "rubric"}, "c": "rules"}}, "judges.x", context
    )
    assert isinstance(judge, ScorePanel)
    assert judge.requests_per_turn == 2
    assert not judge.needs_reference
    context.client.run(judge.aclose())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"judges": {"a": "rules"}}, "needs at least two `judges`, not 1"),
        ({"judges": {"a": "rules", "b": None}}, "needs at least two `judges`, not 1"),
        ({"judges": {"a": "rules", "b": "pairwise"}}, "must all score or all compare: a score"),
        ({"judges": {"a": "rules", "b": "ruls"}}, "`judges.b`: there is no judge `ruls`: did you mean `rules`"),
        ({"judges": {"a": "rules", "b": "length"}, "quorum": 3}, "`quorum` must be from 0 to 2"),
        ({"judges": {"a": "rules", "b": "length"}, "how": "max"}, "how` must be one of mean, median, vote"),
    ],
)
def test_a_panel_that_cannot_be_is_refused(context, settings, said):
    with pytest.raises(ConfigError, match=said):
        Plugins(discover=False).build({"name": "panel", **settings}, "judges.x", context)


def test_a_panel_of_those_that_compare_decides_matches(server, context):
    server.answer = lambda body: "Verdict: A"
    settings = {"name": "panel", "judges": {"a": "pairwise", "b": {"name": "pairwise", "rubric": "tutor"}}}
    judge = Plugins(discover=False).build(settings, "evaluation.judge", context)
    (verdict,) = context.client.run(judge.compare([(Turn((), "a"), Turn((), "b"))]))
    assert (verdict.winner, len(server.requests)) == ("first", 2)
