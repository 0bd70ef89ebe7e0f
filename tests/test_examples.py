"""The examples run as written, on the real embedded model."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


SAYS = {
    "quickstart.py": "trained policy",
    "scenarios.py": "assistant: ",
    "two_endpoints.py": "report.html",
    "serve.py": "The server ended with status 0.",
    "sbx_ppo.py": "SBX is not installed" if find_spec("sbx") is None else "mean reward",
}


def test_the_readme_and_the_first_page_lead_to_every_example():
    for page in ("README.md", "docs/index.md"):
        text = (ROOT / page).read_text()
        assert [path.name for path in EXAMPLES if f"examples/{path.name})" not in text] == []


@pytest.mark.model
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example(path, tmp_path):
    if path.name == "lora.py":
        pytest.importorskip("trl")
    converted = {"DUOLOGUE_MODELS": str(ROOT / ".cache" / "models"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(path)]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | converted, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert SAYS.get(path.name, "\n") in done.stdout
    assert "Traceback" not in done.stderr
