"""Virtual environments for contenders that cannot share ours, because they pin other versions of what we need."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness import progress

FOLDER = Path(__file__).parents[1] / ".cache" / "bench-venvs"


@dataclass(frozen=True)
class Environment:
    """An environment, or the reason why there is none.

    Attributes:
        python: Its interpreter; None if the packages could not be installed.
        reason: Why not.
        versions: Of its packages, by name.
    """

    python: Path | None
    reason: str = ""
    versions: dict[str, str] | None = None


def environment(name: str, *requirements: str) -> Environment:
    """Makes ``.cache/bench-venvs/<name>`` at the first call, which takes a minute or two.

    Args:
        name: The folder's name.
        requirements: Pinned, as pip takes them.
    """
    folder = FOLDER / name
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists() or ready.read_text(encoding="utf-8") != "\n".join(requirements):
        progress(f"installing {', '.join(requirements)} for comparison, once")
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True, text=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
            subprocess.run(pip, check=True, capture_output=True, text=True, timeout=900)
        except (OSError, subprocess.SubprocessError) as error:
            said = str(getattr(error, "stderr", "") or error).strip().splitlines()
            return Environment(None, f"{requirements[0]} could not be installed: {said[-1] if said else error}")
        ready.write_text("\n".join(requirements), encoding="utf-8")
    pins = dict(requirement.split("==") for requirement in requirements if "==" in requirement)
    return Environment(python, versions=pins)
