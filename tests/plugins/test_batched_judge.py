import asyncio
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from duologue.core.errors import CallFailed, CassetteMiss, ConfigError, EndpointRefused
from duologue.inference import InferenceClient
from duologue.plugins import Abstain, Failure, Score, Turn
from duologue.plugins.batched_judge import BatchedJudge, compared
from duologue.plugins.judges.function import FunctionJudge


class Scripted:
    """Answers each batch by a function, remembers the batches, and waits at a gate if there is one."""

    def __init__(self, answer: Callable[[Sequence[Turn]], Any], gate: asyncio.Event | None = None) -> None:
        self.answer = answer
        self.gate = gate
        self.entered = asyncio.Event()
        self.batches: list[list[str]] = []

    async def score(self, batch):
        self.batches.append([turn.reply for turn in batch])
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        return self.answer(batch)

    async def aclose(self):
        pass


def turns(count: int) -> list[Turn]:
    return [Turn((), str(i)) for i in range(count)]


def own_number(batch):
    return [Score(float(turn.reply)) for turn in batch]


def judged(answer, count=3, **options):
    """The verdicts of `count` turns that arrive at once, and the batches in which the judge saw them."""
    judge = Scripted(answer)
    bench = BatchedJudge("test", judge, **options)

    async def all_at_once():
        async with asyncio.timeout(10):
            return await asyncio.gather(*(bench.score(turn) for turn in turns(count)))

    return asyncio.run(all_at_once()), judge.batches


def raising(error: BaseException):
    def answer(batch):
        raise error

    return answer


def test_turns_that_arrive_at_once_are_one_batch_in_order():
    verdicts, batches = judged(own_number, 5)
    assert batches == [["0", "1", "2", "3", "4"]]
    assert [verdict.value for verdict in verdicts] == [0, 1, 2, 3, 4]


def test_a_batch_is_never_larger_than_batch_size():
    verdicts, batches = judged(own_number, 5, batch_size=2)
    assert batches == [["0", "1"], ["2", "3"], ["4"]]
    assert [verdict.value for verdict in verdicts] == [0, 1, 2, 3, 4]


def test_turns_that_arrive_while_a_batch_is_judged_form_the_next_one():
    async def scenario():
        judge = Scripted(own_number, gate=asyncio.Event())
        bench = BatchedJudge("test", judge)
        first = asyncio.create_task(bench.score(Turn((), "0")))
        await judge.entered.wait()
        later = [asyncio.create_task(bench.score(Turn((), str(i)))) for i in (1, 2, 3)]
        await asyncio.sleep(0)
        judge.gate.set()
        verdicts = await asyncio.gather(first, *later)
        return judge.batches, [verdict.value for verdict in verdicts]

    assert asyncio.run(scenario()) == ([["0"], ["1", "2", "3"]], [0, 1, 2, 3])


def test_a_bench_works_again_after_it_was_idle():
    async def scenario():
        judge = Scripted(own_number)
        bench = BatchedJudge("test", judge)
        await bench.score(Turn((), "0"))
        await asyncio.sleep(0)
        await bench.score(Turn((), "1"))
        return judge.batches

    assert asyncio.run(scenario()) == [["0"], ["1"]]


def test_only_the_verdicts_that_failed_are_asked_for_again():
    tried: set[str] = set()

    def answer(batch):
        verdicts = [
            Failure("first time") if int(t.reply) % 2 and t.reply not in tried else Score(float(t.reply)) for t in batch
        ]
        tried.update(turn.reply for turn in batch)
        return verdicts

    verdicts, batches = judged(answer, 5)
    assert batches == [["0", "1", "2", "3", "4"], ["1", "3"]]
    assert [verdict.value for verdict in verdicts] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_retries_are_bounded(retries):
    verdicts, batches = judged(lambda batch: [Failure("never")] * len(batch), 2, retries=retries)
    assert len(batches) == 1 + retries
    assert verdicts == [Failure("never")] * 2


def test_abstentions_are_not_retried():
    verdicts, batches = judged(lambda batch: [Abstain("no reference")] * len(batch), 2)
    assert len(batches) == 1
    assert verdicts == [Abstain("no reference")] * 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CallFailed("the weather"), "the weather"),
        (ValueError("bad luck"), "ValueError: bad luck"),
        (KeyError("k"), "KeyError: 'k'"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_a_judge_raises_is_a_failure_of_every_turn_after_the_retries(error, words):
    verdicts, batches = judged(raising(error), 2)
    assert len(batches) == 2
    assert all(isinstance(verdict, Failure) and words in verdict.error for verdict in verdicts)


def test_a_judge_that_recovers_gives_scores():
    errors = [RuntimeError("once")]

    def answer(batch):
        if errors:
            raise errors.pop()
        return own_number(batch)

    verdicts, _ = judged(answer, 2)
    assert [verdict.value for verdict in verdicts] == [0, 1]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_verdicts_is_a_failure_of_every_turn(count):
    verdicts, _ = judged(lambda batch: [Score(1.0)] * count, 2)
    assert verdicts == [Failure(f"returned {count} verdicts for 2 turns")] * 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), None, "0.5", 1j, 10**400])
def test_a_score_that_is_no_finite_number_is_a_failure(value):
    verdicts, _ = judged(lambda batch: [Score(value), Score(0.25)], 2, retries=0)
    assert verdicts[0] == Failure(f"the score is {value!r}")
    assert verdicts[1] == Score(0.25)


@pytest.mark.parametrize("value", [0.5, None, "good", {"value": 1}])
def test_what_is_no_verdict_is_a_failure(value):
    verdicts, _ = judged(lambda batch: [value, Score(0.25)], 2, retries=0)
    assert isinstance(verdicts[0], Failure)
    assert type(value).__name__ in verdicts[0].error
    assert verdicts[1] == Score(0.25)


def test_a_judge_that_returns_nothing_is_a_failure():
    verdicts, _ = judged(lambda batch: None, 2)
    assert all(isinstance(verdict, Failure) for verdict in verdicts)


@pytest.mark.parametrize("kind", [ConfigError, EndpointRefused, CassetteMiss])
def test_what_no_retry_can_mend_reaches_everyone_who_waits_and_is_not_retried(kind):
    async def scenario():
        judge = Scripted(raising(kind("wrong key")))
        bench = BatchedJudge("test", judge)
        results = await asyncio.gather(*(bench.score(turn) for turn in turns(3)), return_exceptions=True)
        return judge.batches, results

    batches, results = asyncio.run(scenario())
    assert len(batches) == 1
    assert [(type(error), str(error)) for error in results] == [(kind, "wrong key")] * 3


def test_after_an_error_the_next_batch_is_judged():
    def answer(batch):
        if batch[0].reply == "0":
            raise ConfigError("only the first")
        return own_number(batch)

    async def scenario():
        bench = BatchedJudge("test", Scripted(answer), batch_size=2)
        return await asyncio.gather(*(bench.score(turn) for turn in turns(4)), return_exceptions=True)

    first, second, third, fourth = asyncio.run(scenario())
    assert isinstance(first, ConfigError)
    assert isinstance(second, ConfigError)
    assert (third, fourth) == (Score(2.0), Score(3.0))


def test_a_waiter_that_goes_away_before_the_batch_is_not_judged():
    async def scenario():
        judge = Scripted(own_number)
        bench = BatchedJudge("test", judge)
        tasks = [asyncio.create_task(bench.score(turn)) for turn in turns(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return judge.batches, results

    batches, (first, second, third) = asyncio.run(scenario())
    assert batches == [["0", "2"]]
    assert isinstance(second, asyncio.CancelledError)
    assert (first, third) == (Score(0.0), Score(2.0))


def test_a_waiter_that_goes_away_during_the_batch_hurts_nobody():
    async def scenario():
        judge = Scripted(own_number, gate=asyncio.Event())
        bench = BatchedJudge("test", judge)
        tasks = [asyncio.create_task(bench.score(turn)) for turn in turns(3)]
        await judge.entered.wait()
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        judge.gate.set()
        rest = await asyncio.gather(*tasks[1:])
        return tasks[0].cancelled(), rest, await bench.score(Turn((), "9"))

    assert asyncio.run(scenario()) == (True, [Score(1.0), Score(2.0)], Score(9.0))


def test_a_judge_is_not_asked_when_everyone_went_away():
    async def scenario():
        judge = Scripted(own_number)
        bench = BatchedJudge("test", judge)
        tasks = [asyncio.create_task(bench.score(turn)) for turn in turns(2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        verdict = await bench.score(Turn((), "7"))
        return judge.batches, verdict

    assert asyncio.run(scenario()) == ([["7"]], Score(7.0))


def test_a_judge_that_is_cancelled_leaves_nobody_waiting():
    async def scenario():
        bench = BatchedJudge("test", Scripted(raising(asyncio.CancelledError())), batch_size=1)
        tasks = [asyncio.create_task(bench.score(turn)) for turn in turns(3)]
        done, pending = await asyncio.wait(tasks, timeout=5)
        for task in pending:
            task.cancel()
        return [task.cancelled() for task in done], len(pending)

    assert asyncio.run(scenario()) == ([True] * 3, 0)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": -1}, {"retries": -1}])
def test_options_that_could_never_work_are_refused(options):
    with pytest.raises(ValueError, match="must be at least"):
        BatchedJudge("test", Scripted(own_number), **options)


class Slow(Scripted):
    """Takes as many hundredths of a second for a turn as its reply says, for a batch as long as for its slowest turn."""

    async def score(self, batch):
        self.batches.append([turn.reply for turn in batch])
        await asyncio.sleep(max(int(turn.reply) for turn in batch) / 100)
        return self.answer(batch)


@pytest.mark.parametrize(("concurrent", "order"), [(True, ["1", "20"]), (False, ["20", "1"])])
def test_a_quick_verdict_does_not_wait_for_a_slow_one_where_turns_are_judged_apart(concurrent, order):
    judge, done = Slow(own_number), []
    judge.concurrent = concurrent
    bench = BatchedJudge("test", judge)

    async def one(reply):
        await bench.score(Turn((), reply))
        done.append(reply)

    async def both():
        async with asyncio.timeout(10):
            await asyncio.gather(one("20"), one("1"))

    asyncio.run(both())
    assert done == order
    assert len(judge.batches) == (2 if concurrent else 1)


def test_a_concurrent_judge_is_asked_again_for_the_turn_that_failed_and_no_other():
    def fails_once(batch):
        return [Failure("unreadable")] if len(judge.batches) == 1 else own_number(batch)

    judge = Scripted(fails_once)
    judge.concurrent = True
    bench = BatchedJudge("test", judge, retries=1)

    async def main():
        first = await bench.score(Turn((), "1"))
        return [first, await bench.score(Turn((), "2"))]

    assert [verdict.value for verdict in asyncio.run(main())] == [1.0, 2.0]
    assert judge.batches == [["1"], ["1"], ["2"]]


LEAVING = """
import asyncio, sys

async def later():
    await asyncio.sleep(0)
    sys.exit("enough")

def now(turn):
    sys.exit("enough")

async def in_a_task(turn):
    await asyncio.gather(later(), asyncio.sleep(1))

class Judge:
    async def score(self, batch):
        await asyncio.gather(later(), asyncio.sleep(1))

    async def compare(self, batch):
        raise KeyboardInterrupt

    async def aclose(self):
        pass
"""


@pytest.mark.parametrize(("name", "threaded"), [("now", False), ("now", True), ("in_a_task", False)])
def test_a_judge_that_exits_is_a_failure_with_its_line_and_the_loop_goes_on(tmp_path, monkeypatch, name, threaded):
    (tmp_path / "leaving.py").write_text(LEAVING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "leaving", raising=False)
    bench = BatchedJudge("mine", FunctionJudge(f"leaving:{name}", threaded))
    client = InferenceClient()
    try:
        for _ in range(2):
            verdict = client.run(bench.score(turns(1)[0]))
            assert isinstance(verdict, Failure)
            assert re.fullmatch(r"SystemExit: enough \(\S*leaving.py, line \d+\)", verdict.error)
    finally:
        client.close()


def test_a_judge_class_that_exits_is_a_failure_alone_and_in_pairs(tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text(LEAVING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "leaving", raising=False)
    import leaving

    client = InferenceClient()
    try:
        one, two = turns(2)
        failed = client.run(BatchedJudge("mine", leaving.Judge()).score(one))
        assert re.fullmatch(r"SystemExit: enough \(\S*leaving.py, line 6\)", failed.error)
        failed = client.run(compared(leaving.Judge(), one, two))
        assert re.fullmatch(r"KeyboardInterrupt \(\S*leaving.py, line 19\)", failed.error)
    finally:
        client.close()
