"""A pool of Ray actors; the work of a lost actor is reassigned."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from ...core.console import say
from ...core.errors import ConfigError, DuologueError, RunStopped, TooManyFailures

_LOOK_S = 0.5
"""Between two looks whether the run was told to end."""

_TELL_S = 20.0
"""Until a wait for free cores is mentioned."""

Part = tuple[int, int]
"""Number of the first piece of work, and how many."""


@dataclass(frozen=True)
class RaySettings:
    """The configuration's part ``rollouts`` with ``rollouts=ray``.

    Attributes:
        name: ``ray``.
        workers: Processes that share the work.
        address: Of the cluster, such as ``auto`` on one of its machines; None for a Ray that this run starts and ends itself,
            also where the machine belongs to a cluster.
        cpus: Cores that Ray sets aside for one of them.
    """

    name: str = "ray"
    workers: int = 2
    address: str | None = None
    cpus: float = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"`workers` must be at least 1, not {self.workers}")
        if not self.cpus >= 0:
            raise ValueError(f"`cpus` must be at least 0, not {self.cpus}")


class Outcome(Protocol):
    """A worker's message."""

    @property
    def error(self) -> DuologueError | None:
        """The error that ended the part early; None if it was completed."""
        ...


class RayWorkers:
    """Workers of one class, started when they are first needed.

    Args:
        settings: Number of workers, and the cluster.
        make: Their class, built with ``arguments`` and the folder; has ``ready()`` and ``stop(reason)``.
        arguments: See there.

    Raises:
        ConfigError: If Ray is not installed, there is no such cluster, or it has fewer cores than the workers need.

    Attributes:
        lost: Workers that were lost so far.
    """

    def __init__(self, settings: RaySettings, make: type[Any], *arguments: Any) -> None:
        self.lost = 0
        self._settings, self._make, self._arguments = settings, make, arguments
        self._ray = connected(settings.address)
        check_places(settings, [node["Resources"].get("CPU", 0.0) for node in self._ray.nodes() if node["Alive"]])
        self._workers: list[Any] = []

    def distribute(
        self,
        work: Part,
        ask: Callable[[Any, Part], Any],
        stopped: Callable[[], RunStopped | None],
        settle: Callable[[Any], None],
    ) -> Generator[Any]:
        """Distributes work over the workers.

        However the work ends, unless by an interrupt, the calls under way are waited for and settled: they are paid for.

        Args:
            work: All of it.
            ask: Begins a part at a worker, and returns Ray's reference to its `Outcome`.
            stopped: Whether the run was told to end.
            settle: Called with every outcome, also one with an error.

        Yields:
            The outcome of each part, as it comes.

        Raises:
            DuologueError: The error of an outcome.
        """
        workers = self._ready(stopped)
        waiting = deque(parts(*work, len(workers)))
        idle, busy = list(workers), dict[Any, tuple[Any, Part]]()
        try:
            while waiting or busy:
                if not idle and not busy:
                    raise TooManyFailures("every worker of `rollouts=ray` was lost")
                while waiting and idle:
                    worker, part = idle.pop(), waiting.popleft()
                    busy[ask(worker, part)] = worker, part
                done, _ = self._ray.wait(list(busy), num_returns=1, timeout=_LOOK_S)
                if (reason := stopped()) is not None:
                    raise reason
                for reference in done:
                    worker, part = busy.pop(reference)
                    outcome = self._received(reference)
                    if outcome is None:  # what it had paid for is in the cassette
                        self.lost += 1
                        self._workers.remove(worker)
                        waiting.extend(parts(*part, max(1, len(self._workers))))
                        continue
                    idle.append(worker)
                    settle(outcome)
                    if outcome.error is not None:
                        raise outcome.error
                    yield outcome
        except (DuologueError, GeneratorExit) as end:
            self._stop(end if isinstance(end, RunStopped) else None, busy)
            while busy:
                done, _ = self._ray.wait(list(busy), num_returns=1)
                for reference in done:
                    del busy[reference]
                    if (outcome := self._received(reference)) is not None:
                        settle(outcome)
            raise

    def put(self, value: Any) -> Any:
        """Ray's reference to a value that all workers get."""
        return self._ray.put(value)

    def close(self) -> None:
        """Ends the workers; the next work starts new ones."""
        for worker in self._workers:
            self._ray.kill(worker)
        self._workers = []

    def _ready(self, stopped: Callable[[], RunStopped | None]) -> list[Any]:
        """The workers that are left, or new ones if there are none."""
        if not self._workers:
            make = self._ray.remote(num_cpus=self._settings.cpus, max_concurrency=2)(self._make)
            made = (*self._arguments, self._settings.workers, str(Path.cwd()))
            self._workers = [make.remote(*made) for _ in range(self._settings.workers)]
            try:
                self._wait_until_built(stopped)
            except BaseException:
                self.close()
                raise
        return self._workers

    def _wait_until_built(self, stopped: Callable[[], RunStopped | None]) -> None:
        """Waits for every worker; prints one line if other jobs occupy the cluster's cores."""
        built = [worker.ready.remote() for worker in self._workers]
        began, told = time.monotonic(), False
        while (missing := self._ray.wait(built, num_returns=len(built), timeout=_LOOK_S)[1]) and not (end := stopped()):
            if not told and time.monotonic() - began > _TELL_S:
                told = True
                free = self._ray.available_resources().get("CPU", 0.0)
                say(
                    f"Waiting for {len(missing)} of {len(built)} Ray workers to start; the cluster has {free:g} free cores"
                )
        if missing and end is not None:
            raise end
        try:
            self._ray.get(built)
        except self._ray.exceptions.RayError as error:
            cause = str(error).strip().splitlines()[-1]
            raise ConfigError(f"a worker of `rollouts=ray` could not be started: {cause}") from error

    def _received(self, reference: Any) -> Outcome | None:
        """A worker's outcome; None if the worker was lost."""
        errors = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(reference)
        except (errors.RayActorError, errors.ObjectLostError, errors.NodeDiedError):
            return None
        return outcome

    def _stop(self, reason: RunStopped | None, busy: dict[Any, tuple[Any, Part]]) -> None:
        """Asks the workers to finish their running calls and to begin no new ones."""
        for worker, _ in busy.values():
            worker.stop.remote(reason or RunStopped("another worker's part ended"))


def parts(first: int, count: int, workers: int) -> list[Part]:
    """Consecutive pieces of work dealt out evenly; nothing to those for whom there is none."""
    ends = [first + count * k // workers for k in range(workers + 1)]
    return [(a, b - a) for a, b in pairwise(ends) if b > a]


def check_places(settings: RaySettings, nodes: Sequence[float]) -> None:
    """Refuses more workers than a cluster can ever hold: Ray would wait for further cores for ever.

    Args:
        settings: Number of workers, and the resources of each.
        nodes: Cores of each of the cluster's machines.

    Raises:
        ConfigError: If they do not fit.
    """
    if not settings.cpus:
        return
    places = sum(int(cores / settings.cpus + 1e-9) for cores in nodes)
    if places < settings.workers:
        raise ConfigError(
            f"`rollouts.workers={settings.workers}` with `rollouts.cpus={settings.cpus:g}` does not fit this Ray cluster: its "
            f"machines have {' + '.join(f'{cores:g}' for cores in nodes) or 'no'} cores, enough for {places} workers. "
            + (
                f"Set `rollouts.workers={places}`, or a smaller `rollouts.cpus`"
                if places
                else "Set a smaller `rollouts.cpus`"
            )
        )


def connected(address: str | None) -> Any:
    """Connects to Ray.

    Args:
        address: Address of a cluster
        None to start one on this machine.:

    Returns:
        The module ``ray``.

    Raises:
        ConfigError: If it is not installed, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what it reports of its use to its makers
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("`rollouts=ray` needs the package `ray`: run `pip install 'duologue[ray]'`") from error
    if not ray.is_initialized():
        try:
            ray.init(
                address=address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"`rollouts.address={address}`: {error}") from error
    return ray
