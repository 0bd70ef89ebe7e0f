"""What may be spent: set aside before, booked after, never exceeded, known again after a kill."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.inference import (
    Budget,
    BudgetSpent,
    Cassette,
    ConfigError,
    EndpointRefused,
    InferenceClient,
    Limits,
    Price,
    Sampling,
)
from duologue.inference.budget.budget import Account, Amount
from duologue.inference.budget.shared import budget_from_settings
from duologue.inference.encoders import make_encoder
from duologue.plugins import JudgeContext, Plugins, Turn
from duologue.tests.conftest import chat_body

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(tmp_path):
    made = InferenceClient(Cassette(tmp_path / "cassette.sqlite"), budget=Budget())
    yield made
    made.close()


def limit(client, **limits):
    client.bounds.budget.limits = Limits(**limits)


async def ask_many(client, endpoint, count, role="assistant", first=0):
    calls = (client.chat(endpoint, HELLO, sample_index=first + i, role=role) for i in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


@given(
    limits=st.builds(Limits, requests=st.integers(0, 30), tokens=st.integers(0, 500), usd=st.floats(0, 3)),
    own=st.builds(Limits, requests=st.none() | st.integers(0, 10)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=50, deadline=None)
def test_no_order_of_calls_exceeds_a_limit(limits, own, seed):
    """Random calls of two roles: some are billed, some refused, of some nobody knows."""
    rng = random.Random(seed)
    budget = Budget(limits, {"judge": own})
    seen = []

    def check():
        seen.append(budget.total)
        assert budget.total.over(limits) is None
        assert budget.spent.get("judge", Amount()).over(own) is None

    budget.on_change = check

    async def call():
        most = Amount(1, rng.randint(0, 60), rng.random() / 5)
        account = Account(budget, rng.choice(["assistant", "judge"]), most, Price(most.usd / 2))
        await account.open()
        for _ in range(rng.randint(0, 3)):
            await asyncio.sleep(0)
        end = rng.randrange(3)
        if end == 0:
            account.billed(most.tokens // 2, most.tokens // 3)
        elif end == 1:
            account.free()
        else:
            account.unknown()

    async def main():
        return await asyncio.gather(*(call() for _ in range(40)), return_exceptions=True)

    outcomes = asyncio.run(main())
    assert {type(error) for error in outcomes} <= {type(None), BudgetSpent}
    assert budget.total.over(limits) is None


def test_requests_are_used_up_to_the_last_and_not_one_more(client, endpoint, server):
    limit(client, requests=5)
    outcomes = client.run(ask_many(client, endpoint, 12))
    assert len(server.requests) == 5
    assert sum(isinstance(outcome, BudgetSpent) for outcome in outcomes) == 7
    assert client.spent()["requests"] == 5
    with pytest.raises(BudgetSpent, match=r"`inference.budget.requests=5`. Spent so far: 5 requests"):
        client.run(client.chat(endpoint, HELLO, sample_index=99))


def test_what_was_set_aside_and_not_needed_is_used_by_others(client, endpoint, server):
    """At most about 120 tokens are set aside for each, and about 9 are billed: a tight limit still serves many."""
    limit(client, tokens=300)
    outcomes = client.run(ask_many(client, endpoint, 60))
    served = sum(not isinstance(outcome, Exception) for outcome in outcomes)
    assert served >= 12
    assert client.spent()["tokens"] <= 300


def test_money_counts_both_ways_of_billing(client, endpoint, server):
    server.answer = lambda body: "one two three"  # 3 tokens; the server counts 7 for every prompt
    price = Price(per_request_usd=0.01, per_million_prompt_tokens_usd=1000.0, per_million_completion_tokens_usd=2000.0)
    client.run(client.chat(replace(endpoint, price=price), HELLO))
    assert client.spent() == {"requests": 1, "tokens": 10, "usd": pytest.approx(0.01 + 0.007 + 0.006)}


def test_a_roles_own_limit_ends_the_run_too(client, endpoint, server):
    client.bounds.budget.roles = {"judge": Limits(requests=1)}
    client.run(ask_many(client, endpoint, 3))
    client.run(client.chat(endpoint, HELLO, sample_index=10, role="judge"))
    with pytest.raises(BudgetSpent, match=r"`inference.budget.roles.judge.requests=1`"):
        client.run(client.chat(endpoint, HELLO, sample_index=11, role="judge"))
    assert len(server.requests) == 4


def test_every_attempt_that_may_be_billed_counts_and_a_refused_one_does_not(client, endpoint, server):
    answers = iter([(503, {"error": {"message": "busy"}}), "Fine."])
    server.answer = lambda body: next(answers)
    limit(client, requests=1)
    assert client.run(client.chat(endpoint, HELLO)).text == "Fine."
    assert client.spent()["requests"] == 1
    assert len(server.requests) == 2


def test_an_answer_that_never_came_counts_as_it_was_set_aside(client, endpoint, server):
    server.delay_s = lambda body: 0.3
    client.run(ask_many(client, replace(endpoint, timeout_s=0.1, max_retries=1, deadline_s=5), 1))
    spent = client.spent()
    assert spent["requests"] == 2
    assert spent["tokens"] >= 2 * 20  # `max_tokens`, twice


def test_what_the_cassette_gives_is_free(client, endpoint, server):
    client.run(ask_many(client, endpoint, 3))
    limit(client, requests=3)
    client.run(ask_many(client, endpoint, 3))
    assert client.spent()["requests"] == 3


def test_a_limit_on_tokens_needs_answers_with_a_bound(client, endpoint, server):
    limit(client, tokens=1000)
    with pytest.raises(ConfigError, match=r"set `sampling.max_tokens` of model `fake`"):
        client.run(client.chat(replace(endpoint, sampling=Sampling()), HELLO))
    assert not server.requests


def test_a_role_without_budget_is_refused_while_others_are_under_way(client, endpoint, server):
    client.bounds.budget.roles = {"judge": Limits(requests=0)}
    server.delay_s = lambda body: 0.5

    async def both():
        call = asyncio.create_task(client.chat(endpoint, HELLO))
        while not server.requests:
            await asyncio.sleep(0.005)
        with pytest.raises(BudgetSpent, match=r"roles.judge.requests=0"):
            await client.chat(endpoint, HELLO, sample_index=1, role="judge")
        return call.done(), await call

    done, answer = client.run(both())
    assert not done
    assert answer.text


def usage(server, **counts):
    server.answer = lambda body: chat_body("Hi.") | {"usage": counts}


def test_negative_counts_never_lower_what_was_spent(client, endpoint, server):
    limit(client, tokens=1000)
    usage(server, prompt_tokens=-500, completion_tokens=-500, total_tokens=-1000)
    outcomes = client.run(ask_many(client, endpoint, 60))
    assert any(isinstance(outcome, BudgetSpent) for outcome in outcomes)
    assert client.spent()["tokens"] > 500
    assert client.meter.total.prompt_tokens == 0


def test_a_server_that_ignores_max_tokens_does_not_exceed_the_budget(client, endpoint, server):
    """Each answer has 6 times the tokens that were allowed; 64 calls begin at once."""
    limit(client, tokens=2000)
    usage(server, prompt_tokens=10, completion_tokens=120)  # of 20
    outcomes = client.run(ask_many(client, replace(endpoint, max_concurrency=64), 64))
    served = sum(not isinstance(outcome, Exception) for outcome in outcomes)
    assert served >= 5
    assert client.spent()["tokens"] == served * 130 <= 2000


def test_the_first_of_many_that_fails_holds_up_nobody(client, endpoint, server):
    limit(client, tokens=5000)
    answers = iter([(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})])
    client.run(client.chat(endpoint, HELLO, sample_index=50))
    client.bounds._overruns.clear()
    server.answer = lambda body: next(answers, "Fine.")
    outcomes = client.run(ask_many(client, endpoint, 8))
    assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 1


def test_a_limit_on_money_asks_for_the_price_of_a_remote_model(client, endpoint):
    limit(client, usd=1.0)
    remote = replace(endpoint, base_url="http://192.0.2.1/v1", api_key_env=None)
    with pytest.warns(UserWarning, match="`fake` at http://192.0.2.1/v1, which has no price"):
        client.bounds.account(remote, "assistant", {"messages": HELLO, "max_tokens": 3}, b"")
    client.bounds.account(remote, "judge", {"messages": HELLO, "max_tokens": 3}, b"")  # it was said
    client.bounds.account(endpoint, "assistant", {"messages": HELLO, "max_tokens": 3}, b"")  # on this machine
    client.bounds.account(replace(remote, price=Price(0.1)), "judge", {"input": "x"}, b"")


def test_money_is_limited_for_embeddings_and_reward_models(client, endpoint, server):
    limit(client, usd=32.0)  # a dollar for a token: 27 are set aside for a text, 3 are billed
    price = {"per_million_prompt_tokens_usd": 1e6}
    settings = {"base_url": server.url, "model": "e", "dim": 3, "api_key_env": None, "batch_size": 1, "price": price}
    encoder = make_encoder({"name": "endpoint", **settings}, client)
    assert encoder.settings["price"]["per_million_prompt_tokens_usd"] == 1e6
    client.run(encoder.encode(["a"]))
    assert client.spent()["usd"] == client.meter.total.cost_usd == pytest.approx(3.0)
    with pytest.raises(BudgetSpent, match=r"inference.budget.usd=32"):
        client.run(encoder.encode(["b", "c"]))
    server.others["score"] = lambda body: {"data": [{"score": 0.5}], "usage": {"prompt_tokens": 3}}
    context = JudgeContext(client, {"assistant": endpoint})
    own = {"name": "reward_model", "model": "r", "via": "score", "base_url": server.url, "price": price}
    judge = Plugins(discover=False).build(own, "judges.x", context)
    with pytest.raises(BudgetSpent, match=r"inference.budget.usd=32"):
        client.run(judge.score([Turn((), "So.")]))


def test_an_endpoint_that_refuses_costs_nothing(client, endpoint, server):
    server.answer = lambda body: (401, {"error": {"message": "who are you?"}})
    with pytest.raises(EndpointRefused):
        client.run(client.chat(endpoint, HELLO))
    assert client.spent() == {"requests": 0, "tokens": 0, "usd": 0}


def test_a_request_that_was_never_sent_costs_nothing(client, endpoint, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    for there in (
        replace(endpoint, base_url="https://model.invalid/v1", api_key_env="NO_SUCH_KEY"),
        replace(endpoint, base_url=f"http://{'a' * 80}.invalid/v1", api_key_env=None),
    ):
        with pytest.raises(EndpointRefused):
            client.run(client.chat(there, HELLO))
    assert client.spent() == {"requests": 0, "tokens": 0, "usd": 0}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"request": 3}, r"`inference.budget.request`.*did you mean `requests`"),
        ({"usd": -1}, r"`usd` must be at least 0 or null, not -1"),
        ({"tokens": "many"}, r"`inference.budget.tokens` must be a whole number or null"),
        ({"roles": {"judge": {"dollars": 3}}}, r"`inference.budget.roles.judge.dollars`"),
    ],
)
def test_a_mistake_in_the_settings_is_named(values, said):
    with pytest.raises(ConfigError, match=said):
        budget_from_settings(values)


def test_the_ledger_goes_on_where_it_was(tmp_path, client, endpoint, server):
    with client.ledger(tmp_path / "ledger.json"):
        client.run(ask_many(client, endpoint, 3))
    before = client.spent(), client.meter.total
    other = InferenceClient(Cassette(tmp_path / "cassette.sqlite"))
    with other.ledger(tmp_path / "ledger.json"):
        assert (other.spent(), other.meter.total) == before
        other.run(ask_many(other, endpoint, 2, first=3))
        assert other.spent()["requests"] == other.meter.total.paid == 5
    other.close()
    json.loads((tmp_path / "ledger.json").read_text())


def test_a_damaged_ledger_is_an_error_with_the_cure(tmp_path, client):
    (tmp_path / "ledger.json").write_text('{"asked": 3}')
    with (
        pytest.raises(ConfigError, match=r"ledger.json.*move it away to count from zero"),
        client.ledger(tmp_path / "ledger.json"),
    ):
        pass


KILLED = """
import asyncio, sys
from pathlib import Path
from duologue.inference import Budget, Endpoint, InferenceClient, Limits, Sampling

client = InferenceClient(budget=Budget(Limits(requests=30)))
endpoint = Endpoint(sys.argv[1], "fake", sampling=Sampling(max_tokens=20), max_concurrency=4)
async def main():
    calls = (client.chat(endpoint, [{"role": "user", "content": "Hello"}], sample_index=i) for i in range(1000))
    print(len([r for r in await asyncio.gather(*calls, return_exceptions=True) if not isinstance(r, Exception)]))
with client.ledger(Path(sys.argv[2])):
    client.run(main())
client.close()
"""


def test_a_killed_process_never_makes_the_run_exceed_its_budget(tmp_path, server):
    """Killed again and again with requests under way: the server never sees more than the budget allows."""
    server.delay_s = lambda body: 0.05
    command = [sys.executable, "-c", textwrap.dedent(KILLED), server.url, str(tmp_path / "ledger.json")]
    for kill_at in (5, 13):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(server.requests) < kill_at:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, capture_output=True, timeout=60, env=dict(os.environ))
    assert 30 - 8 <= len(server.requests) <= 30
