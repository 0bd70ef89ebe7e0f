"""A dialogue task: endpoints, interface, encoder, judges, scenarios and user."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.errors import ConfigError
from ..inference.client import InferenceClient
from ..inference.encoders import Encoder, make_encoder
from ..inference.endpoint import Endpoint, Sampling, endpoints_from_settings
from ..plugins.judge import JudgeContext
from ..plugins.rewards.reward import Reward
from .episode import Curriculum
from .games import game_of, parts_of, with_directives
from .interfaces import ActionInterface, make_interface
from .observation import Observer
from .scenarios.loading import load_scenarios
from .scenarios.scenario import Scenario
from .users import ScriptedUser, User, check_user, make_user, most_turns

SYSTEM = "Answer in one or two short sentences."
DEFAULT_JUDGES: Mapping[str, Any] = {
    "reference": {"name": "reference", "weight": 1.0},
    "rules": {"name": "rules", "weight": 0.1},
    "length": {"name": "length", "weight": 0.3, "low": 20, "high": 40},
}


_FIRST_RUN: Mapping[str, Any] = {
    "scenarios": "assistant",
    "user": "scripted",
    "interface": "select",
    "judges": DEFAULT_JUDGES,
    "encoder": "static",
    "system": SYSTEM,
    "max_turns": 8,
}


def embedded_endpoint(game: str | None = None) -> Endpoint:
    """The default assistant: SmolLM2 on this machine, or a game's rules."""
    if game is not None:
        return Endpoint(f"embedded://{game}", "rules", sampling=Sampling(seed=0), max_concurrency=64)
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=40, seed=0)
    return Endpoint("embedded://smollm2", "smollm2-135m-instruct", sampling=sampling, max_concurrency=16, timeout_s=300)


def _game(name: str | None, scenarios: object) -> str | None:
    """The game that is played, if any; refuses the scenarios of another one."""
    drawn = game_of(scenarios) if isinstance(scenarios, str) else None
    if name is not None and drawn is not None and name != drawn:
        raise ConfigError(f"`game={name}` and `scenarios={scenarios}` are two games: leave one of them out")
    return name or drawn


@dataclass(frozen=True)
class Task:
    """Everything that dialogues of one kind share. Immutable; all dialogues of an environment use one.

    Attributes:
        client: Asks endpoints.
        assistant: The frozen model.
        interface: Action interface.
        encoder: Turns texts into vectors.
        scenarios: The scenarios.
        reward: Judges the turns; None plays without judging, as in evaluation and serving.
        user: The other side.
        system: The system prompt of scenarios that have none; empty for none.
        max_turns: Assistant turns after which a dialogue is truncated.
        draws: See `Curriculum`.
        turn_deadline_s: Seconds that one turn may take with everything in it; then the dialogue is truncated. None for
            no limit: short ones cut the slow dialogues, which are not like the others.
        routes: The interface's own endpoints, by name.
    """

    client: InferenceClient
    assistant: Endpoint
    interface: ActionInterface
    encoder: Encoder
    scenarios: Sequence[Scenario]
    reward: Reward | None = None
    user: User = field(default_factory=ScriptedUser)
    system: str = SYSTEM
    max_turns: int = 8
    draws: int | None = 1
    turn_deadline_s: float | None = None
    routes: Mapping[str, Endpoint] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "routes", self.interface.endpoints(self.assistant))
        if self.max_turns < 1:
            raise ConfigError(f"`env.max_turns` must be at least 1, not {self.max_turns}")
        if self.turn_deadline_s is not None and not self.turn_deadline_s > 0:
            raise ConfigError(f"`env.turn_deadline_s` must be above 0, or null, not {self.turn_deadline_s}")
        if not self.scenarios:
            raise ConfigError("a task needs at least one scenario")
        check_user(self.user, self.scenarios)
        Curriculum(self.scenarios, self.draws)  # refuses bad `draws` now rather than at the first reset

    def __deepcopy__(self, memo: dict[int, Any]) -> Task:
        """Returns the task itself: Gymnasium deep-copies an environment's arguments, and running calls cannot be copied."""
        return self

    @property
    def observer(self) -> Observer:
        """Builds the observations."""
        return Observer(self.encoder, self.interface)

    @property
    def curriculum(self) -> Curriculum:
        """Deals the scenarios."""
        return Curriculum(self.scenarios, self.draws)

    def turns(self, scenario: Scenario) -> int:
        """The most assistant turns in a dialogue of this scenario."""
        return most_turns(self.user, scenario, self.max_turns)

    def endpoint(self, route: str | None) -> Endpoint:
        """The endpoint of a request."""
        return self.assistant if route is None else self.routes[route]

    def without_reward(self, scenarios: Sequence[Scenario] | None = None) -> Task:
        """Copies the task without its reward, for evaluation and serving."""
        return replace(self, reward=None, scenarios=self.scenarios if scenarios is None else scenarios)

    @classmethod
    def build(
        cls,
        *,
        client: InferenceClient | None = None,
        endpoints: Mapping[str, Endpoint | Mapping[str, Any] | None] | None = None,
        game: str | None = None,
        interface: ActionInterface | Mapping[str, Any] | str | None = None,
        encoder: Encoder | Mapping[str, Any] | str | None = None,
        judges: Mapping[str, Any] | None = None,
        reward: Reward | Mapping[str, Any] | None = None,
        scenarios: str | Sequence[Scenario] | None = None,
        split: str = "train",
        limit: int | None = None,
        user: User | Mapping[str, Any] | str | None = None,
        system: str | None = None,
        max_turns: int | None = None,
        draws: int | None = 1,
        turn_deadline_s: float | None = None,
    ) -> Task:
        """Builds a task from names and settings.

        What is None is the game's part if there is a game, and else what the README's first run uses: the embedded model,
        `select`, `static`, `DEFAULT_JUDGES`, the scenarios `assistant`, the user `scripted`, `SYSTEM`, 8 turns.

        Args:
            client: Asks endpoints; the process's shared one by default.
            endpoints: By role, each an `Endpoint` or its settings; by default the embedded model, and of a game its rules.
            game: A key of `GAMES`; by default the one that ``scenarios`` names.
            interface: An interface, its name or its settings.
            encoder: An encoder, its name or its settings.
            judges: Key to judge settings. An empty mapping plays without judging.
            reward: A ready reward, or the options of the composition.
            scenarios: A shipped set's or game's name, the path of a JSONL file, or scenarios.
            split: Split of a named set or file.
            limit: Take this many scenarios of the split; None for all.
            user: A user, its name or its settings.
            system: The system prompt of scenarios that have none.
            max_turns: Assistant turns after which a dialogue is truncated.
            draws: See `Curriculum`.
            turn_deadline_s: Seconds that one turn may take with everything in it; then the dialogue is truncated.

        Returns:
            The task.

        Raises:
            ConfigError: If a name is unknown or a value is refused.
        """
        client = client or InferenceClient.shared()
        game = _game(game, scenarios)
        parts = parts_of(game) if game else _FIRST_RUN
        scenarios = parts["scenarios"] if scenarios is None else scenarios
        user = parts["user"] if user is None else user
        encoder = parts["encoder"] if encoder is None else encoder
        interface = parts["interface"] if interface is None else interface
        roles = endpoints_from_settings(endpoints or {"assistant": embedded_endpoint(game)}, "endpoints")
        if not isinstance(interface, ActionInterface):
            interface = make_interface(with_directives(interface, game or game_of(None, user)))
        if not isinstance(encoder, Encoder):
            encoder = make_encoder(encoder, client)
        if isinstance(scenarios, str | os.PathLike):
            scenarios = load_scenarios(scenarios, split, limit)
        if not isinstance(reward, Reward):
            chosen = parts["judges"] if judges is None else judges
            if not isinstance(chosen, Mapping):
                raise ConfigError(
                    f"`judges` must hold the judges' settings by name, such as {{'length': 'length'}}, not {chosen!r}"
                )
            context = JudgeContext(client, roles)
            reward = Reward.from_settings(chosen, context, reward) if chosen else None
        return cls(
            client=client,
            assistant=roles["assistant"],
            interface=interface,
            encoder=encoder,
            scenarios=scenarios,
            reward=reward,
            user=make_user(user, client, roles) if isinstance(user, str | Mapping) else user,
            system=parts["system"] if system is None else system,
            max_turns=parts["max_turns"] if max_turns is None else max_turns,
            draws=draws,
            turn_deadline_s=turn_deadline_s,
        )
