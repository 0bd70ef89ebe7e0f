"""What servers say that they counted is read as it is meant."""

import pytest

from duologue.inference.counted import read_usage


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"usage":{"total_tokens":12}}', 12),
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":2}}', 7),
        (b'{"usage":{}}', None),
        (b"{}", None),
        (b'{"usage":null}', None),
        (b"<html>", None),
    ],
)
def test_what_was_counted(body, expected):
    usage = read_usage(body)
    assert (usage and usage.total_tokens) == expected
