"""Two endpoints, or files of answers, and a file of prompts: nothing else of the project is needed."""

import json

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.commands.compare import Settings, compare
from duologue.core.errors import ConfigError, DuologueError
from duologue.evaluation.exchange.answer_files import load_prompts
from duologue.plugins import plugins
from duologue.plugins.publish import publish


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(f"Question {i}?" for i in range(6)) + "\n\n")
    return path


@pytest.fixture
def configure(server, tmp_path):
    def make(prompts, *overrides, endpoints=("small", "big")):
        publish(plugins())
        own = [f"prompts={prompts}", "inference.assistant.max_retries=0", f"inference.assistant.base_url={server.url}"]
        own.append(f"inference.cassette.path={tmp_path / 'c.sqlite'}")
        for name in endpoints:
            own += [f"+contestants.{name}.base_url={server.url}", f"+contestants.{name}.model={name}"]
        with initialize_config_module("duologue.conf", version_base="1.3"):
            config = compose("compare", [*own, *overrides])
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)

    return make


def answer(body):
    """The bigger the model's name, the more it says."""
    if "[Reply A]" in body["messages"][0]["content"]:
        asked = body["messages"][0]["content"]
        return "Because.\nVerdict: A" if asked.index("big says") < asked.index("[Reply B]") else "Because.\nVerdict: B"
    return f"{body['model']} says {body.get('seed', 0)} to {body['messages'][-1]['content']}"


def played(config, folder):
    compare(config, folder)
    lines = [json.loads(line) for line in (folder / "matches.jsonl").read_text().splitlines()]
    return json.loads((folder / "summary.json").read_text()), lines


def test_two_endpoints_and_a_file_of_prompts(server, configure, prompts, tmp_path, capsys):
    server.answer = answer
    summary, lines = played(configure(prompts, "judge=pairwise", "judge.logprobs=never"), tmp_path / "run")
    (row,) = summary["results"]
    assert (row["contestant"], row["baseline"], row["win_rate"], row["wins"]) == ("big", "small", 1.0, 6)
    assert len(server.requests) == 6 * (2 + 2)  # two answers, two orders
    assert lines[0]["rationales"] == ["Because.\nVerdict: A", "Because.\nVerdict: B"]
    out = " ".join(capsys.readouterr().out.split())
    assert "big is better than small: win rate 100.0%" in out
    assert out.endswith("report.html")
    assert "Because." in (tmp_path / "run" / "report.html").read_text()


def test_replies_with_odd_characters_end_in_a_report(server, configure, tmp_path):
    """Characters that end a line for other readers of texts."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "One\u2028two?"}, ensure_ascii=False) + "\n", encoding="utf-8")
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({"id": "1", "reply": "A\u2029B\u0085C"}, ensure_ascii=False), encoding="utf-8")
    server.answer = lambda body: "Odd \u2028 reply."
    config = configure(path, "judge=length", f"+contestants.kept.answers={answers}", endpoints=("small",))
    _, lines = played(config, tmp_path / "run")
    assert {lines[0]["reply"], lines[0]["baseline_reply"]} == {"A\u2029B\u0085C", "Odd \u2028 reply."}
    assert (tmp_path / "run" / "report.html").exists()


def test_what_was_asked_is_reused_and_judging_again_asks_no_model(server, configure, prompts, tmp_path):
    server.answer = answer
    played(configure(prompts, "judge=length"), tmp_path / "one")
    assert len(server.requests) == 12
    played(configure(prompts, "judge=pairwise", "judge.logprobs=never"), tmp_path / "two")
    assert len(server.requests) == 24  # only the verdicts
    played(configure(prompts, "judge=pairwise", "judge.logprobs=never"), tmp_path / "two")
    assert len(server.requests) == 24


def test_everybody_against_everybody_is_rated(server, configure, prompts, tmp_path):
    server.answer = lambda body: (
        "word " * (len(body["model"]) + sum(map(ord, body["messages"][-1]["content"])) % 5) + "."
    )
    config = configure(prompts, "judge=length", "judge.low=30", "against=all", endpoints=("a", "bb", "ccc"))
    summary, lines = played(config, tmp_path / "run")
    pairs = {(row["contestant"], row["baseline"]) for row in summary["results"]}
    assert pairs == {("bb", "a"), ("ccc", "a"), ("ccc", "bb")}
    assert len(server.requests) == 18  # every answer once, however many it meets
    assert len(lines) == 18
    text = (tmp_path / "run" / "report.html").read_text()
    assert text.count("Win rate against") == 2
    assert "# Win rate against bb" in (tmp_path / "run" / "report.md").read_text()


def test_answers_in_files(server, configure, prompts, tmp_path):
    mine, theirs = tmp_path / "mine.jsonl", tmp_path / "model_outputs.json"
    mine.write_text(
        "\n".join(
            json.dumps({"prompt": f"Question {i}?", "reply": "<think>Hm.</think>A longer answer it is."})
            for i in range(6)
        )
    )
    theirs.write_text(
        json.dumps([{"instruction": f"Question {i}?", "output": "Short.", "generator": "x"} for i in range(6)])
    )
    overrides = [f"+contestants.theirs.answers={theirs}", f"+contestants.mine.answers={mine}", "judge=length"]
    summary, lines = played(configure(prompts, *overrides, endpoints=()), tmp_path / "run")
    (row,) = summary["results"]
    assert (row["contestant"], row["baseline"], row["win_rate"]) == ("mine", "theirs", 1.0)
    assert {line["reply"] for line in lines} == {"A longer answer it is."}  # thoughts are not judged
    assert not server.requests


def test_a_model_is_never_compared_with_its_own_answers(server, configure, prompts, tmp_path):
    server.answer = answer
    twice = [f"+contestants.again.base_url={server.url}", "+contestants.again.model=big"]
    seeds = ["+contestants.again.sampling.seed=0", "+contestants.big.sampling.seed=0"]
    _, lines = played(configure(prompts, *twice, *seeds, "judge=length", endpoints=("big",)), tmp_path / "run")
    assert all(line["reply"] != line["baseline_reply"] for line in lines)


def test_too_many_failures_are_an_error(server, configure, prompts, tmp_path):
    server.answer = lambda body: (500, {}) if body["model"] == "big" else "Fine."
    with pytest.raises(DuologueError, match="6 of 6 matches have no result"):
        compare(configure(prompts, "judge=length", "+contestants.big.max_retries=0"), tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["judge=chrf"], "none of the 6 scenarios has one: add `reference` to them, or choose"),
        (["judge=length", "against=[smal]"], "there is no contestant `smal`: did you mean `small`"),
        (["judge=length", "repeats=0"], "`repeats` must be at least 1"),
        (["judge=length", "+contestants.x.answers=/nowhere.jsonl"], "the answers /nowhere.jsonl cannot be read"),
        (["judge=length", "+contestants.x.model=y"], "`contestants.x.base_url` is missing"),
        (["judge=length", "+contestants.x=3"], "`contestants.x` must hold `base_url` and `model`, or one of"),
        (["~judge"], "`judge` is empty"),
    ],
)
def test_mistakes_are_named_before_anything_is_asked(server, configure, prompts, tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        compare(configure(prompts, *overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not server.requests


def test_one_contestant_is_not_enough(configure, prompts, tmp_path):
    with pytest.raises(ConfigError, match="`contestants` must name at least two, not 1"):
        compare(configure(prompts, "judge=length", endpoints=("big",)), tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"prompt": "Question 0?", "reply": "x"}', "holds no answer to `2`: 'Question 1\\?'"),
        ('{"prompt": "Question 0?"}', "line 1 must have `id` or `prompt`, and `reply`"),
        ("{", "line 1 is no JSON"),
        ("[{", "is no JSON"),
        ("", "holds nothing"),
    ],
)
def test_a_file_of_answers_that_does_not_do_is_refused(configure, prompts, tmp_path, content, said):
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        compare(configure(prompts, "judge=length", f"+contestants.mine.answers={path}"), tmp_path / "run")


def test_who_meets_whom():
    names = dict.fromkeys("abc")
    assert Settings("p", contestants=names).pairings == [(["b", "c"], "a")]
    assert Settings("p", contestants=names, against="b").pairings == [(["a", "c"], "b")]
    assert Settings("p", contestants=names, against=["a", "b"]).pairings == [(["b", "c"], "a"), (["c"], "b")]
    assert Settings("p", contestants=names, against="all").pairings == [(["b", "c"], "a"), (["c"], "b")]


def test_prompts_of_all_kinds(tmp_path, prompts):
    assert [scenario.user[0] for scenario in load_prompts(str(prompts), limit=2)] == ["Question 0?", "Question 1?"]
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "Why?", "id": 7, "system": "Be brief.", "reference": "So."}\n{"prompt": "How?"}\n')
    one, two = load_prompts(str(path))
    assert (one.id, one.user, one.system, one.reference) == ("7", ("Why?",), "Be brief.", "So.")
    assert two.id == "2"
    assert load_prompts("assistant", "test", 3)[0].split == "test"
    path.write_text('{"id": "a", "split": "test", "user": ["Why?", "And?"]}\n')
    assert load_prompts(str(path))[0].user == ("Why?", "And?")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds nothing"),
        ("{", "line 1 is no JSON"),
        ("[1]", "must hold a JSON object, not list"),
        ('{"prompt": ""}', "`prompt` is missing or empty"),
        ('{"prompt": 3}', "`prompt` must be a text, not 3"),
        ('{"prompt": "a", "promt": "b"}', "`promt` is no field of a prompt"),
        ('{"prompt": "a", "id": "x"}\n{"prompt": "b", "id": "x"}', "an `id` occurs more than once"),
    ],
)
def test_bad_prompts_are_named_with_file_and_line(tmp_path, content, said):
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        load_prompts(str(path))


@pytest.fixture
def bundle(configured, tmp_path):
    from duologue.commands.train import train

    train(configured("train"), tmp_path / "trained")
    return tmp_path / "trained"


def test_bundles_and_untrained_policies_stand_beside_models(server, configure, bundle, prompts, tmp_path):
    """The judge likes long replies: the oracle, which asks it, cannot lose to anybody who chooses from the same candidates."""
    select = "{name: select, n: 3}"
    overrides = [
        f"inference.assistant.base_url={server.url}",
        "inference.assistant.model=fake",
        f"+contestants.trained.bundle={bundle}",
        f"+contestants.random={{policy: random, interface: {select}}}",
        f"+contestants.third={{policy: constant, action: 2, interface: {select}}}",
        f"+contestants.oracle={{policy: oracle, interface: {select}}}",
        "judge=length",
        "judge.low=30",
        "system=Be brief.",
        "against=[oracle,plain]",
    ]
    summary, lines = played(configure(prompts, *overrides, endpoints=("plain",)), tmp_path / "run")
    rows = {(row["contestant"], row["baseline"]): row for row in summary["results"]}
    assert {name for name, base in rows if base == "oracle"} == {"plain", "trained", "random", "third"}
    assert all(row["wins"] == 0 for (name, base), row in rows.items() if base == "oracle" and name != "plain")
    told = {line["contestant"]: line["actions"] for line in lines}
    assert told["third"] == ["candidate 2"]
    assert told["trained"][0].startswith("candidate ")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{policy: greedy}", "`contestants.odd.policy`: there is no policy `greedy`"),
        ("{policy: random, answers: a.jsonl}", "has `answers` and `policy`"),
        ("{bundle: x, interface: select}", "`contestants.odd.interface` is the bundle's own"),
        ("{bundle: nowhere}", "is no bundle"),
        ("{action: 1}", "`contestants.odd.action` needs `bundle` or `policy`"),
        ("{policy: constant, action: 9}", "must be an action of Discrete"),
        ("{policy: oracle, interface: plain}", "the oracle needs candidates"),
    ],
)
def test_what_no_contestant_can_be(server, configure, prompts, tmp_path, settings, said):
    with pytest.raises(ConfigError, match=said):
        compare(
            configure(prompts, f"+contestants.odd={settings}", "judge=length", endpoints=("big",)), tmp_path / "run"
        )
    assert not server.requests


def test_an_oracle_needs_a_judge_of_single_replies(configure, prompts, tmp_path):
    with pytest.raises(ConfigError, match="the oracle needs candidates"):
        compare(
            configure(prompts, "+contestants.odd={policy: oracle}", "judge=pairwise", endpoints=("big",)),
            tmp_path / "run",
        )


def test_whole_dialogues_are_compared_as_they_went(server, configure, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"id": "a", "split": "test", "user": ["Hello.", "Go on."]}))
    server.answer = answer
    _, lines = played(configure(path, "judge=pairwise", "judge.logprobs=never"), tmp_path / "run")
    asked = [b["messages"][0]["content"] for b in server.requests if "[Reply A]" in b["messages"][0]["content"]]
    shared, _, rest = asked[0].partition("[Reply A]\n")
    assert "user: Hello.\n" in shared
    assert "says" not in shared
    first, _, second = rest.partition("[Reply B]\n")
    (mine, theirs) = (first, second) if first.startswith("assistant: big") else (second, first)
    assert mine.count("assistant: big says") == theirs.count("assistant: small says") == 2
    assert "user: Go on." in mine and "user: Go on." in theirs  # noqa: PT018
    assert lines[0]["outcome"] == "win"


def test_the_results_tell_of_the_judges_bias(server, configure, prompts, tmp_path):
    server.answer = lambda body: "Verdict: A" if "[Reply A]" in body["messages"][0]["content"] else body["model"]
    summary, _ = played(configure(prompts, "judge=pairwise", "judge.logprobs=never"), tmp_path / "run")
    (row,) = summary["results"]
    assert (row["win_rate"], row["consistency"], row["first_place"]) == (0.5, 0.0, 1.0)
    summary, _ = played(configure(prompts, "judge=length"), tmp_path / "other")
    assert summary["results"][0]["consistency"] is summary["results"][0]["first_place"] is None


def test_a_file_answers_every_turn_of_a_dialogue(configure, tmp_path):
    questions = tmp_path / "question.jsonl"
    questions.write_text(json.dumps({"question_id": 1, "category": "x", "turns": ["Hello?", "And then?"]}))
    for name, replies in (("long", ["one two", "one two three"]), ("short", ["one", "two"])):
        record = {"question_id": 1, "model_id": name, "choices": [{"index": 0, "turns": replies}]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(record))
    files = [f"+contestants.{name}.answers={tmp_path / name}.jsonl" for name in ("short", "long")]
    _, (line,) = played(configure(questions, *files, "judge=length", "judged=all", endpoints=()), tmp_path / "run")
    assert [m["content"] for m in line["messages"]] == ["Hello?", "one two", "And then?"]
    assert [m["content"] for m in line["baseline_messages"]] == ["Hello?", "one", "And then?"]
    assert (line["reply"], line["baseline_reply"], line["outcome"]) == ("one two three", "two", "win")
    (tmp_path / "short.jsonl").write_text(json.dumps({"id": 1, "reply": "one"}))
    with pytest.raises(ConfigError, match="holds 1 replies to `1`, which has 2 turns"):
        compare(configure(questions, *files, "judge=length", endpoints=()), tmp_path / "other")
