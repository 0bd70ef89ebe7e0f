"""Fixtures of this room: a judge that remembers, clients without a cassette, a count of the requests under way."""

from collections.abc import Sequence

import pytest

from duologue.inference import InferenceClient
from duologue.plugins import Reward, Score, Turn


class Spy:
    """A judge that scores the number of words of the reply and keeps the turns it was shown."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []

    async def score(self, batch: Sequence[Turn]) -> list[Score]:
        self.turns += batch
        return [Score(float(len(turn.reply.split()))) for turn in batch]

    async def aclose(self) -> None:
        pass


class Gauge:
    """Counts the requests that the server is working on, each of which takes ``delay_s``."""

    def __init__(self, server, delay_s: float) -> None:
        self.now = self.most = 0
        answer = server.answer

        def arrive(body) -> float:
            self.now += 1
            self.most = max(self.most, self.now)
            return delay_s

        def leave(body):
            self.now -= 1
            return answer(body)

        server.delay_s, server.answer = arrive, leave


@pytest.fixture
def spy() -> Spy:
    return Spy()


@pytest.fixture
def spied(spy) -> Reward:
    """A reward whose only judge is the spy: the number of words of the reply."""
    return Reward({"spy": spy})


@pytest.fixture
def gauge(server):
    return lambda delay_s: Gauge(server, delay_s)


@pytest.fixture
def forgetful_client():
    """Makes clients without a cassette: every request reaches the server."""
    made: list[InferenceClient] = []

    def make() -> InferenceClient:
        made.append(InferenceClient())
        return made[-1]

    yield make
    for client in made:
        client.close()
