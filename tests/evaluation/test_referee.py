import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from duologue.core.errors import CallFailed, EndpointRefused
from duologue.envs import Scenario
from duologue.evaluation.contestants import Answer
from duologue.evaluation.referee import TIE_MARGIN, Match, Referee
from duologue.plugins import Abstain, Failure, Preference, Score, Turn


class Graded:
    """A judge that gives each reply what a table says: a verdict, a number or an exception to raise."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = table
        self.closed = 0

    async def score(self, batch):
        entries = [self.table[turn.reply] for turn in batch]
        for entry in entries:
            if isinstance(entry, Exception):
                raise entry
        return [Score(entry) if isinstance(entry, float) else entry for entry in entries]

    async def aclose(self):
        self.closed += 1


class Comparing:
    """A pairwise judge: `rule(first reply, second reply)` gives the batch's answers, or a winner."""

    def __init__(self, rule: Callable[[str, str], Any]) -> None:
        self.rule = rule
        self.seen: list[tuple[str, str]] = []

    async def compare(self, batch):
        ((first, second),) = batch
        self.seen.append((first.reply, second.reply))
        answer = self.rule(first.reply, second.reply)
        if isinstance(answer, Exception):
            raise answer
        return [Preference(answer)] if isinstance(answer, str) else answer

    async def aclose(self):
        pass


def decide(judge: Any, contestant: Any, baseline: Any) -> Match:
    return asyncio.run(Referee("the judge", judge).decide(contestant, baseline))


@pytest.mark.parametrize(("own", "other", "outcome"), [(0.9, 0.2, "win"), (0.2, 0.9, "loss"), (0.4, 0.4, "tie")])
def test_a_judge_of_single_replies_decides_by_its_scores(played, own, other, outcome):
    match = decide(Graded({"mine": own, "theirs": other}), played("mine"), played("theirs"))
    assert (match.outcome, match.scores, match.failure) == (outcome, (own, other), None)


def test_scores_give_the_same_result_in_both_orders(played):
    match = decide(Graded({"mine": 0.9, "theirs": 0.2}), played("mine"), played("theirs"))
    assert (match.orders, match.score, match.consistent) == ((1.0, 1.0), 1.0, True)


def test_a_reply_is_scored_once_however_many_matches_it_plays(played):
    class Counts:
        seen = 0

        async def score(self, batch):
            self.seen += len(batch)
            return [Score(float(len(turn.reply))) for turn in batch]

        async def aclose(self):
            pass

    judge = Counts()
    referee = Referee("counts", judge)

    async def matches():
        return [await referee.decide(played("long reply"), played(other)) for other in ("a", "bb", "a")]

    assert [match.outcome for match in asyncio.run(matches())] == ["win"] * 3
    assert judge.seen == 3  # the contestant's reply, and two different ones of the baseline


def test_changing_sides_mirrors_the_result(played):
    judge = Graded({"mine": 0.9, "theirs": 0.2})
    there, back = decide(judge, played("mine"), played("theirs")), decide(judge, played("theirs"), played("mine"))
    assert there.score + back.score == 1


@pytest.mark.parametrize(("difference", "outcome"), [(TIE_MARGIN / 2, "tie"), (-TIE_MARGIN / 2, "tie"), (2e-9, "win")])
def test_scores_within_rounding_are_a_tie(played, difference, outcome):
    assert decide(Graded({"a": difference, "b": 0.0}), played("a"), played("b")).outcome == outcome


@pytest.mark.parametrize("side", ["mine", "theirs"])
@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (Failure("no number in it"), "no number in it"),
        (Abstain("no reference"), "abstained: no reference"),
        (float("nan"), "the score is nan"),
        (RuntimeError("boom"), "RuntimeError: boom"),
        (CallFailed("the judge model is down"), "the judge model is down"),
    ],
)
def test_without_a_score_for_either_reply_there_is_no_result(played, side, verdict, said):
    match = decide(Graded({"mine": 1.0, "theirs": 0.0, side: verdict}), played("mine"), played("theirs"))
    assert match.failure.startswith(f"the judge: {said}")
    assert (match.orders, match.scores) == ((), None)


def test_only_the_last_turn_of_a_dialogue_is_judged(played):
    early, late = played("early").turns[0], played("late").turns[0]
    answer = type(played(""))(played("").scenario, 0, (early, late), ("plain", "plain"))
    assert decide(Graded({"late": 1.0, "theirs": 0.0}), answer, played("theirs")).outcome == "win"


def test_a_pairwise_judge_sees_both_orders(played):
    judge = Comparing(lambda first, second: "tie")
    assert decide(judge, played("mine"), played("theirs")).orders == (0.5, 0.5)
    assert sorted(judge.seen) == [("mine", "theirs"), ("theirs", "mine")]


@pytest.mark.parametrize("position", ["first", "second"])
def test_a_judge_that_always_prefers_one_position_gives_an_inconsistent_tie(played, position):
    match = decide(Comparing(lambda first, second: position), played("mine"), played("theirs"))
    assert (match.outcome, match.consistent, match.failure) == ("tie", False, None)
    assert match.orders == ((1.0, 0.0) if position == "first" else (0.0, 1.0))


@pytest.mark.parametrize(("own", "other", "orders"), [("long one", "x", (1.0, 1.0)), ("x", "long one", (0.0, 0.0))])
def test_a_judge_that_looks_at_the_replies_is_consistent_in_both_orders(played, own, other, orders):
    judge = Comparing(lambda first, second: "first" if len(first) > len(second) else "second")
    match = decide(judge, played(own), played(other))
    assert (match.orders, match.consistent) == (orders, True)


def test_preferred_in_one_order_and_equal_in_the_other_is_half_a_win(played):
    match = decide(Comparing(lambda first, _: "first" if first == "mine" else "tie"), played("mine"), played("theirs"))
    assert (match.score, match.outcome, match.consistent) == (0.75, "win", False)


@pytest.mark.parametrize("bad_order", ["mine", "theirs"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([Failure("cannot be read")], "cannot be read"),
        (CallFailed("the judge model is down"), "the judge model is down"),
        (RuntimeError("boom"), "RuntimeError: boom"),
        ([], "returned 0 preferences for 1 pair"),
        ([Preference("first"), Preference("first")], "returned 2 preferences for 1 pair"),
        ([None], "returned None, not a `Preference`"),
        (None, "TypeError"),
        ("A", "returned Preference(winner='A'"),
    ],
)
def test_a_pairwise_judge_that_fails_in_one_order_gives_no_result(played, bad_order, answer, said):
    """A winner of another name would otherwise count as a loss in both orders."""
    judge = Comparing(lambda first, second: answer if first == bad_order else "first")
    match = decide(judge, played("mine"), played("theirs"))
    assert match.failure.startswith(f"the judge: {said}")
    assert match.orders == ()


@pytest.mark.parametrize(
    "make", [lambda error: Graded({"mine": error, "theirs": 0.0}), lambda error: Comparing(lambda *_: error)]
)
def test_what_no_retry_can_mend_ends_the_evaluation(played, make):
    with pytest.raises(EndpointRefused, match="wrong key"):
        decide(make(EndpointRefused("wrong key")), played("mine"), played("theirs"))


def test_the_oracle_can_use_a_judge_of_single_replies_only():
    assert Referee("scores", Graded({})).batched_judge is not None
    assert Referee("compares", Comparing(lambda *_: "tie")).batched_judge is None


def test_closing_the_referee_closes_the_judge_once():
    judge = Graded({})
    asyncio.run(Referee("the judge", judge).aclose())
    assert judge.closed == 1


def whole(*replies: str) -> Answer:
    turns = tuple(Turn(({"role": "user", "content": "Q?"},), reply, index=i) for i, reply in enumerate(replies))
    return Answer(Scenario("one", "test", ("Q?",) * len(replies)), 0, turns, ("plain",) * len(replies))


TABLE = {"good": 0.8, "fair": 0.6, "bad": 0.1, "mute": Abstain("nothing to say"), "broken": Failure("no answer")}


@pytest.mark.parametrize(
    ("judged", "mine", "theirs", "scores"),
    [
        ("last", ("bad", "good"), ("good", "fair"), (0.8, 0.6)),
        ("all", ("bad", "good"), ("good", "fair"), (0.45, 0.7)),  # (0.1 + 0.8) / 2 and (0.8 + 0.6) / 2
        ("all", ("mute", "good"), ("fair",), (0.8, 0.6)),  # turns of which it abstains are left out
        ("all", ("mute", "mute"), ("fair",), None),
        ("all", ("broken", "good"), ("fair",), None),
        ("last", ("broken", "good"), ("fair",), (0.8, 0.6)),
    ],
)
def test_a_dialogue_by_its_last_turn_or_by_all(judged, mine, theirs, scores):
    match = asyncio.run(Referee("the judge", Graded(TABLE), judged).decide(whole(*mine), whole(*theirs)))
    assert (match.failure is None) == (scores is not None)
    assert match.scores is None if scores is None else match.scores == pytest.approx(scores)
