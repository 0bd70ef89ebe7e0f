"""One budget for several processes: on one machine by SQLite, on several by PostgreSQL."""

import asyncio
import sqlite3
import subprocess
import sys
import time

import pytest

from duologue.inference import BudgetSpent, CassetteError, Endpoint, InferenceClient, Limits, Sampling
from duologue.inference.budget.budget import Amount
from duologue.inference.budget.shared import SharedBudget, SharedBudgetStore, budget_from_settings


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path) -> str:
    return str(tmp_path / "budget.sqlite") if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture
def workers(place, request):
    """Makes budgets that share one account: `workers(requests=10)` twice are two workers."""
    made: list[SharedBudget] = []

    def make(roles=None, **limits) -> SharedBudget:
        made.append(SharedBudget(SharedBudgetStore(place, request.node.name), Limits(**limits), roles))
        return made[-1]

    yield make
    for budget in made:
        budget.close()


ONE = Amount(1, 10, 0.5)


def test_limits_hold_for_all_workers_together(workers):
    async def play() -> None:
        a, b = workers(requests=3), workers(requests=3)
        for budget in (a, b, a):
            await budget.reserve("assistant", ONE)
            budget.settle("assistant", ONE, ONE)
        for budget in (a, b):
            with pytest.raises(
                BudgetSpent, match=r"inference.budget.requests=3.*by all workers: 3 requests, 30 tokens"
            ):
                await budget.reserve("assistant", ONE)
        assert (a.total.requests, b.total.requests) == (2, 1)

    asyncio.run(play())


def test_a_worker_waits_for_what_another_may_give_back(workers):
    async def play() -> None:
        a, b = workers(tokens=100), workers(tokens=100)
        await a.reserve("assistant", Amount(1, 90, 0.0))
        waiting = asyncio.create_task(b.reserve("assistant", Amount(1, 50, 0.0)))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        a.settle("assistant", Amount(1, 90, 0.0), Amount(1, 20, 0.0))
        await asyncio.wait_for(waiting, 10)
        b.settle("assistant", Amount(1, 50, 0.0), Amount(1, 50, 0.0))

    asyncio.run(play())


def test_what_another_role_set_aside_is_not_waited_for(workers):
    async def play() -> None:
        a, b = (workers({"judge": Limits(requests=0)}) for _ in range(2))
        await a.reserve("assistant", ONE)
        with pytest.raises(BudgetSpent, match=r"budget.roles.judge.requests=0"):
            await asyncio.wait_for(b.reserve("judge", ONE), 10)
        a.settle("assistant", ONE, ONE)

    asyncio.run(play())


def test_what_could_not_be_booked_is_said_at_the_next_request_and_at_the_end(tmp_path):
    place = str(tmp_path / "budget.sqlite")

    async def play() -> SharedBudget:
        budget = SharedBudget(SharedBudgetStore(place), Limits(requests=9))
        await budget.reserve("assistant", ONE)
        with sqlite3.connect(place) as connection:
            connection.execute("DROP TABLE duologue_spent")
        connection.close()
        budget.settle("assistant", ONE, ONE)
        budget._thread.submit(int).result(10)  # the settlement before it is over
        with pytest.raises(CassetteError, match="duologue_spent"):
            await budget.reserve("assistant", ONE)
        return budget

    budget = asyncio.run(play())
    with pytest.warns(UserWarning, match="lacks what was spent last"):
        budget.close()


def test_roles_have_their_own_limits(workers):
    async def play() -> None:
        a, b = (workers({"judge": Limits(usd=0.6)}) for _ in range(2))
        await a.reserve("judge", ONE)
        a.settle("judge", ONE, ONE)
        await b.reserve("assistant", ONE)
        b.settle("assistant", ONE, ONE)
        with pytest.raises(BudgetSpent, match=r"budget.roles.judge.usd=0.6"):
            await b.reserve("judge", ONE)

    asyncio.run(play())


def test_what_a_cancelled_call_set_aside_comes_back(workers):
    async def play() -> None:
        a, b = workers(requests=1), workers(requests=1)
        for _ in range(20):
            task = asyncio.create_task(a.reserve("assistant", ONE))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.wait_for(b.reserve("assistant", ONE), 10)

    asyncio.run(play())


def test_a_worker_that_died_is_not_waited_for_for_ever_and_its_share_stays_spent(place, request, monkeypatch):
    """What was under way when it died may be billed, so it counts."""
    monkeypatch.setattr("duologue.inference.budget.shared.STALE_S", 0.3)

    def over(spent):
        return (sum(spent.values(), Amount()) + ONE).over(Limits(requests=1))

    scope = request.node.name
    dead, alive = SharedBudgetStore(place, scope), SharedBudgetStore(place, scope)
    assert dead.take("assistant", ONE, over) is None
    dead.close()
    assert alive.take("assistant", ONE, over).may_come_back
    time.sleep(0.4)
    refusal = alive.take("assistant", ONE, over)
    assert not refusal.may_come_back
    assert refusal.total == ONE
    alive.close()


WORKER = """
from duologue.inference.budget.shared import budget_from_settings
import asyncio, sys
from duologue.inference import Budget, BudgetSpent, Endpoint, InferenceClient, Sampling
place, url, name = sys.argv[1:]
budget = budget_from_settings({"requests": 25, "shared": place, "scope": "processes"})
client = InferenceClient(budget=budget)
endpoint = Endpoint(url, "fake", sampling=Sampling(max_tokens=20))

async def ask(i):
    try:
        await client.chat(endpoint, [{"role": "user", "content": f"{name} {i}"}])
        return 1
    except BudgetSpent:
        return 0

async def all_of_them():
    return sum(await asyncio.gather(*(ask(i) for i in range(20))))

print(client.run(all_of_them()))
client.close()
"""


def test_three_processes_spend_exactly_what_there_is(place, server):
    begun = [
        subprocess.Popen([sys.executable, "-c", WORKER, place, server.url, name], stdout=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    answered = [int(process.communicate(timeout=60)[0]) for process in begun]
    assert sum(answered) == len(server.requests) == 25


def test_a_budget_without_limits_shares_nothing(tmp_path):
    budget = budget_from_settings({"shared": str(tmp_path / "budget.sqlite")})
    assert not isinstance(budget, SharedBudget)
    assert not [*tmp_path.iterdir()]


def test_a_place_that_cannot_be_used_is_named(tmp_path, server):
    (tmp_path / "file").write_text("")
    budget = budget_from_settings({"requests": 5, "shared": str(tmp_path / "file" / "budget.sqlite")})
    client = InferenceClient(budget=budget)
    endpoint = Endpoint(server.url, "fake", sampling=Sampling(max_tokens=20))
    with pytest.raises(CassetteError, match=r"the shared budget .*budget.sqlite cannot be used"):
        client.run(client.chat(endpoint, [{"role": "user", "content": "hello"}]))
    client.close()
