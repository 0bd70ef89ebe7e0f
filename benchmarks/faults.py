"""Survives an unreliable API: 10,000 transitions with 30% of all calls faulty, and 20 kills, with nothing lost or counted twice.

    python benchmarks/faults.py [--quick]

The server (`unreliable_server.py`) fails in 18 ways. Its good answers carry a mark of the dialogue that they belong to, and the
judge gives 1 for the right mark and 0 for anything else, so that a failure that became a reward would show. The second part kills
`duologue run` in replay with SIGKILL at random moments, resumes it each time, and compares policy and win rates with those of
an undisturbed run.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import torch as th
from harness import arguments, progress, report
from simulated_task import rss_mb, scenarios
from stable_baselines3.common.callbacks import BaseCallback
from unreliable_server import expected

from duologue.agents import DialoguePPO, DialogueVecEnv
from duologue.envs import Task
from duologue.inference import Cassette, Endpoint, InferenceClient, Sampling
from duologue.plugins import Reward, Score, Turn

BARS = {
    "max_lost": 0,
    "max_counted_twice": 0,
    "max_rewards_of_failures": 0,
    "max_paid_twice": 0,
    "max_memory_growth": 0.05,
    "max_longest_silence_s": 60,
    "identical_after_kills": 1.0,
}
SHARE, SLOTS, STEPS = 0.3, 64, 8
FOLDER = Path(__file__).parent


class Marked:
    """1 for the answer that belongs to the dialogue, 0 for anything else."""

    async def score(self, batch: Sequence[Turn]) -> list[Score]:
        """One score per turn."""
        return [Score(float(turn.reply.split()[-1:] == [expected(list(turn.messages))])) for turn in batch]

    async def aclose(self) -> None:
        """Holds nothing."""


class Server:
    """`unreliable_server.py` in a process of its own."""

    def __init__(self, share: float) -> None:
        command = [sys.executable, str(FOLDER / "unreliable_server.py"), str(share), "0"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def log(self) -> dict[str, Any]:
        """What it did so far."""
        with urlopen(self.url.removesuffix("/v1") + "/log") as answer:
            return dict(json.load(answer))

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def soak(transitions: int, folder: Path) -> dict[str, Any]:
    """Trains on the unreliable server."""
    th.set_num_threads(1)
    server = Server(SHARE)
    client = InferenceClient(Cassette(folder / "soak.sqlite"))
    client.bounds.retries.share = 2.0
    endpoint = Endpoint(
        server.url, "m", sampling=Sampling(max_tokens=30, seed=0), timeout_s=1.0, deadline_s=60.0, max_retries=6
    )
    task = Task.build(
        client=client,
        endpoints={"assistant": endpoint},
        interface="plain",
        encoder="hashing",
        reward=Reward({"marked": Marked()}),
        scenarios=scenarios(64, 3),
        draws=None,
    )
    agent = DialoguePPO(
        "MultiInputPolicy", DialogueVecEnv(SLOTS, task), n_steps=STEPS, batch_size=256, n_epochs=1, seed=0
    )
    agent.mean_length = 3.0
    books = UsageReporter()
    began = time.monotonic()
    agent.learn(transitions, callback=books)
    wall_s = time.monotonic() - began
    log, retries = server.log(), client.bounds.retries
    client.close()
    server.close()
    left_out = agent.next_episode - len(books.episodes)
    return {
        "lost": max(0, left_out * 3 - sum(agent.failures.values())),  # an episode is left out after three attempts
        "counted_twice": sum(count - 1 for count in books.episodes.values()),
        "rewards_of_failures": books.wrong,
        "paid_twice": sum(count - 1 for count in log["good"].values()),
        "memory_growth": books.memory[-1] / books.memory[len(books.memory) // 5] - 1,
        "longest_silence_s": books.silence_s,
        "soak/all/transitions": books.transitions,
        "soak/all/requests": log["requests"],
        "soak/all/faulty": sum(log["faults"].values()) / log["requests"],
        "soak/all/kinds": len(log["faults"]),
        "soak/all/retries": retries.taken,
        "soak/all/attempts failed": sum(agent.failures.values()),
        "soak/all/episodes left out": left_out,
        "soak/all/wall s": wall_s,
        "soak/all/memory MB": books.memory[-1],
    }


class UsageReporter(BaseCallback):
    """What came of every episode, counted beside the agent."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: Counter[int] = Counter()
        self.transitions = self.wrong = 0
        self.silence_s = 0.0
        self.memory: list[float] = []
        self._last = time.monotonic()

    def _on_step(self) -> bool:
        now = time.monotonic()
        self.silence_s, self._last = max(self.silence_s, now - self._last), now
        return True

    def _on_rollout_end(self) -> None:
        played = self.locals["played"]
        self.episodes.update(p.episode.number for p in played)
        self.transitions += sum(len(p.transitions) for p in played)
        self.wrong += sum(t.reward != 1.0 for p in played for t in p.transitions)
        gc.collect()
        self.memory.append(rss_mb())
        progress(f"{self.transitions} transitions, {self.memory[-1]:.0f} MB")


def kills(count: int, timesteps: int, longest_s: float, folder: Path) -> dict[str, Any]:
    """Kills a run in replay and resumes it, again and again, each time within `longest_s`."""
    server = Server(0.0)
    own = [{"id": f"{s}-{i}", "split": s, "user": f"Question {i} of {s}?"} for s in ("train", "test") for i in range(8)]
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, own)), encoding="utf-8")
    options = [
        f"inference.assistant.base_url={server.url}",
        "inference.assistant.model=m",
        f"inference.cassette.path={folder / 'kills.sqlite'}",
        f"env.scenarios={folder / 'own.jsonl'}",
        "encoder=hashing",
        "~judges.reference",
        "judge@evaluation.judge=length",
        f"agent.total_timesteps={timesteps}",
        "agent.n_envs=8",
        "agent.n_steps=32",
    ]
    subprocess.run([*COMMAND, *options], cwd=folder, check=True, capture_output=True)
    undisturbed = outcome((folder / "runs/run/latest").resolve())
    server.close()  # replay asks nobody
    same = killed = 0
    rng = random.Random(0)
    options.append("inference.cassette.mode=replay")
    while killed < count:
        process = start(folder, options)
        run = newest(folder, process)
        while process.poll() is None and killed < count:
            time.sleep(rng.uniform(0.0, longest_s))
            if process.poll() is None:
                process.kill()
                process.wait()
                killed += 1
                progress(f"killed {killed} times")
                process = start(folder, [f"resume={run}"])
        if process.wait() or outcome(run) != undisturbed:
            return {"identical_after_kills": 0.0, "kills/all/kills": killed}
        same += 1
    return {"identical_after_kills": 1.0, "kills/all/kills": killed, "kills/all/runs": same}


COMMAND = [sys.executable, "-m", "duologue", "run"]


def start(folder: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts the command."""
    return subprocess.Popen([*COMMAND, *options], cwd=folder, stdout=subprocess.DEVNULL)


def newest(folder: Path, process: subprocess.Popen[bytes]) -> Path:
    """The run folder that a process has begun."""
    before = {path for path in (folder / "runs/run").glob("2*") if json.loads(read(path))["status"] == "done"}
    while process.poll() is None:
        for path in (folder / "runs/run").glob("2*"):
            if path not in before and (path / "summary.json").exists():
                return path
        time.sleep(0.01)
    raise RuntimeError("the run ended before it began")


def read(folder: Path) -> str:
    """Its summary."""
    path = folder / "summary.json"
    return path.read_text(encoding="utf-8") if path.exists() else '{"status": "none"}'


def outcome(folder: Path) -> tuple[Any, ...]:
    """The policy and the win rates."""
    summary = json.loads(read(folder))
    return summary["status"], summary["results"], (folder / "bundle" / "policy.safetensors").read_bytes()


def main() -> None:
    """Both parts."""
    quick = arguments(__doc__ or "").quick
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(prefix="duologue-bench-") as name:
        figures = soak(256 if quick else 10_000, Path(name))
        figures |= kills(*((1, 2_000, 1.0) if quick else (20, 20_000, 6.0)), Path(name))
    report("faults", figures, BARS, quick=quick)


if __name__ == "__main__":
    main()
