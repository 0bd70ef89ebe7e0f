"""Clients that people use, unchanged but for `base_url` and `model`; and our own evaluator as one of them."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from duologue.commands.compare import compare
from duologue.tests.serving.test_app import ASKED

NODE = Path(os.environ.get("DUOLOGUE_NODE_MODULES", Path(__file__).parents[2] / ".venv" / "node" / "node_modules"))
SELECT = {"name": "select", "n": 3}


@pytest.mark.skipif(
    not shutil.which("node") or not (NODE / "openai").exists(), reason="the npm package is not installed"
)
@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
def test_the_npm_package(serving, tmp_path, interface):
    script = shutil.copy(Path(__file__).with_name("client.mjs"), tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE.resolve())
    done = subprocess.run(["node", script, serving(interface).url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["plain"] == found["streamed"] != ""
    assert found["refused"] == {"status": 404, "code": "model_not_found"}


@pytest.mark.filterwarnings("ignore")  # theirs, not ours
@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
def test_langchain(serving, interface):
    langchain = pytest.importorskip("langchain_openai")
    model = langchain.ChatOpenAI(base_url=serving(interface).url, api_key="any", model="my-model", max_retries=0)
    asked = [("user", ASKED["messages"][0]["content"])]
    assert model.invoke(asked).content == "".join(chunk.content for chunk in model.stream(asked)) != ""


_LITELLM = """
import sys, warnings
warnings.simplefilter("ignore")
import litellm
asked = dict(model="openai/my-model", api_base=sys.argv[1], api_key="any", messages=[{"role": "user", "content": sys.argv[2]}])
plain = litellm.completion(**asked).choices[0].message.content
parts = litellm.completion(**asked, stream=True)
streamed = "".join(part.choices[0].delta.content or "" for part in parts)
print("found:", plain == streamed != "")
"""


@pytest.mark.skipif("DUOLOGUE_LITELLM_PYTHON" not in os.environ, reason="LiteLLM is not installed")
@pytest.mark.parametrize("interface", ["strategy", SELECT], ids=["strategy", "select"])
def test_litellm(serving, interface):
    """In an environment of its own, since it has opinions on the versions of others."""
    command = [os.environ["DUOLOGUE_LITELLM_PYTHON"], "-c", _LITELLM, serving(interface).url]
    done = subprocess.run([*command, ASKED["messages"][0]["content"]], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "found: True" in done.stdout


def test_the_evaluator_finds_the_win_rate_that_the_policy_has(server, serving, bundled, configured, tmp_path):
    """The policy by its bundle, and by its alias, against the same plain samples: the same replies, the same verdicts."""
    bundle = bundled("strategy")
    running = serving(bundle=bundle)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"Question {i}, {'why' if i % 3 else 'how'} {i * 7 % 11}?" for i in range(30)))
    sampling = {"seed": 0, "max_tokens": 20}
    asked = {"base_url": server.url, "model": "fake", "sampling": sampling}

    def played(name, contestant):
        settings = {
            "prompts": str(prompts),
            "contestants": {"plain": asked, "policy": contestant},
            "judge": {"name": "length", "low": 6, "high": 7},
            "inference": {**configured("run")["inference"], "assistant": asked, "cassette": {"mode": "off"}},
        }
        summary = compare(settings, tmp_path / name)
        lines = [json.loads(line) for line in (tmp_path / name / "matches.jsonl").read_text().splitlines()]
        return summary["results"][0]["win_rate"], {line["scenario"]: line["reply"] for line in lines}

    by_bundle = played("bundle", {"bundle": str(bundle.folder), **asked})
    by_alias = played("alias", {"base_url": running.url, "model": "my-model"})
    assert by_bundle == by_alias
    assert 0 < by_bundle[0] < 1
