"""Proves a judge: what its author calls in a test.

    from duologue.plugins.testing import check_judge

    def test_my_judge():
        check_judge("politeness", word="please")

The judge is found as a run finds it, by its entry point, so the test also proves that the package is installed rightly.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..inference.client import InferenceClient
from ..inference.endpoint import Endpoint
from .judge import Abstain, Failure, Judge, JudgeContext, PairwiseJudge, Preference, Score, Turn
from .manager import Plugins, plugins
from .publish import defaults
from .registrar import JudgeSpec

LONGEST_BLOCK_S = 0.5
"""Seconds for which a judge may keep the event loop to itself; every dialogue waits meanwhile."""


def turn(reply: str, question: str = "What is the capital of France?", **parts: Any) -> Turn:
    """A turn with one question; further parts as `Turn` names them."""
    return Turn(({"role": "user", "content": question},), reply, **parts)


TURNS: tuple[Turn, ...] = (
    turn("Paris.", reference="Paris is the capital of France."),
    turn("Could you please say which France you mean? Thank you."),
    turn(""),
    turn("paris " * 2_000, finish_reason="length"),
    turn("Je ne sais pas 🤷. \u202eneerg", reference="Paris."),
    turn("```python\nprint('Paris')\n```\n[b]{x}%s\\n\0"),
    replace(
        turn("And of Spain it is Madrid."),
        messages=(
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is the capital of France?"},
            {"role": "assistant", "content": "Paris."},
            {"role": "user", "content": "And of Spain?"},
        ),
        index=1,
    ),
)
"""Ordinary turns and such as break judges: an empty reply, a cut one, a long one, other scripts, markup, a later turn."""


def check_judge(
    name: str,
    *,
    turns: Sequence[Turn] = TURNS,
    deterministic: bool = True,
    registry: Plugins | None = None,
    context: JudgeContext | None = None,
    **settings: Any,
) -> list[Any]:
    """Proves that an installed judge keeps its side of the bargain.

    Checked are: its registration, that its settings can be published to Hydra, that the dataclass and the constructor
    agree, one verdict per turn in order and of the right type, finite scores, an empty batch, that a turn's verdict does
    not depend on its neighbours (if deterministic), two batches at once, that the event loop is not kept from others
    for long, and `aclose`.

    Args:
        name: Registered name.
        turns: Turns to judge; a `PairwiseJudge` compares each reply with the next one.
        deterministic: Whether equal turns get equal verdicts.
        registry: Plugins to search; the process's by default.
        context: For judges that ask for one; by default an endpoint that nobody serves.
        **settings: Its own.

    Returns:
        Its verdicts on ``turns``, for what else the author wants to assert.

    Raises:
        AssertionError: With what is wrong, on one line.
        ConfigError: If there is no such judge, or it refuses a setting.
    """
    found = registry or plugins()
    own = _check_registration(found.judges[name]) if name in found.judges else {}
    client = InferenceClient()
    nobody = Endpoint("http://127.0.0.1:9/v1", "nobody", max_retries=0)
    try:
        judge = found.build(
            {"name": name, **own, **settings},
            f"judge `{name}`",
            context or JudgeContext(client, {"assistant": nobody}),
        )
        return asyncio.run(_check(judge, list(turns), deterministic))
    finally:
        client.close()


def _check_registration(spec: JudgeSpec) -> dict[str, Any]:
    """The defaults of its settings, as Hydra composes them."""
    assert spec.summary, "registered without a `summary`, which `duologue judges` shows"
    assert spec.name.isidentifier(), (
        f"the name {spec.name!r} cannot be used in a configuration: use letters, digits and _"
    )
    return defaults(spec)


async def _check(judge: Judge | PairwiseJudge, turns: list[Turn], deterministic: bool) -> list[Any]:
    if isinstance(judge, Judge):
        batch: list[Any] = turns
        allowed: tuple[type, ...] = (Score, Abstain, Failure)
        ask: Any = judge.score
    else:
        batch = list(zip(turns, turns[1:] + turns[:1], strict=True))
        allowed, ask = (Preference, Failure), judge.compare
    lag = _Lag()
    watch = asyncio.create_task(lag.watch())
    await asyncio.sleep(0)  # it must have begun: a judge that awaits nothing would never let it
    try:
        verdicts = await ask(batch)
        _check_verdicts(verdicts, batch, allowed)
        assert list(await ask([])) == [], "an empty batch must give no verdicts"
        both = await asyncio.gather(ask(batch), ask(batch[::-1]))
        _check_verdicts(both[1], batch, allowed)
        if deterministic:
            alone = [(await ask([one]))[0] for one in batch]
            for i, one in enumerate(alone):
                assert _same(one, verdicts[i]), f"turn {i} got {verdicts[i]} among others and {one} alone"
                assert _same(one, both[1][len(batch) - 1 - i]), f"turn {i} got another verdict in the reversed batch"
        await asyncio.sleep(0)
    finally:
        watch.cancel()
        await judge.aclose()
    await judge.aclose()  # a run that is broken off may close twice
    assert lag.longest_s < LONGEST_BLOCK_S, (
        f"the event loop stood still for {lag.longest_s:.1f} s: move the work to a thread with `asyncio.to_thread`"
    )
    return list(verdicts)


def _check_verdicts(verdicts: Sequence[Any], batch: Sequence[Any], allowed: tuple[type, ...]) -> None:
    assert len(verdicts) == len(batch), f"{len(verdicts)} verdicts for {len(batch)} turns"
    for i, verdict in enumerate(verdicts):
        names = " or ".join(kind.__name__ for kind in allowed)
        assert isinstance(verdict, allowed), f"turn {i}: a verdict must be {names}, not {verdict!r}"
        if isinstance(verdict, Score):
            assert isinstance(verdict.value, int | float), f"turn {i}: a score must be a number, not {verdict.value!r}"
            assert math.isfinite(verdict.value), f"turn {i}: the score is {verdict.value}; say `Failure` instead"
        elif isinstance(verdict, Preference):
            assert verdict.winner in ("first", "second", "tie"), f"pair {i}: no such winner: {verdict.winner!r}"


def _same(one: Any, other: Any) -> bool:
    """Equal, up to the last bits that a batched computation may differ by."""
    if isinstance(one, Score) and isinstance(other, Score):
        return math.isclose(one.value, other.value, rel_tol=1e-4, abs_tol=1e-4)
    return type(one) is type(other) and getattr(one, "winner", None) == getattr(other, "winner", None)


class _Lag:
    """Measures how long the event loop was blocked."""

    longest_s = 0.0

    async def watch(self) -> None:
        """Measures until it is cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            self.longest_s = max(self.longest_s, time.monotonic() - began - 0.01)
