"""Reward models on this machine and behind servers."""

import math

import pytest

from duologue.inference import ConfigError
from duologue.plugins import Failure, Plugins, Score, Turn
from duologue.plugins.testing import check_judge

QUESTION = ({"role": "user", "content": "Why ?"},)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny real model with random weights, saved as trained ones are."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("reward")
    words = ["[PAD]", "[UNK]", "user", "assistant", ":", "Why", "?", "Because", "So", "."]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=2,
    )
    BertForSequenceClassification(config).save_pretrained(path)
    return str(path)


def build(context, **settings):
    return Plugins(discover=False).build({"name": "reward_model", **settings}, "judges.x", context)


def score(context, *replies, **settings):
    judge = build(context, **settings)
    return context.client.run(judge.score([Turn(QUESTION, reply) for reply in replies]))


def by_hand(folder, text, label):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        return AutoModelForSequenceClassification.from_pretrained(folder)(**inputs).logits[0, label].item()


def test_a_local_models_logit_is_the_score(context, folder):
    because, so = score(context, "Because.", "So.", model=folder)
    assert because.value == pytest.approx(by_hand(folder, "user : Why ?\nassistant : Because.", -1), abs=1e-5)
    assert so.value == pytest.approx(by_hand(folder, "user : Why ?\nassistant : So.", -1), abs=1e-5)
    assert because.value != so.value


def test_another_output_and_the_logistic_function(context, folder):
    (logit,) = score(context, "So.", model=folder, label=0)
    (squashed,) = score(context, "So.", model=folder, label=0, squash=True)
    assert squashed.value == pytest.approx(1 / (1 + math.exp(-logit.value)))
    assert squashed.components["logit"] == logit.value


def test_a_local_model_keeps_the_contract(context, folder):
    check_judge("reward_model", model=folder, context=context)


def test_a_chat_template_is_used_where_the_tokenizer_has_one(context, folder):
    judge = build(context, model=folder)
    judge._tokenizer.chat_template = "{% for m in messages %}{{ m.role }} . {{ m.content }} {% endfor %}"
    (verdict,) = context.client.run(judge.score([Turn(QUESTION, "So.")]))
    assert verdict.value == pytest.approx(by_hand(folder, "user . Why ? assistant . So. ", -1), abs=1e-5)


def test_the_beginning_of_a_long_dialogue_is_cut_off(context, folder):
    long = Turn(tuple({"role": "user", "content": "Why ? " * 50} for _ in range(3)), "So.")
    judge = build(context, model=folder, max_length=8)
    assert isinstance(context.client.run(judge.score([long]))[0], Score)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "/nowhere/at/all"}, "cannot be loaded"),
        ({"model": "m", "via": "score"}, "`base_url` is empty: it is the address of the server whose /score is asked"),
        ({"model": "m", "via": "guess"}, "via` must be one of transformers, score, rerank, classify"),
        ({"model": "m", "via": "score", "base_url": "host"}, "`base_url` must be like"),
    ],
)
def test_what_cannot_be_is_refused(context, settings, said):
    with pytest.raises(ConfigError, match=said):
        build(context, **settings)


def test_an_output_that_the_model_lacks_is_refused(context, folder):
    with pytest.raises(ConfigError, match="`label=2`, but .* has 2 outputs"):
        build(context, model=folder, label=2)


@pytest.mark.parametrize(
    ("via", "answer", "sent"),
    [
        ("score", {"data": [{"index": 0, "score": 0.25}]}, {"text_1": "user: Why ?", "text_2": "So."}),
        (
            "rerank",
            {"results": [{"index": 0, "relevance_score": 0.25}]},
            {"query": "user: Why ?", "documents": ["So."]},
        ),
        ("rerank", {"data": [{"index": 0, "score": 0.25}]}, {"query": "user: Why ?", "documents": ["So."]}),
        ("classify", {"data": [{"label": "good", "probs": [0.75, 0.25]}]}, {"input": ["user: Why ?\nassistant: So."]}),
    ],
)
def test_a_server_is_asked_in_its_own_words(server, context, via, answer, sent):
    server.others[via] = lambda body: answer
    (verdict,) = score(context, "So.", model="rm", via=via, base_url=server.url)
    assert verdict.value == 0.25
    assert server.requests == [{"model": "rm", **sent}]


@pytest.mark.parametrize(
    ("via", "answer"),
    [
        ("score", {"data": []}),
        ("score", {"data": [{"score": "high"}]}),
        ("score", {"data": [{"score": True}]}),
        ("score", {"data": [{"points": 1}]}),
        ("score", {"detail": "?"}),
        ("score", {"data": [{"score": 1}, {"score": 2}]}),
        ("classify", {"data": [{"label": "good"}]}),
        ("rerank", [[1]]),
    ],
)
def test_an_answer_that_is_no_score_is_a_failure(server, context, monkeypatch, via, answer):
    monkeypatch.setattr("duologue.inference.transport.retries._FIRST_PAUSE_S", 0.001)
    server.others[via] = lambda body: answer
    (verdict,) = score(context, "So.", model="rm", via=via, base_url=server.url)
    assert isinstance(verdict, Failure)


def test_a_server_counts_as_judge_and_in_the_plan(server, context):
    server.others["score"] = lambda body: {"data": [{"score": 1.5}], "usage": {"prompt_tokens": 11, "total_tokens": 11}}
    judge = build(context, model="rm", via="score", base_url=server.url, squash=True)
    assert judge.requests_per_turn == 1
    (verdict,) = context.client.run(judge.score([Turn(QUESTION, "So.")]))
    assert verdict.value == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert context.client.meter.roles["judge"].prompt_tokens == 11
