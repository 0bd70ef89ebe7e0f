"""The report in words: what it holds, that nothing in it can be taken for markup, and what it is refused for."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from duologue.evaluation.evaluate import train_and_evaluate
from duologue.evaluation.report import embedded, number, percent, run, write_report
from duologue.inference.errors import ConfigError

NASTY = "</script><img src=x onerror=alert(1)> & \u2028 <b>|"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run, by the fake server."""
    from duologue.tests.conftest import FakeServer, shipped

    server, folder = FakeServer(), tmp_path_factory.mktemp("report")
    try:
        train_and_evaluate(shipped("run", server.url, folder), folder / "run")
    finally:
        server.stop()
    return folder / "run"


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


class Page(HTMLParser):
    """Tags, their attributes and the texts between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.within = [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.within = tag

    def handle_data(self, data):
        self.texts[self.within] = self.texts.get(self.within, "") + data


def test_a_run_ends_with_its_report(finished, capsys):
    page = Page((finished / "report.html").read_text())
    summary = json.loads((finished / "summary.json").read_text())
    for row in summary["results"]:
        assert row["contestant"] in page.texts["td"]
        assert f"{row['win_rate']:.1%}" in page.texts["td"]
    assert "The trained policy" in page.texts["h1"]
    assert "requests paid" in page.texts["p"]
    assert len(json.loads(re.search(r'id="data">(.*?)</script>', (finished / "report.html").read_text())[1])) == len(
        (finished / "matches.jsonl").read_text().splitlines()
    )
    assert "| trained policy |" in (finished / "report.md").read_text()


def test_it_comes_in_every_form(finished):
    figures = json.loads((finished / "report.json").read_text())
    summary = json.loads((finished / "summary.json").read_text())
    rates = {row["contestant"]: row["rate"]["rate"] for row in figures["leaderboard"]}
    assert rates == {row["contestant"]: pytest.approx(row["win_rate"], abs=1e-6) for row in summary["results"]}
    assert figures["judge"]["name"] == "length"
    assert {one["other"] for one in figures["comparisons"]} == set(rates) - {"trained policy"}
    assert (finished / "report.svg").exists()
    assert (finished / "report.png").exists()
    assert list(finished.glob("events.out.tfevents.*.evaluation"))
    assert "# The judge length" in (finished / "report.md").read_text()


def test_it_asks_nobody_for_anything(finished):
    text = (finished / "report.html").read_text()
    page = Page(text)
    assert all(not attributes.get(name) for _, attributes in page.tags for name in ("src", "href"))
    assert not re.search(r"https?://(?!www\.w3\.org)", re.sub(r'<script type="application/json".*?</script>', "", text))
    policies = [attributes for tag, attributes in page.tags if attributes.get("http-equiv")]
    assert policies[0]["content"].startswith("default-src 'none'")


def test_whatever_is_said_is_text(folder):
    lines = [json.loads(line) for line in (folder / "matches.jsonl").read_text().splitlines()]
    for line in lines:
        line["reply"], line["contestant"] = NASTY, NASTY if line["contestant"] == "random" else line["contestant"]
        line["messages"] = [{"role": NASTY, "content": NASTY}]
    (folder / "matches.jsonl").write_text("\n".join(map(json.dumps, lines)))
    summary = json.loads((folder / "summary.json").read_text())
    summary["alarms"] = [{"name": NASTY, "rollout": 1, "message": NASTY}]
    (folder / "summary.json").write_text(json.dumps(summary))
    page = Page(write_report(folder).read_text())
    assert "img" not in {tag for tag, _ in page.tags}
    assert "b" not in {tag for tag, _ in page.tags}
    assert NASTY in page.texts["td"]
    assert NASTY in page.texts["strong"]
    table = (folder / "report.md").read_text()
    assert "<img" not in table
    assert "\\|" in table


def test_embedded_json_ends_no_script_and_reads_back():
    text = embedded({"x": NASTY, "y": [1, None, "é"]})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"x": NASTY, "y": [1, None, "é"]}


def test_alarms_and_failures_are_shown(folder):
    summary = json.loads((folder / "summary.json").read_text())
    summary["alarms"] = [{"name": "held_out", "rollout": 9, "message": "the reward rose alone"}]
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = (folder / "matches.jsonl").read_text().splitlines()
    broken = {**json.loads(lines[0]), "failure": "the line is dead", "orders": [], "outcome": None, "scores": None}
    (folder / "matches.jsonl").write_text("\n".join([*lines[1:], json.dumps(broken)]))
    text = write_report(folder).read_text()
    assert "the reward rose alone" in text
    assert "worst case" in text
    assert "worst case" not in write_report_of(folder, lines)


def write_report_of(folder, lines):
    (folder / "matches.jsonl").write_text("\n".join(lines))
    return write_report(folder).read_text()


def test_the_command_writes_it_again(folder, capsys):
    (folder / "report.html").unlink()
    run([str(folder)])
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / "summary.json").unlink(), "summary.json cannot be read"),
        (lambda folder: (folder / "summary.json").write_text("{"), "summary.json is no JSON.*: give the folder of"),
        (lambda folder: (folder / "matches.jsonl").unlink(), "the evaluation's matches .* cannot be read"),
        (lambda folder: (folder / "matches.jsonl").write_text(""), "matches.jsonl holds nothing"),
    ],
)
def test_a_folder_without_an_evaluation_is_refused(folder, break_it, said):
    break_it(folder)
    with pytest.raises(ConfigError, match=said):
        write_report(folder)


def test_the_command_takes_one_folder():
    with pytest.raises(ConfigError, match="takes one run folder"):
        run([])


def test_figures_are_short():
    assert [percent(None), percent(float("nan")), percent(0.12345)] == ["none", "none", "12.3%"]
    assert [number(None), number(float("nan")), number(12345), number(0.012345)] == ["none", "none", "12,345", "0.0123"]
