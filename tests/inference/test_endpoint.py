import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.inference import ConfigError, Endpoint, EndpointRefused, Price, Sampling, endpoints_from_settings

REMOTE = "https://api.example.com/v1"
SECRET = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    "base_url", ["", "api.example.com/v1", "ftp://host/v1", "https://", "file:///etc/passwd", "/v1"]
)
def test_an_address_without_scheme_or_host_is_refused(base_url):
    with pytest.raises(ValueError, match=r"`base_url` must be like https://host/v1"):
        Endpoint(base_url, "m")


@pytest.mark.parametrize("base_url", ["http://host:x/v1", "http://host:99999/v1", "http://[::1/v1"])
def test_a_port_or_address_that_cannot_be_is_refused(base_url):
    with pytest.raises(ConfigError, match="`here` was refused"):
        Endpoint.from_settings({"base_url": base_url, "model": "m"}, "here")


@pytest.mark.parametrize("base_url", [f"https://user:{SECRET}@host/v1", f"https://{SECRET}@host/v1"])
def test_a_password_in_the_address_is_refused_without_repeating_it(base_url):
    with pytest.raises(ValueError, match="name a variable in `api_key_env`") as refused:
        Endpoint(base_url, "m")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_concurrency", 0), ("max_retries", -1), ("timeout_s", 0), ("deadline_s", 0), ("deadline_s", -1.5)],
)
def test_a_limit_that_no_call_could_keep_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*{value}"):
        Endpoint(REMOTE, "m", **{name: value})


def test_a_trailing_slash_makes_no_other_endpoint():
    assert Endpoint(f"{REMOTE}/", "m") == Endpoint(REMOTE, "m")
    assert Endpoint(f"{REMOTE}/", "m").identity == f"{REMOTE} m"


def test_the_identity_tells_models_and_addresses_apart_and_nothing_else():
    one = Endpoint(REMOTE, "m")
    assert one.identity == Endpoint(REMOTE, "m", api_key_env=None, timeout_s=1, sampling=Sampling(seed=3)).identity
    assert one.identity != Endpoint(REMOTE, "n").identity
    assert one.identity != Endpoint("https://other.example.com/v1", "m").identity


def test_the_key_is_read_from_the_named_variable_when_it_is_needed(monkeypatch):
    endpoint = Endpoint(REMOTE, "m", api_key_env="MY_TEST_KEY")
    monkeypatch.setenv("MY_TEST_KEY", f" {SECRET}\n")
    assert endpoint.api_key() == SECRET


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_missing_key_is_an_error_that_names_the_variable_and_the_cure(monkeypatch, value):
    monkeypatch.delenv("MY_TEST_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_TEST_KEY", value)
    with pytest.raises(EndpointRefused) as refused:
        Endpoint(REMOTE, "m", api_key_env="MY_TEST_KEY").api_key()
    text = str(refused.value)
    assert text.startswith(f"no API key for {REMOTE}: the environment variable `MY_TEST_KEY` is not set.")
    assert "Run `export MY_TEST_KEY=…`" in text
    assert "null for a server without keys" in text
    assert "\n" not in text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_needs_no_key_but_is_given_one_that_is_set(monkeypatch, host):
    endpoint = Endpoint(f"http://{host}:8000/v1", "m", api_key_env="MY_TEST_KEY")
    monkeypatch.delenv("MY_TEST_KEY", raising=False)
    assert endpoint.api_key() == "none"
    monkeypatch.setenv("MY_TEST_KEY", SECRET)
    assert endpoint.api_key() == SECRET


def test_a_host_that_only_looks_like_this_machine_needs_a_key(monkeypatch):
    monkeypatch.delenv("MY_TEST_KEY", raising=False)
    with pytest.raises(EndpointRefused):
        Endpoint("http://localhost.example.com/v1", "m", api_key_env="MY_TEST_KEY").api_key()


def test_no_key_leaves_for_a_server_without_keys_or_the_embedded_model(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert Endpoint(REMOTE, "m", api_key_env=None).api_key() == "none"
    assert Endpoint("embedded://smollm2", "m").api_key() == "none"


def test_the_key_is_neither_shown_nor_written(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    endpoint = Endpoint(REMOTE, "m")
    assert endpoint.api_key() == SECRET  # it is set, so it could leak
    for shown in (repr(endpoint), str(endpoint), json.dumps(endpoint.to_settings()), endpoint.identity):
        assert SECRET not in shown
    assert endpoint.to_settings()["api_key_env"] == "OPENAI_API_KEY"


def test_only_the_embedded_scheme_is_served_here():
    assert Endpoint("embedded://smollm2", "m").embedded
    assert not Endpoint("https://embedded.example.com/v1", "m").embedded


def test_sampling_leaves_out_what_is_not_set():
    assert Sampling().body(0) == {}
    assert Sampling().body(7) == {}
    assert Sampling(temperature=0.0, top_p=0.5, max_tokens=3, stop=("\n",)).body(0) == {
        "temperature": 0.0,
        "top_p": 0.5,
        "max_tokens": 3,
        "stop": ("\n",),
    }


@given(seed=st.integers(-(2**31), 2**31), index=st.integers(0, 10_000))
def test_the_seed_sent_is_the_seed_plus_the_sample_index(seed, index):
    assert Sampling(seed=seed).body(index) == {"seed": seed + index}


def test_extra_fields_are_sent_as_they_are_and_win():
    assert Sampling(temperature=1.0, extra={"top_k": 5, "temperature": 0.1}).body(0) == {"temperature": 0.1, "top_k": 5}


def test_sampling_keeps_no_hold_of_the_callers_values():
    extra, stop = {"top_k": 5}, ["a"]
    sampling = Sampling(extra=extra, stop=stop)
    extra["top_k"] = 6
    stop.append("b")
    sampling.body(0)["top_k"] = 7
    assert sampling.body(0) == {"stop": ("a",), "top_k": 5}


@pytest.mark.parametrize(("name", "value"), [("max_tokens", 0), ("max_tokens", -1), ("temperature", -0.1)])
def test_sampling_that_no_server_accepts_is_refused(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be at least .*{value}"):
        Sampling(**{name: value})


def test_the_cost_adds_both_billing_models():
    price = Price(per_request_usd=0.01, per_million_prompt_tokens_usd=2.0, per_million_completion_tokens_usd=10.0)
    # 0.01 + 1000 * 2/1e6 + 300 * 10/1e6
    assert price.cost_usd(1000, 300) == pytest.approx(0.015)
    assert Price(per_request_usd=0.25).cost_usd(10**9, 10**9) == 0.25
    assert Price(per_million_completion_tokens_usd=4.0).cost_usd(10**6, 500_000) == 2.0
    assert Price().cost_usd(5, 5) == 0.0


@given(
    api_key_env=st.none() | st.just("KEY"),
    seed=st.none() | st.integers(0, 9),
    stop=st.lists(st.text(max_size=3), max_size=2),
    extra=st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    per_request_usd=st.floats(0, 1),
    max_retries=st.integers(0, 9),
)
def test_settings_survive_json(api_key_env, seed, stop, extra, per_request_usd, max_retries):
    endpoint = Endpoint(
        REMOTE,
        "m",
        api_key_env=api_key_env,
        sampling=Sampling(seed=seed, stop=tuple(stop), extra=extra),
        price=Price(per_request_usd=per_request_usd),
        max_retries=max_retries,
    )
    assert Endpoint.from_settings(json.loads(json.dumps(endpoint.to_settings())), "x") == endpoint


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"base_url": REMOTE}, "`judge.model` is missing: set it to a value"),
        ({"base_url": REMOTE, "modle": "m"}, "`judge.modle` is not a setting here: did you mean `model`?"),
        ({"base_url": REMOTE, "model": "m", "sampling": {"temprature": 1}}, "`judge.sampling.temprature` is not"),
        ({"base_url": REMOTE, "model": "m", "price": {"per_request": 1}}, "did you mean `per_request_usd`?"),
        ({"base_url": "x", "model": "m"}, "`judge` was refused: `base_url` must be like"),
        (
            {"base_url": REMOTE, "model": "m", "max_concurrency": "many"},
            "`judge.max_concurrency` must be a whole number, not 'many'",
        ),
        ({"base_url": REMOTE, "model": "m", "max_concurrency": 0}, "`judge` was refused: `max_concurrency` must be at"),
        ({"base_url": REMOTE, "model": "m", "sampling": {"stop": "END"}}, "`judge.sampling.stop` must be "),
    ],
)
def test_bad_settings_are_named_by_their_place(settings, text):
    with pytest.raises(ConfigError) as error:
        Endpoint.from_settings(settings, "judge")
    assert text in str(error.value)


def test_a_role_that_is_null_gets_no_endpoint_and_the_cassette_is_none():
    settings = {"assistant": {"base_url": REMOTE, "model": "m"}, "judge": None, "cassette": {"mode": "off"}}
    assert endpoints_from_settings(settings) == {"assistant": Endpoint(REMOTE, "m")}


@pytest.mark.parametrize("settings", [{}, {"assistant": None}, {"judge": {"base_url": REMOTE, "model": "m"}}])
def test_somebody_must_answer(settings):
    with pytest.raises(ConfigError, match="`inference.assistant` is missing"):
        endpoints_from_settings(settings)
