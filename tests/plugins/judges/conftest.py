"""A judge model on the fake server, and answers with the alternatives' probabilities."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from duologue.plugins import JudgeContext


@pytest.fixture
def context(client, endpoint) -> JudgeContext:
    return JudgeContext(client, {"assistant": endpoint})


@pytest.fixture
def with_alternatives() -> Callable[..., dict[str, Any]]:
    """The body of an answer: `with_alternatives("Score: ", ("4", {"4": 0.7, "5": 0.3}))`."""

    def body(*tokens: Any) -> dict[str, Any]:
        entries = []
        for token in tokens:
            text, listed = token if isinstance(token, tuple) else (token, {token: 1.0})
            tops = [{"token": other, "logprob": math.log(p)} for other, p in listed.items()]
            entries.append({"token": text, "logprob": math.log(listed[text]), "top_logprobs": tops})
        message = {"role": "assistant", "content": "".join(entry["token"] for entry in entries)}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": entries}}
        return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": len(entries)}}

    return body
