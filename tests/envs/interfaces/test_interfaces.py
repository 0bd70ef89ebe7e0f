"""Building interfaces from settings, and the interface that decides nothing."""

import pytest

from duologue.envs import ActionInterface, make_interface
from duologue.envs.interfaces import INTERFACES, Plain, Select, Strategy
from duologue.envs.state import DialogueState
from duologue.inference import Completion, ConfigError


@pytest.mark.parametrize(("name", "kind"), [("plain", Plain), ("select", Select), ("strategy", Strategy)])
def test_an_interface_is_built_from_its_name(name, kind):
    assert name in INTERFACES
    interface = make_interface(name)
    assert type(interface) is kind
    assert interface.name == name


@pytest.mark.parametrize(
    "interface",
    [Plain(), Select(), Select(3, False), Select(5, top_logprobs=4), Strategy(), Strategy(("", "Be brief."))],
    ids=lambda interface: str(dict(interface.settings))[:60],
)
def test_settings_build_the_same_interface_again(interface):
    again = make_interface(interface.settings)
    assert type(again) is type(interface)
    assert again.settings == interface.settings
    assert again.action_space == interface.action_space
    assert again.requests_per_turn == interface.requests_per_turn


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("selct", r"`interface.name=selct` is unknown: did you mean `select`\?"),
        ({"name": "stratgy"}, r"`interface.name=stratgy` is unknown: did you mean `strategy`\?"),
        ({"n": 4}, "`interface.name` is missing: known: `decode`, `plain`, `propose_select`, `route`, `select`"),
        ({"name": "select", "logprob": True}, r"`interface.logprob` is not a setting here: did you mean `logprobs`\?"),
        ({"name": "select", "n": 1}, "`interface` was refused: `n` must be at least 2, not 1"),
        ({"name": "select", "logprobs": False, "top_logprobs": 2}, "`top_logprobs` needs `logprobs=true`"),
        ({"name": "strategy", "directives": [""]}, "`directives` must hold at least 2 texts, not 1"),
        ("no.such.module:Interface", "cannot import `no.such.module:Interface`"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said(settings, said):
    with pytest.raises(ConfigError, match=said):
        make_interface(settings)


def test_a_dotted_path_is_refused_in_settings_of_a_stranger():
    path = "duologue.envs.interfaces.plain:Plain"
    assert isinstance(make_interface(path), ActionInterface)
    with pytest.raises(ConfigError, match="is unknown"):
        make_interface(path, custom=False)


def test_what_each_interface_requires_of_the_api():
    assert Plain().requires == Strategy().requires == Select(logprobs=False).requires == frozenset()
    assert Select().requires == {"logprobs"}
    assert Select(top_logprobs=2).requires == {"logprobs", "top_logprobs"}


def test_plain_sends_the_dialogue_as_it_stands_and_returns_the_answer():
    state = DialogueState([{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}])
    (request,) = Plain().compile(0, state)
    assert list(request.messages) == state.messages
    assert (request.index, request.logprobs, request.top_logprobs) == (0, False, 0)
    assert Plain().reply(0, state, [Completion("Hello.")]).text == "Hello."
    assert Plain().describe(0) == "plain"
