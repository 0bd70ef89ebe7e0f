"""Judges of the tests, as functions."""

import os
import signal

judged = 0
"""Calls of `interrupting` so far."""


def red(turn):
    """The share of words that are "red"."""
    words = turn.reply.split()
    return sum(word == "red" for word in words) / max(1, len(words))


def only_long(turn):
    """Fails for replies of fewer than five words."""
    words = turn.reply.split()
    if len(words) < 5:
        raise RuntimeError("too short to judge")
    return float(len(words))


def never(turn):
    """Fails."""
    raise RuntimeError("no verdict")


def turns(turn):
    """How many turns there were before, and one."""
    return 1.0 + turn.index


def interrupting(turn):
    """As `red`; at its 40th call somebody ends the process."""
    global judged
    judged += 1
    if judged == 40:
        os.kill(os.getpid(), signal.SIGTERM)
    return red(turn)
