"""The leaderboard as a picture, and as scalars."""

import struct
from xml.etree import ElementTree

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from duologue.evaluation.report.curves import write_scalars
from duologue.evaluation.report.leaderboard import leaderboard
from duologue.evaluation.report.plots import MOST, draw_boards


def records(contestants, wins=4, of=8):
    return [
        {
            "scenario": f"s{i}",
            "repeat": 0,
            "contestant": name,
            "baseline": "plain $model$",
            "judge": "length",
            "reply": "a b",
            "baseline_reply": "a",
            "orders": [float(i < wins)] * 2,
            "consistent": True,
            "scores": [1.0, 0.0],
            "failure": None,
        }
        for name in contestants
        for i in range(of)
    ]


def test_the_picture_names_everybody_and_is_the_same_each_time(tmp_path):
    boards = {"plain $model$": leaderboard(records(["one_{x}", "$two$", "a very long directive " * 5]))}
    paths = [tmp_path / "a.svg", tmp_path / "a.png", tmp_path / "b.svg"]
    assert draw_boards(boards, paths)
    ElementTree.parse(paths[0])
    text = paths[0].read_text()
    assert "one_{x}" in text  # text that Matplotlib might take for a formula
    assert "$two$" in text
    assert text == paths[2].read_text()
    header = paths[1].read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:24])[0] == 7 * 150


def test_nothing_decided_gives_no_picture(tmp_path):
    lost = [{**record, "failure": "mute", "orders": []} for record in records(["one"])]
    assert not draw_boards({"plain": leaderboard(lost)}, [tmp_path / "a.svg"])
    assert not list(tmp_path.iterdir())


def test_many_rows_stay_readable(tmp_path):
    boards = {"plain": leaderboard(records([f"model {i:03}" for i in range(MOST + 5)]))}
    assert draw_boards(boards, [tmp_path / "a.svg"])
    assert (tmp_path / "a.svg").read_text().count("<!-- model ") == MOST


def test_scalars_stand_at_the_policys_step(tmp_path):
    rows = [
        {"contestant": "trained policy", "baseline": "plain", "win_rate": 0.6, "low": 0.5, "high": 0.7},
        {"contestant": "mute", "baseline": "plain", "win_rate": None, "low": None, "high": None},
    ]
    assert write_scalars(tmp_path, rows, 6144)
    events = EventAccumulator(str(tmp_path)).Reload()
    (point,) = events.Scalars("evaluation/win_rate/trained policy")
    assert (point.step, round(point.value, 6)) == (6144, 0.6)
    assert not [tag for tag in events.Tags()["scalars"] if "mute" in tag]
