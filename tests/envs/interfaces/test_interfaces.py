"""Building interfaces from settings, and the interface that decides nothing."""

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from duologue.envs import ActionInterface, make_interface
from duologue.envs.episode import DialogueState
from duologue.envs.interfaces import INTERFACES, Plain, Select, Strategy
from duologue.inference import Completion, ConfigError
from duologue.plugins import plugins
from duologue.plugins.publish import publish


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
    path = "duologue.envs.interfaces.one_phase:Plain"
    assert isinstance(make_interface(path), ActionInterface)
    with pytest.raises(ConfigError, match="names code outside Duologue"):
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


OWN = """
from duologue.envs.interfaces import ActionInterface
from duologue.envs.interfaces.one_phase import Strategy


class Cautious(Strategy):
    def __init__(self, strength: int = 1) -> None:
        super().__init__(["", *["Be careful." for _ in range(strength)]])


def no_interface() -> int:
    return 1
"""


def test_an_interface_of_ones_own_works_as_documented(tmp_path, monkeypatch):
    """By its dotted path and its own settings, which the settings of the default interface do not disturb."""
    (tmp_path / "my_interface.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    with initialize_config_module("duologue.conf", version_base="1.3"):
        publish(plugins())
        chosen = ["interface=own", "interface.name=my_interface:Cautious", "+interface.strength=2"]
        settings = OmegaConf.to_container(compose("train", chosen).interface, resolve=True)
        beside = OmegaConf.to_container(compose("train", ["interface.name=my_interface:Cautious"]).interface)
    assert make_interface(settings).action_space.n == 3
    with pytest.raises(ConfigError, match="`interface=own interface.name=my_interface:Cautious`"):
        make_interface(beside)
    with pytest.raises(ConfigError, match="only imported with `trusted=true`"):
        make_interface(settings, custom=False)
    with pytest.raises(ConfigError, match="is no `ActionInterface`: derive the class from it"):
        make_interface("my_interface:no_interface")
    with pytest.raises(ConfigError, match="`interface` is empty: choose one of decode"):
        make_interface(None)
