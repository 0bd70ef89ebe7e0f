"""A hackable judge sets the alarms off, a sound one does not; resumed, the reporter knows what it knew."""

import hashlib
import json
import sys

import pytest

from duologue.agents.training import train
from duologue.core.errors import Interrupted
from duologue.envs import load_scenarios
from duologue.plugins import hookimpl, plugins

REFERENCES = {scenario.user[0]: scenario.reference for scenario in load_scenarios("assistant", "train", None)}
PADDING = "well as far as anybody can tell that is a thing of which much could be said and so on"


def answer(body):
    """Half of all candidates are good and short, the others wrong and long."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    return REFERENCES[body["messages"][-1]["content"]] if digest[0] % 2 else f"{PADDING} {PADDING} {digest[1]}."


def long_ones(turn):
    """A judge that can be hacked: it takes length for quality."""
    return len(turn.reply.split()) / 40


def found(turn):
    """A judge that cannot: is it the good answer?"""
    return float(turn.reply == turn.reference)


@pytest.fixture(autouse=True)
def importable(monkeypatch, server):
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    server.answer = answer


def settings(configured, trains, held_out):
    judge = "{name: python, function: '%s:%s', weight: %s, gate: false}"
    return configured(
        "train",
        "~judges.rules",
        "~judges.length",
        "~judges.held_out",
        f"+judges.trains={judge % (__name__, trains, 1.0)}",
        f"+judges.watches={judge % (__name__, held_out, 0.0)}",
        "env.limit=24",
        "agent.total_timesteps=640",
        "agent.n_envs=8",
        "agent.n_steps=8",
        "agent.batch_size=32",
        "agent.n_epochs=4",
        "agent.ent_coef=0.01",
    )


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_a_hackable_judge_sets_them_off_and_a_sound_one_does_not(configured, tmp_path, capfd):
    train(settings(configured, "long_ones", "found"), tmp_path / "hacked")
    alarms = {alarm["name"]: alarm for alarm in summary(tmp_path / "hacked")["alarms"]}
    assert {"held_out", "repetition"} <= set(alarms)
    assert "the held-out judge `watches`" in alarms["held_out"]["message"]
    assert "ALARM (held_out): the training reward rose" in capfd.readouterr().err
    rows = (tmp_path / "hacked" / "progress.csv").read_text().splitlines()
    table = [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:]]
    assert max(float(row["rollout/alarms"]) for row in table) >= 1
    assert float(table[0]["rollout/alarms"]) == 0

    train(settings(configured, "found", "found"), tmp_path / "sound")
    kept = summary(tmp_path / "sound")
    assert kept["reward_last"] > kept["reward_first"] + 0.2  # it did learn
    assert "held_out" not in {alarm["name"] for alarm in kept["alarms"]}
    assert "ALARM (held_out)" not in capfd.readouterr().err


class Stops:
    """Ends the run after so many rollouts, and hears of all."""

    def __init__(self, client_stop, after):
        self.stats, self.stop, self.after = [], client_stop, after

    @hookimpl
    def duologue_rollout_end(self, run, stats):
        self.stats.append(stats)
        if len(self.stats) == self.after:
            raise Interrupted("enough", 15)


def test_a_resumed_run_says_no_alarm_twice_and_ends_with_the_same(configured, tmp_path, capfd):
    config = settings(configured, "long_ones", "found")
    train(config, tmp_path / "whole")
    said = capfd.readouterr().err.count("ALARM")
    listener = Stops(None, 9)
    plugins().register(listener)
    try:
        with pytest.raises(Interrupted):
            train(config, tmp_path / "cut")
        listener.after = 0
        train(config, tmp_path / "cut")
    finally:
        plugins().manager.unregister(listener)
    assert capfd.readouterr().err.count("ALARM") == said
    for name in ("alarms", "reward_first", "reward_last"):
        assert summary(tmp_path / "cut")[name] == summary(tmp_path / "whole")[name]
    assert [stats.index for stats in listener.stats[-3:]] == [8, 8, 9]  # the one that was broken off is played again
    assert listener.stats[-1].alarms
    assert set(listener.stats[-1].replies) == {"words", "refusals", "repetition", "action_entropy"}
