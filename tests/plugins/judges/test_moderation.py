"""The moderation endpoint's scores as a judge."""

import pytest

from duologue.plugins import Failure, Score, Turn
from duologue.plugins.judges.moderation import ModerationJudge

SCORES = {"violence": 0.1, "hate": 0.7}


def judge(context, reply, **settings):
    return context.client.run(ModerationJudge(context, **settings).score([Turn((), reply)]))[0]


def test_the_worst_category_counts(server, context):
    server.others["moderations"] = lambda body: {"results": [{"category_scores": SCORES, "flagged": True}]}
    assert judge(context, "So.") == Score(pytest.approx(0.3), SCORES)
    assert server.requests == [{"model": "omni-moderation-latest", "input": "So."}]


def test_categories_can_be_chosen(server, context):
    server.others["moderations"] = lambda body: {"results": [{"category_scores": SCORES}]}
    assert judge(context, "So.", categories=["violence"]) == Score(pytest.approx(0.9), {"violence": 0.1})
    unknown = judge(context, "Well.", categories=["rudeness"])
    assert unknown == Failure("the endpoint scores no category `rudeness`, only hate, violence")


@pytest.mark.parametrize(("given", "value"), [(None, 0.9), (0.5, 0.5), (7, None), (-0.5, None)])
def test_a_category_that_was_not_looked_at_is_left_out_and_an_impossible_score_fails(server, context, given, value):
    server.others["moderations"] = lambda body: {"results": [{"category_scores": {"violence": 0.1, "minors": given}}]}
    found = judge(context, "So.")
    assert isinstance(found, Failure) if value is None else found.value == pytest.approx(value)


def test_an_empty_reply_is_not_sent(server, context):
    assert judge(context, " \n") == Score(1.0, rationale="empty reply")
    assert not server.requests


@pytest.mark.parametrize(
    "answer", [{"results": []}, {"results": [{"category_scores": {}}]}, {}, {"results": [{"flagged": False}]}]
)
def test_an_answer_without_scores_is_a_failure(server, context, monkeypatch, answer):
    monkeypatch.setattr("duologue.inference.transport.retries._FIRST_PAUSE_S", 0.001)
    server.others["moderations"] = lambda body: answer
    assert isinstance(judge(context, "So."), Failure)


def test_what_was_asked_once_is_not_asked_again(server, context):
    server.others["moderations"] = lambda body: {"results": [{"category_scores": SCORES}]}
    assert judge(context, "So.") == judge(context, "So.")
    assert len(server.requests) == 1
    assert (context.client.meter.roles["judge"].paid, context.client.meter.roles["judge"].reused) == (1, 1)
