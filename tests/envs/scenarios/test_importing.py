"""Other people's data as scenarios: small files in each format, in our own words, read as the real ones are."""

import asyncio
import json

import pytest

from duologue.cli import main
from duologue.commands.exchange import run_import
from duologue.envs import load_scenarios
from duologue.envs.games import make_game
from duologue.envs.games.bargain import BargainJudge, prices
from duologue.envs.games.tutoring import TutoringJudge
from duologue.envs.scenarios import DataOptions, Shares, import_scenarios
from duologue.envs.scenarios.scenario import SPLITS, read_scenarios, write_scenarios
from duologue.inference import ConfigError
from duologue.plugins import Turn

CHAT = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Which river runs through Vienna?"},
        {"role": "assistant", "content": "The Danube."},
        {"role": "user", "content": [{"type": "text", "text": "And through "}, {"type": "text", "text": "Prague?"}]},
        {"role": "assistant", "content": "The Vltava."},
    ]
}
ULTRACHAT = {"id": "7", "data": ["How do I keep basil alive?", "Water it from below.", "How often?"]}
EXERCISE = {
    "past_convo": ["Please say it in Italian.", "Is it sopra il?", "Nearly: on is su.", "sul verde tetto"],
    "prep": "e sul",
    "engPrep": "is on the",
    "obj": "tetto",
    "engObj": "roof",
    "color": "verde",
    "engColor": "green",
    "tutorResponses": ["Where does the colour go?", "Colours follow what they describe."],
    "tutorActions": [[True, False, False, False, False], [False, True, False, False, False]],
}
LISTING = {"title": "Oak desk", "price": 120, "category": "furniture", "description": ["Solid.", "One scratch."]}


def bargain(target, uuid="s1"):
    item = {"Title": "Oak desk", "Price": 120, "Category": "furniture", "Description": ["Solid."], "Images": []}
    sides = [("buyer", target), ("seller", 120)]
    kbs = [{"personal": {"Role": role, "Target": value, "Bottomline": None}, "item": item} for role, value in sides]
    return {"uuid": uuid, "category": "furniture", "post_id": "1", "kbs": kbs}


def lines(path, *records):
    path.write_text("".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records))
    return path


def read(kind, path, **options):
    return import_scenarios(kind, [path], DataOptions(**options))[0]


def test_a_dialogue_has_its_users_turns_and_its_last_answer(tmp_path):
    first, second = read("messages", lines(tmp_path / "chats.jsonl", CHAT, ULTRACHAT))
    assert first.user == ("Which river runs through Vienna?", "And through Prague?")
    assert (first.system, first.reference) == ("Be brief.", "The Vltava.")
    assert second.user == ("How do I keep basil alive?", "How often?")
    assert (second.system, second.reference) == (None, None)


def test_turns_of_one_speaker_are_one_turn(tmp_path):
    said = [("user", "Hello."), ("user", "Are you there?"), ("assistant", "Yes."), ("assistant", "What is it?")]
    record = {"messages": [{"role": role, "content": text} for role, text in said]}
    (scenario,) = read("messages", lines(tmp_path / "chats.jsonl", record))
    assert scenario.user == ("Hello.\n\nAre you there?",)
    assert scenario.reference == "Yes.\n\nWhat is it?"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{not json", "line 2"),
        ("[1]", "expected an object, not list"),
        ({"text": "Hello."}, "expected `messages`"),
        ({"messages": [{"role": "tool", "content": "4"}]}, "message 0: expected the role system"),
        ({"messages": [{"role": "user", "content": ""}]}, "message 0: expected a text that is not empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "message 0: expected a text"),
        ({"messages": [{"role": "assistant", "content": "Hi.", "tool_calls": [{}]}]}, "without tools"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "no message of the role `user`"),
        ({"data": ["Hello.", 3]}, "message 1: expected a text"),
    ],
)
def test_a_bad_record_is_named_or_left_out(tmp_path, record, said):
    path = lines(tmp_path / "chats.jsonl", CHAT, record)
    with pytest.raises(ConfigError) as caught:
        read("messages", path)
    assert str(caught.value).startswith(f"{path} line 2: ")
    assert said in str(caught.value)
    found, left_out, wrong = import_scenarios("messages", [path], DataOptions(skip=True))
    assert (len(found), left_out, len(wrong)) == (1, {"cannot be used": 1}, 1)


def test_an_exercise_is_a_scenario_for_a_tutor(tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"prepDataset": {"0": EXERCISE}, "shapeDataset": {}}))
    (scenario,) = read("cima", path)
    assert scenario.user == ("sul verde tetto",)
    assert '"is on the green roof"' in scenario.system
    assert scenario.system.endswith("Student: Is it sopra il?\nTutor: Nearly: on is su.")
    assert scenario.hidden["answer"] == "e sul tetto verde"
    assert scenario.hidden["facts"] == ["is on the = e sul", "roof = tetto", "green = verde"]
    assert scenario.hidden["missing"] == 0
    assert (scenario.reference, scenario.hidden["replies"]) == (
        "Where does the colour go?",
        EXERCISE["tutorResponses"],
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"past_convo": ["Please say it."]}, "must end with the student"),
        ({"past_convo": []}, "`past_convo` must be a list of texts"),
        ({"tutorResponses": None}, "`tutorResponses` must be a list of texts"),
        ({"color": ""}, "`color` must be a text"),
    ],
)
def test_a_bad_exercise_is_named_by_its_key(tmp_path, change, said):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"prepDataset": {"0": EXERCISE, "17": EXERCISE | change}}))
    with pytest.raises(ConfigError) as caught:
        read("cima", path)
    assert str(caught.value).startswith(f"{path} prepDataset/17: ")
    assert said in str(caught.value)


def test_another_json_is_no_cima(tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="must have `prepDataset` or `shapeDataset`"):
        read("cima", path)


def test_the_three_files_of_bargains_are_read(tmp_path):
    path = tmp_path / "data.json"
    dialogue = {"scenario": bargain(60), "scenario_uuid": "s1", "events": [], "outcome": {"reward": 1}}
    for record, lowest in [(LISTING, 84), (bargain(96), 96), (dialogue, 60)]:
        path.write_text(json.dumps([record]))
        (scenario,) = read("craigslist", path)
        assert scenario.hidden == {"value": 120, "reserve": lowest, "asked": 120, "mood": "calm"}
        assert scenario.tags == ("bargain", "furniture")
        assert prices(scenario.user[0]) == [120]
        assert scenario.system.startswith("You are buying this for yourself: Oak desk. Solid.")
        assert str(lowest) not in scenario.system
        assert str(lowest) in scenario.goal


def played(game, scenario, moves):
    """A dialogue of an imported scenario by a game's rules: the policy's moves, and a model that follows them."""
    rules = make_game(game)
    messages = [{"role": "system", "content": scenario.system}, {"role": "user", "content": scenario.user[0]}]
    for move in moves:
        reply = rules.answer(messages, move)
        turn = Turn(messages=tuple(messages), reply=reply, hidden=scenario.hidden)
        messages.append({"role": "assistant", "content": reply})
        said = rules.reply(scenario.hidden, messages)
        if said is None:
            break
        messages.append({"role": "user", "content": said})
    return turn


def test_a_bargain_is_played_by_the_games_rules(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([bargain(84)]))
    (scenario,) = read("craigslist", path)
    (verdict,) = asyncio.run(BargainJudge().score([played("bargain", scenario, [2, 4, 5])]))
    assert 0 < verdict.value <= 1


def test_an_exercise_is_played_by_the_games_rules(tmp_path):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"prepDataset": {"0": EXERCISE}}))
    (scenario,) = read("cima", path)
    taught, told = (played("tutoring", scenario, moves) for moves in ([2, 1], [6, 1]))
    (good, poor) = asyncio.run(TutoringJudge().score([taught, told]))
    assert good.value > poor.value > 0


def test_bargains_about_one_listing_are_in_one_split_and_played_once(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([bargain(60), bargain(84), bargain(108), bargain(60, uuid="s2")]))
    found, left_out, _ = import_scenarios("craigslist", [path], DataOptions())
    assert len(found) == 3
    assert left_out == {"twice": 1}
    assert len({scenario.split for scenario in found}) == 1


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"title": "Desk"}, "expected a listing"),
        ({**LISTING, "price": "cheap"}, "`price` must be a number"),
        ({**LISTING, "price": 0}, "a `price` above 0"),
        ({"kbs": []}, "`kbs` must hold a side"),
        (bargain(120), "nothing can be won"),
        ({"scenario": None}, "`scenario` must be an object, not None"),
        ({"scenario": {"kbs": ["x"]}}, "a side in `kbs` must be an object with `personal`"),
        ({"kbs": [{"personal": None}]}, "a side in `kbs` must be an object with `personal`"),
        ({**LISTING, "description": 3}, "`description` must be a text or a list of texts, not 3"),
        ({**LISTING, "price": {"a": 1}}, "`price` must be a number"),
    ],
)
def test_a_bad_bargain_is_named_by_its_number(tmp_path, record, said):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([LISTING, record]))
    with pytest.raises(ConfigError) as caught:
        read("craigslist", path)
    assert str(caught.value).startswith(f"{path} record 2: ")
    assert said in str(caught.value)


def test_bad_bargains_of_any_shape_are_left_out_where_that_is_wanted(tmp_path):
    path = tmp_path / "data.json"
    bad = [
        {"scenario": 3},
        {"kbs": [None]},
        {"kbs": {}},
        {"kbs": [{"personal": []}]},
        {**LISTING, "description": {}},
        {},
        3,
    ]
    path.write_text(json.dumps([LISTING, *bad]))
    found, left_out, _ = import_scenarios("craigslist", [path], DataOptions(skip=True))
    assert len(found) == 1
    assert left_out == {"cannot be used": len(bad)}


def test_columns_are_found_by_usual_names_or_by_yours(tmp_path):
    usual = lines(tmp_path / "usual.jsonl", {"question": "Two and two?", "answer": "Four.", "category": "sums"})
    (scenario,) = read("columns", usual)
    assert (scenario.user, scenario.reference, scenario.tags) == (("Two and two?",), "Four.", ("sums",))
    own = lines(tmp_path / "own.jsonl", {"turns": ["Hello.", "Well?"], "gold": None, "answer": "x", "who": "Be kind."})
    (scenario,) = read("columns", own, user="turns", reference="gold", system="who")
    assert (scenario.user, scenario.reference, scenario.system) == (("Hello.", "Well?"), None, "Be kind.")
    with pytest.raises(ConfigError, match="`user=COLUMN` must say where the question is: .* `turns`, `gold`"):
        read("columns", own)
    with pytest.raises(ConfigError, match=r"no column `trun`: known: `turns`"):
        read("columns", own, user="trun")
    with pytest.raises(ConfigError, match="only `duologue import columns` reads columns"):
        read("messages", own, user="turns")


def questions(count):
    return [{"prompt": f"What is {number} times seven?", "answer": f"{number * 7}."} for number in range(count)]


def test_splits_follow_from_the_content_alone(tmp_path):
    records = questions(400)
    before = {s.user: (s.id, s.split) for s in read("columns", lines(tmp_path / "a.jsonl", *records))}
    after = {s.user: (s.id, s.split) for s in read("columns", lines(tmp_path / "b.jsonl", *records[::-2]))}
    assert after.items() <= before.items()
    shares = [sum(split == name for _, split in before.values()) / 400 for name in SPLITS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.05)
    changed = read("columns", tmp_path / "a.jsonl", validation=0.0, test=0.5)
    assert {s.split for s in changed} == {"train", "test"}
    assert {s.split for s in read("columns", tmp_path / "a.jsonl", split="validation", limit=9)} == {"validation"}


def test_dialogues_that_begin_alike_are_in_one_split(tmp_path):
    chats = [
        {"data": [question["prompt"], "I see.", f"{end}?"]} for question in questions(40) for end in ("Why", "How")
    ]
    found = read("messages", lines(tmp_path / "chats.jsonl", *chats), validation=0.3, test=0.3)
    assert len(found) == 80
    assert len({(scenario.user[0], scenario.split) for scenario in found}) == 40


@pytest.mark.parametrize("shares", [{"validation": 0.6, "test": 0.6}, {"test": -0.1}])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ConfigError, match="must be shares"):
        Shares(**shares)


def test_parquet_and_datasets_saved_on_disk_are_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = questions(30)
    parts = {"train": rows[:20], "test": rows[18:]}
    datasets.DatasetDict({name: datasets.Dataset.from_list(part) for name, part in parts.items()}).save_to_disk(
        tmp_path / "both"
    )
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    found, left_out, _ = import_scenarios("columns", [tmp_path / "both"], DataOptions())
    assert [sum(s.split == name for s in found) for name in SPLITS] == [18, 0, 12]
    assert left_out == {"in another split": 2}
    divided = read("columns", tmp_path / "rows.parquet")
    assert {s.id for s in found} == {s.id for s in divided}
    assert {s.id for s in read("columns", tmp_path / "both" / "test")} < {s.id for s in divided}


def test_a_datasets_split_of_another_name_is_refused(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict({"train_sft": datasets.Dataset.from_list(questions(2))}).save_to_disk(tmp_path / "other")
    with pytest.raises(ConfigError, match="has a split `train_sft`, which is none of train, validation, test"):
        read("columns", tmp_path / "other")
    assert len(read("columns", tmp_path / "other" / "train_sft")) == 2
    assert {s.split for s in read("columns", tmp_path / "other", split="test")} == {"test"}


@pytest.mark.parametrize("name", ["scenarios.jsonl", "own/scenarios.parquet"])
def test_what_is_written_is_what_a_run_reads(tmp_path, name):
    pytest.importorskip("pyarrow")
    data = tmp_path / "data.json"
    data.write_text(json.dumps([bargain(60), LISTING]))
    expected = read("craigslist", data)
    run_import(["craigslist", str(data), f"to={tmp_path / name}", "split=test"])
    assert load_scenarios(tmp_path / name, "test") == read("craigslist", data, split="test")
    write_scenarios(expected, tmp_path / name)
    assert read_scenarios(tmp_path / name) == expected


def test_the_command_says_what_became_of_the_records(tmp_path, capsys):
    path = lines(tmp_path / "chats.jsonl", CHAT, CHAT, ULTRACHAT, {"messages": 3})
    run_import(["messages", str(path), f"to={tmp_path / 'out.jsonl'}", "skip=true", "validation=0", "test=0"])
    said = capsys.readouterr().out
    assert "2 scenarios written to" in said
    assert "2 train, 0 validation, 0 test; 1 left out: twice; 1 left out: cannot be used" in said
    assert "line 4: expected `messages`" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mesages", "x", "to=y.jsonl"], "there is no format `mesages`: did you mean `messages`?"),
        (["messages", "to=y.jsonl"], "needs a file to read"),
        (["messages", "chats.jsonl"], "needs `to=` with a name that ends in .jsonl or .parquet"),
        (["messages", "chats.jsonl", "to=folder"], "needs `to=` with a name that ends in .jsonl or .parquet"),
        (["messages", "chats.jsonl", "to=y.jsonl"], "chats.jsonl cannot be read: No such file"),
        (["messages", "chats.csv", "to=y.jsonl"], "expected .jsonl, .json, .parquet, or a folder"),
        (["messages", "x.jsonl", "to=y.jsonl", "split=tets"], "there is no split `tets`: did you mean `test`?"),
        (["messages", "x.jsonl", "to=y.jsonl", "limt=3"], "did you mean `limit`?"),
        (["messages", "x.jsonl", "to=y.jsonl", "limit=0"], "`limit` must be at least 1, not 0"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["import", *arguments])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_empty_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"empty\.jsonl: no record can be used"):
        read("messages", lines(tmp_path / "empty.jsonl"))
