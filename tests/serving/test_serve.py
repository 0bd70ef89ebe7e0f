"""The command: what it serves, what it refuses, how it ends; and that the container's settings are settings."""

import json
import re
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx2 as httpx
import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.commands.serve import serve
from duologue.core.errors import ConfigError
from duologue.tests.serving.test_app import ASKED

ROOT = Path(__file__).parents[2]


def test_when_it_says_so_it_accepts_connections(started):
    _, url = started()
    assert httpx.get(url.replace("/v1", "/readyz"), timeout=30).json() == {"status": "ready"}


def test_it_logs_what_the_page_promises(started, server):
    child, url = started("shadow=1", "judge=length")
    assert httpx.post(f"{url}/chat/completions", json=ASKED, timeout=30).status_code == 200
    lines = iter(child.stderr.readline, "")
    assert re.search(r"^\d{4}-.* INFO my-model wins [01]\.\d{3} .* of 1 comparisons$", next(lines).strip())


def test_a_second_signal_ends_it_at_once(started, server):
    server.delay_s = lambda body: 60.0
    child, url = started("drain_s=60")

    def ask():
        with suppress(httpx.HTTPError):
            httpx.post(f"{url}/chat/completions", json=ASKED, timeout=50)

    asking = threading.Thread(target=ask)
    asking.start()
    while not server.requests:
        time.sleep(0.02)
    for _ in range(2):
        child.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    assert child.wait(25) is not None
    asking.join(30)


def test_requests_under_way_are_answered_after_sigterm(started, server, tmp_path):
    server.delay_s = lambda body: 1.5
    child, url = started()
    found = []
    asking = threading.Thread(
        target=lambda: found.append(httpx.post(f"{url}/chat/completions", json=ASKED, timeout=20))
    )
    asking.start()
    while not server.requests:
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    asking.join(20)
    assert found[0].status_code == 200
    assert child.wait(20) == 0
    assert not list(tmp_path.glob("runs/*"))  # a server leaves nothing


def test_keys_several_aliases_and_a_curl_line_that_works(started, bundled):
    second = bundled({"name": "select", "n": 2}).folder
    child, url = started(f"+aliases.second={{policy: '{second}', trusted: true}}", "alias=first", keys="secret")
    headers = {"Authorization": "Bearer secret"}
    names = {model["id"] for model in httpx.get(f"{url}/models", headers=headers).json()["data"]}
    assert names == {"first", "second", "fake"}
    assert httpx.post(f"{url}/chat/completions", json=ASKED | {"model": "second"}).status_code == 401
    response = httpx.post(f"{url}/chat/completions", json=ASKED | {"model": "second"}, headers=headers)
    assert response.headers["x-duologue-action"].startswith("candidate")
    assert "secret" not in "".join(child.stdout.readline() for _ in range(3))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host": "0.0.0.0"}, "no keys are set"),
        ({"port": 70000}, "`port` must lie in 0 to 65535"),
        ({"policy": "nowhere"}, "nowhere is no bundle"),
        ({"alias": " "}, "`alias` must be a model name"),
        ({"aliases": {"my-model": {"policy": "x"}}}, "`aliases` holds `my-model`"),
        ({"aliases": {"x": {"polcy": "x"}}}, "`aliases.x` must hold `policy`"),
        ({"aliases": {"x": {"policy": "x", "port": 1}}}, "`aliases.x.port` is not a setting"),
        ({"upstream": {"base_url": "nonsense"}}, "`base_url` must be like"),
        ({"upstream": {"base_url": "https://host/v1", "api_key_env": "NO_SUCH_KEY"}}, "`NO_SUCH_KEY` is not set"),
        ({"shadow": 0.1}, "`shadow` needs a judge"),
        ({"canary": 2.0}, "`canary` must be a share"),
        ({"cors": ["*"]}, "without a key"),
        ({"limits": {"client_timeout_s": 0}}, "`client_timeout_s` must be a number above 0"),
        ({"limits": {"max_bdy_bytes": 1}}, "did you mean `max_body_bytes`"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(bundled, tmp_path, monkeypatch, changes, said):
    monkeypatch.delenv("DUOLOGUE_KEYS", raising=False)
    config = {"policy": str(bundled("strategy").folder), "trusted": True, "alias": "my-model", "port": 0} | changes
    with pytest.raises(Exception, match=re.escape(said)) as caught:
        serve(config, tmp_path)
    assert isinstance(caught.value, ConfigError) or "NO_SUCH_KEY" in str(caught.value)


def test_a_port_that_is_taken(bundled, serving, tmp_path):
    running = serving("strategy")
    config = {"policy": str(bundled("strategy").folder), "trusted": True, "alias": "x", "port": running.port}
    with pytest.raises(ConfigError, match="choose another `port`"):
        serve(config, tmp_path)


def test_the_containers_settings_are_settings():
    """What Dockerfile and compose.yaml pass must compose, with the variables that they name."""
    entry = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("ENTRYPOINT"))
    command = json.loads(entry.removeprefix("ENTRYPOINT "))
    assert command[:2] == ["duologue", "serve"]
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    given = [re.sub(r"\$\{MODEL:\?\}", "org/model.gguf", text) for text in services["policy"]["command"]]
    with initialize_config_module("duologue.conf", version_base="1.3"):
        config = OmegaConf.to_container(compose("serve", [*command[2:], *given]), resolve=True)
    assert config["upstream"] == {"base_url": "http://model:8080/v1", "model": "org/model.gguf", "api_key_env": None}
    for name in ("llamacpp", "vllm"):
        assert services[name]["networks"]["default"]["aliases"] == ["model"]
        assert "8080" in services[name]["command"]
