"""The Gymnasium environment: one dialogue, blocking."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from ..core.errors import ArgumentError, ConfigError, near_miss
from .dialogue import Dialogue
from .episode import Episode, Observation
from .policies import action_mask
from .scenarios.scenario import Scenario
from .task import Task


class DialogueEnv(gym.Env[Observation, Any]):
    """A dialogue between a simulated user and a frozen language model that the policy directs.

    ## Description
    Each step is one assistant turn. The frozen model behind the API writes it; the action decides how the model is
    used. What the action means is the interface's business: which of n candidates is sent (`select`, the default),
    which directive steers the model (`strategy`), how it samples (`decode`), which of several models answers (`route`) and
    others, see `envs.interfaces`.

    ## Action Space
    The interface's. `select`: `Discrete(n)`, the index of the candidate to send. `strategy`: `Discrete(K)`, the index
    of the directive; 0 leaves the model alone. `route`: `Discrete(M)`, the index of the model. `decode`: `MultiDiscrete`, the
    places of temperature, top_p and max_tokens in their grids. `text`: the turn itself, a `Text`; the model is not asked.

    ## Observation Space
    A `Dict` of float32 `Box`es.

    | key | shape | range | meaning |
    |---|---|---|---|
    | `message` | (dim,) | [-1, 1] | embedding of the user's latest turn |
    | `history` | (dim,) | [-1, 1] | mean embedding of all turns |
    | `scalars` | (6,) | [0, 1] | see `envs.observation.SCALARS` |
    | `candidates` | (n, 11) | see `envs.interfaces.select.FEATURES` | `select`, `propose_select`: one row per candidate |
    | `candidate_embeddings` | (n, dim) | [-1, 1] | `select`, `propose_select` |

    ## Starting State
    The opening turn of a scenario. Scenarios are dealt in epochs, each in an order that the seed decides;
    `reset(options={"scenario": id})` asks for one by name.

    ## Rewards
    The weighted sum of the judges' scores for the turn. With the default judges: `reference` in [-1, 1], plus 0.1
    times `rules` and 0.3 times `length`, each in [0, 1].

    ## Episode End
    Termination: the user has nothing left to say. Truncation: `max_turns` assistant turns were made; the last
    observation is then what the policy would have seen next, which costs `select` the requests of one more turn (only
    in a task with judges: without a reward there is no value to bootstrap, and its boxes are zero).
    Where a judge has `when=end`, the end by `max_turns` is a termination like others. A call or a judge that fails after its
    retries truncates the episode with `info["failure"]` and NaN for a reward: a failure is never a number.

    ## Information
    | key | type | meaning |
    |---|---|---|
    | `scenario` | str | the scenario's id |
    | `turn` | int | assistant turns so far |
    | `action` | str | the action in words |
    | `reply` | str | the assistant's turn |
    | `finish_reason` | str | `stop`, or `length` if the reply was cut |
    | `messages` | tuple[Message, ...] | the dialogue so far |
    | `requests` | int | requests to the assistant's endpoint in this turn, those that the cassette answered included |
    | `completion_tokens` | int | tokens of all their answers |
    | `cost_usd` | float | what they cost at the endpoint's price, as if none had been reused |
    | `reward/<judge>` | float | each judge's raw score; absent where it abstained |
    | `term/<judge>` | float | what it adds to the reward: weighted, normalised, shaped; `term/cost` is the cost's |

    Of a turn that failed there are only `scenario`, `failure` (str, what happened) and `failure_cause` (str): `assistant`,
    `user`, `encoder`, `reward`, `deadline` or the judge's name.

    After `reset`: `scenario`, `episode_number` (int), `draw` (int) and `messages`. `FixedInfo` wraps an environment for libraries
    that need the same keys and shapes at every step.

    ## Arguments
    A ready `task`, or the arguments of `Task.build`, such as `interface="strategy"`, `split="test"`,
    `scenarios="my.jsonl"`, `endpoints={"assistant": {"base_url": …, "model": …}}`.

    ## Version History
    * v0: first version
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012  (Gymnasium's own declaration)

    def __init__(self, task: Task | None = None, render_mode: str | None = None, **parts: Any) -> None:
        if render_mode not in (None, "ansi"):
            raise ArgumentError(f"`render_mode` must be 'ansi' or None, not {render_mode!r}")
        self.task = task_from(task, parts)
        self.render_mode = render_mode
        self.action_space = self.task.interface.action_space
        self.observation_space = self.task.observer.space  # type: ignore[assignment]  # a Dict yields dictionaries
        self._dialogue = Dialogue(self.task)
        self._seed: int | None = None
        self._number = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts the next episode, or with a seed the first one of that seed.

        Args:
            seed: Decides the order of scenarios from here on. The first reset without one takes one by chance.
            options: ``scenario``: the id of the scenario to play.

        Returns:
            Observation and info.

        Raises:
            EpisodeFailed: If a call failed after its retries.
            ConfigError: If there is no such scenario.
        """
        super().reset(seed=seed)
        if seed is not None or self._seed is None:
            self._seed, self._number = int(self.np_random.integers(2**31)) if seed is None else seed, 0
        episode = self.task.curriculum.episode(self._seed, self._number)
        if options and "scenario" in options:
            episode = Episode(self._number, scenario_by_id(self.task, options["scenario"]))
        self._number += 1
        return self.task.client.run(self._dialogue.reset(episode))

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Makes one assistant turn.

        Args:
            action: An element of the action space.

        Raises:
            ConfigError: If it is none; nothing has changed then.

        Returns:
            Observation, reward, terminated, truncated and info. If a call or a judge failed after its retries, or the
            turn took too long, the episode is truncated, ``info["failure"]`` says why, and the reward is NaN: there is
            none, and zero would be a lie. Leave such a transition out.
        """
        t = self.task.client.run(self._dialogue.step_or_end(action))
        if self.task.reward is not None:
            self.task.reward.observe([t.info])
        return t.observation, t.reward, t.terminated, t.truncated, t.info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Which actions make sense now, one entry for each choice of each part of an action; for agents that mask."""
        return action_mask(self.task.interface, self._dialogue.seen)

    def render(self) -> str | None:
        """The dialogue so far as text, if ``render_mode`` is ``ansi``."""
        if self.render_mode is None:
            return None
        return "\n".join(f"{m['role']}: {m['content']}" for m in self._dialogue.state.messages)


class FixedInfo(gym.Wrapper[Observation, Any, Observation, Any]):
    """Reduces ``info`` to the same keys and types at every step, for collectors that stack infos, such as Tianshou's.

    The keys are ``scenario`` and ``failure`` (str, empty if there is none), ``turn``, ``requests`` and
    ``completion_tokens`` (int), ``cost_usd`` (float), and ``term/<judge>`` (float, NaN where the judge gave no score).
    """

    def reset(self, **kwargs: Any) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode, see `DialogueEnv.reset`."""
        observation, info = self.env.reset(**kwargs)
        return observation, self._fixed(info)

    def step(self, action: Any) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Makes one assistant turn, see `DialogueEnv.step`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, self._fixed(info)

    def _fixed(self, info: Mapping[str, Any]) -> dict[str, Any]:
        reward = self.get_wrapper_attr("task").reward
        terms = [] if reward is None else [f"term/{name}" for name in reward.entries]
        texts, counts = ("scenario", "failure"), ("turn", "requests", "completion_tokens")
        return {
            **{name: str(info.get(name, "")) for name in texts},
            **{name: int(info.get(name, 0)) for name in counts},
            "cost_usd": float(info.get("cost_usd", 0.0)),
            **{name: float(info.get(name, math.nan)) for name in terms},
        }


def scenario_by_id(task: Task, name: str) -> Scenario:
    """Finds the scenario that ``options["scenario"]`` of a `reset` names.

    Args:
        task: Task with the scenarios.
        name: The scenario's id.

    Returns:
        The scenario.

    Raises:
        ConfigError: If the task has none of this id.
    """
    scenarios = {scenario.id: scenario for scenario in task.scenarios}
    if name not in scenarios:
        known = difflib.get_close_matches(str(name), scenarios, n=1) or list(scenarios)[:50]
        raise ConfigError(f"there is no scenario `{name}` in this split: {near_miss(str(name), known)}")
    return scenarios[name]


def task_from(task: Task | None, parts: dict[str, Any]) -> Task:
    """Returns the given task, or builds one.

    Args:
        task: A ready task
        None to build one.:
        parts: Arguments of `Task.build`.

    Returns:
        The task.

    Raises:
        ConfigError: If both are given.
        ArgumentError: If a part is unknown.
    """
    if task is not None and parts:
        raise ConfigError(f"give `task` or its parts, not both: {', '.join(sorted(parts))}")
    if task is not None:
        return task
    known = Task.build.__kwdefaults__ or {}
    for name in parts:
        if name not in known:
            raise ArgumentError(f"`{name}` is no part of a dialogue environment: {near_miss(name, known)}")
    return Task.build(**parts)
