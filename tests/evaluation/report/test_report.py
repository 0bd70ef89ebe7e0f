"""The report in words: what it holds, that nothing in it can be taken for markup, and what it is refused for."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from duologue.commands.evaluate import train_and_evaluate
from duologue.commands.report import run
from duologue.core.errors import ConfigError
from duologue.core.files import write_lines
from duologue.evaluation.report.report import embedded, number, percent, write_report

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


def data_of(folder):
    return json.loads(re.search(r'id="data">(.*?)</script>', (folder / "report.html").read_text("utf-8"))[1])


def test_a_text_of_many_matches_is_in_the_page_once(folder):
    path = folder / "matches.jsonl"
    matches = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    question, reply = "What, says the question, is this?\u2028", "A baseline's only answer."
    made = [
        {**match, "messages": [{"role": "user", "content": question}], "baseline_reply": reply, "reply": f"Reply {i}."}
        for i, match in enumerate(matches)
    ]
    write_lines(path, made)
    write_report(folder)
    found = data_of(folder)
    assert len(found["texts"]) == len(set(found["texts"]))
    shown = [
        (found["texts"][match["m"][0][1]], found["texts"][match["x"]], found["texts"][match["y"]])
        for match in found["matches"]
    ]
    assert shown == [(question, f"Reply {i}.", reply) for i in range(len(matches))]


def test_the_headline_in_markdown_is_no_markup(folder):
    path = folder / "matches.jsonl"
    name = "<img src=x> *bold* [link](http://x) `code` \x1b[31m"
    write_lines(path, [{**json.loads(line), "contestant": name} for line in path.read_text("utf-8").splitlines()])
    write_report(folder)
    text = (folder / "report.md").read_text("utf-8")
    assert "<img" not in text
    assert "\x1b" not in text
    assert "[link](" not in text
    assert r"\*bold\* \[link\](http://x) \`code\`" in text.splitlines()[0]


def test_any_contestant_is_compared_with_the_others(folder, capsys):
    others = {row["contestant"] for row in json.loads((folder / "summary.json").read_text())["results"]} - {"random"}
    run([str(folder), "beside=random"])
    compared = json.loads((folder / "report.json").read_text())["comparisons"]
    assert {one["policy"] for one in compared} == {"random"}
    assert {one["other"] for one in compared} == others
    with pytest.raises(ConfigError, match="no contestant `rondom`: did you mean `random`"):
        run([str(folder), "beside=rondom"])


def test_a_run_ends_with_its_report(finished, capsys):
    page = Page((finished / "report.html").read_text())
    summary = json.loads((finished / "summary.json").read_text())
    for row in summary["results"]:
        assert row["contestant"] in page.texts["td"]
        assert f"{row['win_rate']:.1%}" in page.texts["td"]
    assert "The trained policy" in page.texts["h1"]
    assert "requests made" in page.texts["p"]
    shown = data_of(finished)
    assert len(shown["matches"]) == len((finished / "matches.jsonl").read_text().splitlines())
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
    summary["alarms"] = [{"name": "held_out", "rollout": 9, "message": "the reward rose alone: set `x=<1>`"}]
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = (folder / "matches.jsonl").read_text().splitlines()
    broken = {**json.loads(lines[0]), "failure": "the line is dead", "orders": [], "outcome": None, "scores": None}
    (folder / "matches.jsonl").write_text("\n".join([*lines[1:], json.dumps(broken)]))
    text = write_report(folder).read_text()
    assert "the reward rose alone: set <code>x=&lt;1&gt;</code>" in text
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


@pytest.mark.parametrize(
    "changes",
    [
        {"contestant": 7},
        {"messages": "x"},
        {"messages": ["x"]},
        {"orders": [2.0]},
        {"orders": ["win"]},
        {"orders": None},
        {"outcome": "won"},
        {"actions": [1]},
        {"scores": "x"},
        {"reply": ["x"]},
        {"failure": 1},
    ],
)
def test_a_match_that_somebody_damaged_is_named_with_its_line(folder, changes):
    lines = (folder / "matches.jsonl").read_text(encoding="utf-8").splitlines()
    missing = {name: value for name, value in json.loads(lines[1]).items() if name not in changes}
    for broken in (json.loads(lines[1]) | changes, missing):
        damaged = [lines[0], json.dumps(broken), *lines[2:]]
        (folder / "matches.jsonl").write_text("\n".join(damaged), encoding="utf-8")
        with pytest.raises(ConfigError, match=r"matches.jsonl line 2 is no match: "):
            write_report(folder)


@pytest.mark.parametrize(
    "changes",
    [{"requests": []}, {"requests": {}}, {"tokens": None}, {"cost_usd": "x"}, {"wall_s": []}, {"judge": 7}]
    + [{"alarms": value} for value in ("x", [7], [{"name": 1}])],
)
def test_a_summary_that_somebody_damaged_is_named(folder, changes):
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    (folder / "summary.json").write_text(json.dumps(summary | changes), encoding="utf-8")
    with pytest.raises(ConfigError, match="summary.json is no summary of a run: "):
        write_report(folder)


def test_a_link_in_the_folder_is_not_written_through(folder, tmp_path):
    mine = tmp_path / "mine"
    for name in ("report.html", "report.md", "report.json", "report.svg"):
        mine.write_text("kept")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(mine)
        write_report(folder)
        assert mine.read_text() == "kept"
        assert not (folder / name).is_symlink()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\n1\n", b"a,b\n1\n", b"a\n1,2,3\n", b'"', b"a\n" + b"1" * 200_000 + b"\n", b"a\nx\n"]
)
def test_damaged_curves_leave_the_results(folder, content):
    (folder / "progress.csv").write_bytes(content)
    assert write_report(folder).exists()


def test_the_command_takes_one_folder():
    with pytest.raises(ConfigError, match="takes one run folder"):
        run([])


def test_figures_are_short():
    assert [percent(None), percent(float("nan")), percent(0.12345)] == ["none", "none", "12.3%"]
    assert [number(None), number(float("nan")), number(12345), number(0.012345)] == ["none", "none", "12,345", "0.0123"]
