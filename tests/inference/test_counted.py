"""What servers say that they counted is read as it is meant."""

import pytest

from duologue.inference.answers import read_usage


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"usage":{"total_tokens":12}}', 12),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":2}}', 7),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":9}}', 9),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":null}}', 5),
        (b'{"usage":{"prompt_tokens":5.0,"completion_tokens":"2"}}', 7),
        (b'{"usage":{"total_tokens":3,"completion_tokens":10}}', 10),
        (b'{"usage":{"prompt_tokens":-5,"total_tokens":3}}', 3),
        (b'{"usage":{"total_tokens":-12}}', None),
        (b'{"usage":{"total_tokens":1' + b"0" * 400 + b"}}", None),
        (b'[{"score": 1}]', None),
        (b'{"usage":' + b"[" * 100_000, None),
        (b'{"usage":{}}', None),
        (b"{}", None),
        (b'{"usage":null}', None),
        (b"<html>", None),
    ],
)
def test_what_was_counted(body, expected):
    usage = read_usage(body)
    assert (usage and usage.total) == expected
