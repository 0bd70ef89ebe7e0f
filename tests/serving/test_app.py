"""The API as its clients meet it: real requests over HTTP to a real server, in front of a hand-written frozen model."""

import asyncio
import concurrent.futures
import json
import re
import subprocess
import time
from dataclasses import replace

import httpx2 as httpx
import openai
import pytest

from duologue.inference import ConfigError
from duologue.serving import Limits

ASKED = {"model": "my-model", "messages": [{"role": "user", "content": "How do I boil an egg?"}]}
SELECT = {"name": "select", "n": 3}


def post(running, body=None, **options):
    return httpx.post(f"{running.url}/chat/completions", json=ASKED | (body or {}), timeout=20, **options)


def sdk(running, **options):
    return openai.OpenAI(base_url=running.url, api_key="any", max_retries=0, **options)


def wait_for(condition):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def metric(running, line):
    text = httpx.get(running.url.replace("/v1", "/metrics")).text
    return next((float(entry.rpartition(" ")[2]) for entry in text.splitlines() if entry.startswith(line)), 0.0)


@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
def test_the_openai_package_plain_and_streamed(serving, interface):
    caller = sdk(serving(interface))
    plain = caller.chat.completions.create(**ASKED)
    stream = caller.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.prompt_tokens == 7 * (1 if interface == "strategy" else 3)
    assert not chunks[-1].choices


def test_asynchronous_clients(serving):
    running = serving("strategy")

    async def ask():
        async with openai.AsyncOpenAI(base_url=running.url, api_key="any") as caller:
            plain, stream = await asyncio.gather(
                caller.chat.completions.create(**ASKED), caller.chat.completions.create(**ASKED, stream=True)
            )
            return plain.choices[0].message.content, [c.choices[0].delta.content or "" async for c in stream]

    text, words = asyncio.run(ask())
    assert "".join(words) == text
    assert len(words) > 3


def test_curl(serving):
    command = [
        "curl",
        "-sS",
        "-N",
        f"{serving('strategy').url}/chat/completions",
        "-H",
        "Content-Type: application/json",
    ]
    command += ["-d", json.dumps(ASKED | {"stream": True})]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.startswith("data: {")
    assert out.rstrip().endswith("data: [DONE]")


def test_models_are_listed_and_the_frozen_one_answers_by_its_own_name(serving, server):
    running = serving("strategy")
    assert {model.id for model in sdk(running).models.list()} == {"my-model", "fake"}
    response = post(running, {"model": "fake", "unknown_field": 3})
    assert server.requests == [ASKED | {"model": "fake", "unknown_field": 3}]
    assert "x-duologue-action" not in response.headers


def test_what_the_policy_does_not_read_goes_through_unchanged(serving, server):
    fields = {
        "tools": [{"type": "function", "function": {"name": "boil", "parameters": {}}}],
        "response_format": {"type": "json_object"},
        "stop": ["END"],
        "seed": 7,
        "logit_bias": {"5": -100},
        "provider": {"order": ["x"]},
    }
    messages = [
        {"role": "developer", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:,"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "boil", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "boiled"},
    ]
    post(serving("strategy"), {"messages": messages, **fields})
    (asked,) = server.requests
    assert {name: asked[name] for name in fields} == fields
    assert asked["messages"][-3:] == messages[-3:]
    assert asked["messages"][0]["content"].startswith("Be kind.")
    assert asked["max_tokens"] == 20  # as the policy was trained
    server.requests.clear()
    post(serving("strategy"), {"max_completion_tokens": 9, "temperature": 0})
    assert {k: server.requests[0].get(k) for k in ("max_tokens", "max_completion_tokens", "temperature")} == {
        "max_tokens": None,
        "max_completion_tokens": 9,
        "temperature": 0,
    }


def test_a_chosen_candidate_keeps_its_tool_calls(serving, server):
    call = {"id": "1", "type": "function", "function": {"name": "boil", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    server.answer = lambda body: {"id": "x", "created": 1, "model": "fake", "choices": [choice]}
    caller = sdk(serving(SELECT))
    assert caller.chat.completions.create(**ASKED).choices[0].message.tool_calls[0].function.name == "boil"
    chunks = list(caller.chat.completions.create(**ASKED, stream=True))
    (found,) = [c.choices[0].delta.tool_calls for c in chunks if c.choices and c.choices[0].delta.tool_calls]
    assert (found[0].index, found[0].function.name) == (0, "boil")


def test_several_choices_are_independent_decisions(serving, server):
    completion = sdk(serving(SELECT)).chat.completions.create(**ASKED, n=2)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert sorted(body["seed"] for body in server.requests) == [0, 1, 2, 3, 4, 5]
    assert completion.usage.prompt_tokens == 6 * 7
    assert all(choice.logprobs is None for choice in completion.choices)  # the policy's business
    with_them = sdk(serving(SELECT)).chat.completions.create(**ASKED, logprobs=True)
    assert with_them.choices[0].logprobs.content


def test_the_same_request_gets_the_same_answer_from_any_replica(serving):
    one, other = serving(SELECT), serving(SELECT)
    assert post(one).json() == post(other).json() == post(one).json()


def test_embeddings_go_through(serving):
    found = sdk(serving("strategy")).embeddings.create(model="fake", input=["a", "bb"], encoding_format="float")
    assert [entry.embedding[0] for entry in found.data] == [1.0, 2.0]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
def test_the_frozen_models_refusals_are_passed_on(serving, server, interface, stream):
    refusal = {"error": {"message": "slow down", "type": "rate_limit_error", "code": "busy", "param": None}}
    server.answer = lambda body: (429, refusal)
    response = post(serving(interface), {"stream": stream})
    assert (response.status_code, response.json()) == (429, refusal)
    with pytest.raises(openai.RateLimitError, match="slow down"):
        sdk(serving(interface)).chat.completions.create(**ASKED, stream=stream)


def test_a_dead_model_is_told_from_a_slow_one(serving, server, bundled):
    bundle = bundled("strategy")
    bundle.settings["assistant"]["timeout_s"] = 0.3
    running = serving(bundle=bundle)
    server.delay_s = lambda body: 1.0
    assert (post(running).status_code, post(running).json()["error"]["code"]) == (504, "timeout")
    bundle.settings["assistant"]["base_url"] = "http://127.0.0.1:9/v1"
    response = post(serving(bundle=bundle))
    assert (response.status_code, response.json()["error"]["type"]) == (502, "api_error")


class Broken:
    """A policy that raises, or that takes its time."""

    def __init__(self, wait_s=0.0):
        self.wait_s = wait_s

    def act(self, observation, key=()):
        time.sleep(self.wait_s)
        raise ValueError("no idea")


@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
@pytest.mark.parametrize(("wait_s", "reason"), [(0.0, "policy"), (1.0, "timeout")])
def test_where_the_policy_cannot_act_the_frozen_model_answers(serving, server, bundled, interface, wait_s, reason):
    running = serving(bundle=replace(bundled(interface), policy=Broken(wait_s)), timeout_s=0.2)
    response = post(running)
    assert (response.status_code, response.headers["x-duologue-fallback"]) == (200, reason)
    assert server.requests[-1]["messages"] == [{"role": "system", "content": "Answer briefly."}, *ASKED["messages"]]
    assert metric(running, f'duologue_fallbacks_total{{model="my-model",reason="{reason}"}}') == 1
    text = "".join(c.choices[0].delta.content or "" for c in sdk(running).chat.completions.create(**ASKED, stream=True))
    assert text == response.json()["choices"][0]["message"]["content"]


def test_a_model_without_logprobs_is_no_fault(serving, server):
    server.logprobs = False
    assert "x-duologue-fallback" not in post(serving(SELECT)).headers


@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_ends_the_calls(serving, server, interface, stream):
    server.delay_s, server.pause_s = (lambda body: 5.0), 0.5
    server.answer = lambda body: "word " * 50
    running = serving(interface)
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{running.url}/chat/completions", json=ASKED | {"stream": stream}, timeout=0.4)
    assert wait_for(lambda: server.hung_up == (1 if interface == "strategy" else 3))
    assert wait_for(lambda: metric(running, "duologue_in_flight") == 0)


def test_a_stream_that_breaks_says_so(serving, server):
    server.break_after = 2
    server.answer = lambda body: "one two three four"
    with pytest.raises(openai.APIError, match="broke off"):
        list(sdk(serving("strategy")).chat.completions.create(**ASKED, stream=True))


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"model": "my-mode"}, 404, "did you mean `my-model`"),
        ({"messages": []}, 400, "`messages` must be a list of at least one"),
        ({"messages": ["hello"]}, 400, "`messages[0]` must be an object"),
        ({"messages": [{"role": "user", "content": "x"}] * 6}, 400, "at most 5"),
        ({"model": 3}, 400, "`model` must be a text"),
        ({"n": 0}, 400, "`n` must be a whole number from 1 to 8"),
        ({"pad": "x" * 3000}, 413, "longer than 2,000 bytes"),
    ],
)
def test_mistakes_are_named_as_openai_does(serving, server, body, status, said):
    response = post(serving("strategy", Limits(max_body_bytes=2000, max_messages=5)), body)
    assert response.status_code == status
    error = response.json()["error"]
    assert said in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert not server.requests


def test_what_is_no_json_or_no_address(serving):
    running = serving("strategy")
    assert "no JSON" in httpx.post(f"{running.url}/chat/completions", content=b"{").json()["error"]["message"]
    assert httpx.get(f"{running.url}/nowhere").json()["error"]["code"] == "unknown_url"
    assert httpx.get(f"{running.url}/chat/completions").status_code == 405


def test_keys(serving):
    running = serving("strategy", Limits(keys=("first-key", "second-key")))
    for key, status in (("first-key", 200), ("second-key", 200), ("third", 401)):
        assert post(running, headers={"Authorization": f"Bearer {key}"}).status_code == status
    assert post(running).status_code == 401
    assert httpx.get(f"{running.url}/models").status_code == 401
    with pytest.raises(openai.AuthenticationError):
        sdk(running).chat.completions.create(**ASKED)
    assert httpx.get(running.url.replace("/v1", "/healthz")).status_code == 200


def test_too_many_at_once_are_told_to_come_again(serving, server):
    server.delay_s = lambda body: 0.5
    running = serving("strategy", Limits(max_concurrency=2))
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        responses = list(pool.map(lambda _: post(running), range(5)))
    assert sorted(r.status_code for r in responses) == [200, 200, 429, 429, 429]
    assert next(r for r in responses if r.status_code == 429).headers["retry-after"] == "1"
    assert post(running).status_code == 200


def test_it_counts(serving):
    running = serving("strategy")
    for _ in range(3):
        post(running)
    post(running, {"model": "nobody"})
    assert metric(running, 'duologue_requests_total{model="my-model",status="200"}') == 3
    assert metric(running, 'duologue_requests_total{model="unknown",status="404"}') == 1
    assert metric(running, 'duologue_request_seconds_count{model="my-model"}') == 3
    assert metric(running, "duologue_actions_total") == 3
    assert httpx.get(running.url.replace("/v1", "/readyz")).json() == {"status": "ready"}


PAGE = "https://page.example"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1234"}, 200),
        ({"Host": "[::1]:1234"}, 200),
        ({"Origin": PAGE}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "127.0.0.1.example:80"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_a_web_page_cannot_spend_the_money_of_a_server_without_keys(serving, server, headers, status):
    running = serving("strategy")
    given = {"Content-Type": "application/json"} | headers
    response = httpx.post(f"{running.url}/chat/completions", content=json.dumps(ASKED), headers=given)
    assert response.status_code == status
    assert len(server.requests) == (status == 200)
    if status == 403:
        assert httpx.get(f"{running.url}/models", headers=headers).status_code == 403
        assert httpx.get(running.url.replace("/v1", "/metrics"), headers=headers).status_code == 403


def test_with_keys_any_name_will_do_and_metrics_need_a_key(serving):
    running = serving("strategy", Limits(keys=("secret",)))
    key = {"Authorization": "Bearer secret"}
    assert post(running, headers={**key, "Host": "duologue.example", "Origin": PAGE}).status_code == 200
    url = running.url.replace("/v1", "/metrics")
    assert httpx.get(url).status_code == 401
    assert "duologue_requests_total" in httpx.get(url, headers=key).text
    open_to_all = serving("strategy", Limits(keys=("secret",), public_metrics=True))
    assert httpx.get(open_to_all.url.replace("/v1", "/metrics")).status_code == 200


def test_web_pages_that_are_named_may_ask(serving):
    running = serving("strategy", Limits(cors=(PAGE,)))
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed = httpx.options(f"{running.url}/chat/completions", headers=asked)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
    answer = post(running, headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "x-duologue-action" in answer.headers["access-control-expose-headers"]
    other = httpx.options(f"{running.url}/chat/completions", headers=asked | {"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers
    assert post(running, headers={"Origin": "https://other.example"}).status_code == 403


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cors": ["page.example"]}, "must hold origins like"),
        ({"cors": ["*"]}, "without a key"),
        ({"client_timeout_s": 0}, "`client_timeout_s` must be a number above 0"),
        ({"max_concurrency": 0}, "`max_concurrency` must be at least 1"),
    ],
)
def test_limits_that_make_no_sense(values, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        Limits(**values)


def test_one_model_by_its_name(serving, bundled):
    bundle = bundled("strategy")
    bundle.settings["assistant"]["model"] = "org/name:tag"
    running = serving(bundle=bundle)
    assert sdk(running).models.retrieve("my-model").owned_by == "duologue"
    assert httpx.get(f"{running.url}/models/org/name:tag").json()["id"] == "org/name:tag"
    with pytest.raises(openai.NotFoundError, match="did you mean `my-model`"):
        sdk(running).models.retrieve("my-mode")


@pytest.mark.parametrize(
    ("method", "path", "cure"),
    [
        ("POST", "/v1/responses", "use POST /v1/chat/completions"),
        ("POST", "/v1/completions", "use POST /v1/chat/completions"),
        ("POST", "/chat/completions", "use /v1/chat/completions: `base_url` ends in /v1"),
        ("GET", "/models", "use /v1/models: `base_url` ends in /v1"),
        ("GET", "/v1/chat/completions", "use POST"),
    ],
)
def test_an_unknown_address_names_the_one_to_use(serving, method, path, cure):
    response = httpx.request(method, serving("strategy").url.replace("/v1", path))
    assert response.status_code in (404, 405)
    assert cure in response.json()["error"]["message"]


def test_embeddings_of_an_alias_are_those_of_its_frozen_model(serving, server):
    asked = []
    server.embedding_requests = asked
    running = serving("strategy")
    for name in ("my-model", "fake", "another"):
        assert httpx.post(f"{running.url}/embeddings", json={"model": name, "input": ["a"]}).status_code == 200
    assert [body["model"] for body in asked] == ["fake", "fake", "another"]


@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
@pytest.mark.parametrize("canary", [0.0, 1.0])
def test_an_alias_answers_by_its_own_name(serving, server, interface, canary):
    running = serving(interface)
    running.service.canary = canary
    assert post(running).json()["model"] == "my-model"
    text = post(running, {"stream": True}).text
    chunks = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
    assert {chunk["model"] for chunk in chunks} == {"my-model"}
    assert len(chunks) > 2
    assert text.endswith("data: [DONE]\n\n")
    assert post(running, {"model": "fake"}).json()["model"] == "fake"


@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
@pytest.mark.parametrize(
    "field",
    [
        {"stream_options": "usage"},
        {"stream": "yes"},
        {"n": True},
        {"top_logprobs": "many"},
        {"logprobs": 3},
        {"max_tokens": "10"},
        {"seed": 0.5},
        {"seed": 2**63},
    ],
    ids=str,
)
def test_a_malformed_field_is_refused_before_anything_is_paid(serving, server, interface, field):
    response = post(serving(interface), {"stream": True} | field)
    assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(field)))
    assert not server.requests


def test_forced_calls_of_tools_are_candidates(serving, server):
    call = {"id": "1", "type": "function", "function": {"name": "boil", "arguments": "{}"}}
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call]}}
    body = {"id": "x", "created": 1, "model": "fake", "choices": [choice | {"finish_reason": "stop"}]}
    server.answer = lambda asked: body
    response = post(serving(SELECT))
    assert "x-duologue-fallback" not in response.headers
    assert response.json()["choices"][0]["message"]["tool_calls"] == [call]
    assert len(server.requests) == 3


@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
def test_without_a_users_message_the_frozen_model_answers(serving, server, interface):
    messages = [{"role": "system", "content": "Tell a joke."}]
    response = post(serving(interface), {"messages": messages})
    assert (response.status_code, response.headers["x-duologue-fallback"]) == (200, "no-user")
    assert [body["messages"] for body in server.requests] == [messages]


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"a":' * 100_000, b'{"model": "my-model", "messages": ["\xff"]}', b'{"x": "\\ud800"}'],
    ids=["lists", "objects", "bytes", "half a character"],
)
def test_bodies_that_cannot_be_read_are_refused_and_counted(serving, content):
    running = serving("strategy")
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{running.url}/chat/completions", content=content, headers=headers)
    assert response.status_code == 400
    assert metric(running, 'duologue_requests_total{model="unknown",status="400"}') == 1


def test_numbers_and_depths_that_can_be_read_and_not_sent_are_refused(serving, server):
    running = serving("strategy")
    deep = "[" * 700 + "]" * 700
    content = json.dumps(ASKED)[:-1] + f', "x": {deep}}}'
    response = httpx.post(
        f"{running.url}/chat/completions", content=content, headers={"Content-Type": "application/json"}
    )
    assert response.status_code in (200, 400)
    assert post(running, {"x": 10**400}).status_code in (200, 400)
    assert metric(running, 'duologue_requests_total{model="my-model",status="500"}') == 0


class Faulty:
    """A watch with a fault of its own."""

    def wants(self, messages, session):
        raise KeyError("unforeseen")

    async def aclose(self):
        pass


def test_what_fails_unforeseen_is_counted(serving, caplog):
    running = serving("strategy")
    running.service.watch = Faulty()
    response = post(running)
    assert (response.status_code, response.json()["error"]["type"]) == (500, "api_error")
    assert metric(running, 'duologue_requests_total{model="my-model",status="500"}') == 1
    assert "a request failed" in caplog.text


def test_a_request_without_max_tokens_has_the_servers_own_bound(bundled):
    bundle = replace(bundled("strategy"), trusted=True)
    assert bundle.settings["assistant"]["sampling"]["max_tokens"] == 20
    served = bundle.endpoint(capped=False)
    assert served.sampling == replace(bundle.endpoint().sampling, max_tokens=None)
    given = bundle.endpoint({"sampling": {"max_tokens": 300, "seed": None}}, capped=False)
    assert given.sampling.body(0) == {"max_tokens": 300}
    assert bundle.endpoint().sampling.max_tokens == 20
    with pytest.raises(ConfigError, match=re.escape("`upstream.sampling.max_token` is not a setting")):
        bundle.endpoint({"sampling": {"max_token": 3}})


@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
def test_what_is_not_set_is_not_sent(serving, server, bundled, interface):
    bundle = bundled(interface)
    bundle.settings["assistant"]["sampling"] = {}
    running = serving(bundle=bundle)
    post(running)
    running.service.canary = 1.0
    post(running)
    sent = {name for body in server.requests for name in body}
    assert sent - {"logprobs"} == {"model", "messages"}
