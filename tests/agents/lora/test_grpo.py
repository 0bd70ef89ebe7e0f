"""`duologue train agent=grpo`: the judges' rewards reach TRL, failures do not, and the model learns what they reward."""

import csv
import json

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from duologue.agents.lora import load_local_model, load_writer, train
from duologue.agents.lora.local_model import quiet
from duologue.agents.lora.rollouts import Judges, Playing, Rollout, between_turns
from duologue.agents.lora.writer import Decoding, LocalWriter
from duologue.commands.evaluate import train_and_evaluate
from duologue.commands.plan import plan
from duologue.commands.train import train as command
from duologue.core.errors import ConfigError, Interrupted, TooManyFailures
from duologue.envs.scenarios.scenario import Scenario
from duologue.tests.agents.lora import judges_of_words

COMPARED = ("steps", "timesteps", "reward_first", "reward_last", "loss_last", "failures")
ASKED = [{"role": "user", "content": "red"}]


def judged(make_task, judge, **parts):
    """A task of text, with one of `judges_of_words`."""
    function = f"duologue.tests.agents.lora.judges_of_words:{judge}"
    return make_task(interface="text", judges={judge: {"name": "python", "function": function}}, **parts)


@pytest.fixture(scope="module")
def writer(tiny):
    return LocalWriter(load_local_model(tiny), Decoding(max_completion_length=6))


@pytest.fixture(scope="module")
def learnt(configured_for, tmp_path_factory):
    """A training of 12 steps: its folder and its summary."""
    folder = tmp_path_factory.mktemp("grpo") / "run"
    return folder, command(configured_for("grpo", "agent.max_steps=12"), folder)


def test_the_model_learns_what_the_judge_rewards(learnt):
    folder, summary = learnt
    assert summary["reward_last"] > summary["reward_first"] + 0.2
    assert (summary["steps"], summary["timesteps"], summary["failures"]) == (12, 12 * 16, {})
    rows = list(csv.DictReader((folder / "progress.csv").read_text().splitlines()))
    assert len(rows) == 12
    assert float(rows[-1]["rollout/ep_rew_mean"]) == pytest.approx(float(rows[-1]["train/reward"]), abs=1e-5)
    assert json.loads((folder / "summary.json").read_text())["status"] == "done"


def test_the_adapter_is_in_pefts_format_and_says_what_it_is(learnt, tiny):
    folder, _ = learnt
    names = {path.name for path in (folder / "adapter").iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json", "writer.json", "README.md"}
    with safe_open(folder / "adapter" / "adapter_model.safetensors", "pt") as file:
        assert all("lora_" in name for name in file.keys())  # noqa: SIM118  (no mapping)
    assert json.loads((folder / "adapter" / "adapter_config.json").read_text())["r"] == 16
    record = json.loads((folder / "adapter" / "writer.json").read_text())
    assert (record["model"], record["agent"], record["judges"], record["steps"]) == (tiny, "grpo", ["red"], 12)
    assert "library_name: peft" in (folder / "adapter" / "README.md").read_text()


def test_what_was_learnt_is_written_when_it_is_loaded_again(learnt, tiny):
    tuned, _ = load_writer(learnt[0])
    plain, _ = load_writer(None, tiny, decoding={"max_completion_length": 6})
    said = [writer.write([ASKED] * 8, range(8)) for writer in (tuned, plain)]
    shares = [sum(turn.text.split().count("red") for turn in turns) for turns in said]
    assert shares[0] > 3 * shares[1] + 3


@pytest.mark.parametrize(("turns", "before", "steps"), [(1, 0, 3), (3, -66, 3)])
def test_a_run_that_was_ended_goes_on_and_ends_with_the_same_adapter(
    configured_for, tmp_path, capfd, turns, before, steps
):
    config = configured_for("grpo", "agent.max_steps=5", "agent.save_steps=50", judge="interrupting", turns=turns)
    config["judges"]["interrupting"]["normalise"] = turns == 3
    judges_of_words.judged = 40
    whole = train(config, tmp_path / "whole")
    judges_of_words.judged = before
    with pytest.raises(Interrupted):
        train(config, tmp_path / "ended")
    parted = json.loads((tmp_path / "ended" / "summary.json").read_text())
    assert (parted["status"], parted["steps"]) == ("interrupted", steps)
    rest = train(config, tmp_path / "ended")
    assert {name: whole[name] for name in COMPARED} == {name: rest[name] for name in COMPARED}
    weights = [load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("whole", "ended")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    rows = [(tmp_path / name / "progress.csv").read_text().count("\n") for name in ("whole", "ended")]
    assert rows == [6, 6]


def test_a_sample_depends_on_its_dialogue_and_key_and_not_on_its_neighbours(writer):
    long = [{"role": "user", "content": "old new round flat"}]
    together = writer.write([ASKED, long, ASKED], [0, 0, 1])
    assert [writer.write([ASKED], [0])[0], writer.write([long], [0])[0], writer.write([ASKED], [1])[0]] == together
    assert together[0].text != together[2].text
    assert writer.write([ASKED], [0])[0] == together[0]


def test_without_temperature_the_likeliest_tokens_come(tiny):
    greedy = LocalWriter(load_local_model(tiny), Decoding(temperature=0.0, max_completion_length=6))
    assert len({turn.text for turn in greedy.write([ASKED] * 3, range(3))}) == 1


def test_a_failure_is_no_number(writer, make_task):
    """TRL leaves None out of the group's mean and gives it no advantage."""
    heard = []
    one = Scenario("a", "train", ("red",))
    playing = Playing(judged(make_task, "only_long", scenarios=[one]), max_failure_fraction=1.0)
    judges = Judges(playing, writer, 1.0, heard.extend)
    ids = [writer.local.tokenizer.encode(text) for text in ("red blue", "red blue green old new", "dark")]
    assert judges(scenario=["a"] * 3, completion_ids=ids, prompts=[], completions=[]) == [None, 5.0, None]
    assert playing.failures == {"only_long": 2}
    assert [play.failure is None for play in heard] == [False, True, False]


def test_too_many_failures_end_the_run(configured_for, tmp_path):
    with pytest.raises(TooManyFailures, match=r"100% of the last 10 dialogues failed.*no verdict"):
        train(configured_for("grpo", judge="never"), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "stopped"


def test_in_dialogues_only_the_models_own_tokens_are_learnt(writer, make_task):
    three = Scenario("c", "train", ("red", "dark", "old"))
    playing = Playing(judged(make_task, "turns", scenarios=[three]))
    trainer = type("Trainer", (), {"model_wrapped": writer.local.model, "accelerator": _Accelerator()})()
    rollout = Rollout(playing, writer, 0.5, 0, lambda plays: None)
    with quiet():
        out = rollout([[{"role": "user", "content": "red", "scenario": "c"}]] * 3, trainer)
    assert out["worth"] == [1 + 0.5 * 2 + 0.25 * 3] * 3
    for ids, mask in zip(out["completion_ids"], out["env_mask"], strict=True):
        assert len(ids) == len(mask)
        said = writer.local.tokenizer.decode([token for token, own in zip(ids, mask, strict=True) if not own])
        words = said.replace("<|end|>", "").split()
        assert words == [
            "<|begin|>",
            "user",
            "dark",
            "<|begin|>",
            "assistant",
            "<|begin|>",
            "user",
            "old",
            "<|begin|>",
            "assistant",
        ]
    texts = {tuple(ids) for ids in out["completion_ids"]}
    assert len(texts) == 3  # equal prompts get different samples


class _Accelerator:
    """What TRL's context for generation asks of one."""

    class state:  # noqa: N801
        deepspeed_plugin = None
        fsdp_plugin = None

    def unwrap_model(self, model, **rest):
        return model


def test_dialogues_are_trained_too(configured_for, tmp_path):
    summary = train(configured_for("grpo", "agent.max_steps=8", turns=3), tmp_path / "run")
    assert summary["timesteps"] == 8 * 16 * 3
    assert summary["failures"] == {}
    assert summary["reward_last"] > summary["reward_first"] + 0.5  # of 3 at most


def test_what_stands_between_two_turns(writer):
    ids = between_turns(writer, {"role": "user", "content": "red dark"})
    assert writer.local.tokenizer.decode(ids) == "<|end|> <|begin|> user red dark <|end|> <|begin|> assistant"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["+agent.learning_rat=1"],
            "`agent.learning_rat` is not a setting of TRL's GRPO: did you mean `learning_rate`?",
        ),
        (["agent.num_generations=5"], "`agent` was refused: .*num_generations"),
        (["+agent.output_dir=x"], "`agent.output_dir` is decided by the run itself"),
        (["agent.temperature=-1"], "`temperature` must be at least 0"),
        (["agent.lora.r=0"], "`agent.* was refused"),
        (["+agent.lora.rank=4"], r"`agent.lora.rank` is not a setting here"),
        (
            ["agent.model=nowhere/at-all"],
            "the local model `nowhere/at-all` cannot be loaded: give `embedded://smollm2`",
        ),
        (["agent.adapter=nowhere"], "nowhere is no adapter in PEFT's format"),
        (["validation.every=10"], "`validation.every` looks at policies: leave it out"),
        (["interface=strategy"], "`interface=strategy`: with `agent=grpo` a local model writes the turn itself"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said(configured_for, tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        train(configured_for("grpo", *overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("agent", ["grpo", "dpo"])
def test_commands_for_policies_say_how_a_writer_is_trained(configured_for, tmp_path, agent):
    config = configured_for(agent)
    for run in (train_and_evaluate, plan):
        with pytest.raises(ConfigError, match=f"train it by `duologue train agent={agent}`"):
            run(config, tmp_path / "run")
