"""`duologue train agent=dpo`: preference pairs as `duologue pairs` writes them are what TRL and datasets read."""

import json

import pytest

from duologue.agents.lora import load_writer, train
from duologue.core.errors import ConfigError
from duologue.evaluation.exchange.pairs import PairOptions, pairs_of_candidates, write_pairs


@pytest.fixture
def pairs(tmp_path):
    """A file of eight pairs: "red red" is preferred to "blue dark"."""
    candidates = [
        {"reply": "red red", "score": 1.0},
        {"reply": "blue dark", "score": 0.0},
        {"reply": "old", "score": None},
    ]
    records = [
        {"scenario": f"s{i}", "messages": [{"role": "user", "content": word}], "candidates": candidates}
        for i, word in enumerate(["old", "new", "round", "flat"] * 2)
    ]
    path = tmp_path / "pairs.jsonl"
    write_pairs(pairs_of_candidates(records, PairOptions()), path)
    return path


def test_datasets_reads_the_pairs(pairs, tmp_path):
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    data = load_dataset("json", data_files=str(pairs), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(data) == 8
    assert data[0]["chosen"] == [{"role": "assistant", "content": "red red"}]
    assert (data[0]["score_chosen"], data[0]["score_rejected"]) == (1.0, 0.0)


def test_the_model_learns_to_prefer_what_was_chosen(configured_for, pairs, tmp_path):
    summary = train(configured_for("dpo", f"agent.pairs={pairs}", "agent.max_steps=8"), tmp_path / "run")
    assert summary["loss_last"] < 0.7 * summary["loss_first"]
    assert summary["steps"] == 8
    assert "reward_first" not in summary
    writer, record = load_writer(tmp_path / "run", decoding={"max_completion_length": 4})
    assert record["agent"] == "dpo"
    said = " ".join(turn.text for turn in writer.write([[{"role": "user", "content": "old"}]] * 8, range(8)))
    assert said.split().count("red") > said.split().count("blue") + said.split().count("dark")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"prompt": "Why?"}, "line 1: `prompt` must be a list of messages with `role` and `content`, not 'Why\\?'"),
        ({"prompt": [{"role": "user", "content": "Why?"}], "chosen": []}, r"`chosen` must be a list of messages"),
    ],
)
def test_what_is_no_pair_is_refused(configured_for, tmp_path, line, said):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigError, match=said):
        train(configured_for("dpo", f"agent.pairs={path}"), tmp_path / "run")


def test_pairs_are_needed(configured_for, tmp_path):
    with pytest.raises(ConfigError, match="`agent.pairs` is empty: give a file of preference pairs"):
        train(configured_for("dpo"), tmp_path / "run")
