"""The same policy in evaluation and behind the API: same observation, same action, same requests, over 200 dialogues."""

import json

import httpx2 as httpx
import pytest

from duologue.envs import Scenario, Task
from duologue.evaluation.contestants import PolicyContestant
from duologue.inference import Endpoint

SCENARIOS = [
    Scenario(
        f"s{i}",
        "test",
        tuple(f"Turn {turn} of dialogue {i}, {'why' if i % 3 else 'how'} {i * 7 % 11}?" for turn in range(1 + i % 3)),
        system=f"You are number {i}." if i % 4 == 0 else None,
    )
    for i in range(200)
]


def canonical(bodies):
    return sorted(json.dumps(body, sort_keys=True) for body in bodies)


INTERFACES = {
    "strategy": {"name": "strategy"},
    "select": {"name": "select", "n": 3},
    "strategy_decode": {"name": "strategy_decode", "directives": ["", "Be brief."], "max_tokens": [5, 20]},
    "propose_select": {"name": "propose_select", "n": 2},
    "route": {"name": "route", "models": {"small": {}, "large": {"model": "large", "sampling": {"temperature": 0.3}}}},
}


@pytest.mark.parametrize("interface", list(INTERFACES.values()), ids=list(INTERFACES))
def test_behind_the_api_it_sees_and_does_what_it_does_in_evaluation(server, client, bundled, serving, interface):
    bundle = bundled(interface)
    task = Task(
        client=client,
        assistant=Endpoint.from_settings(bundle.settings["assistant"], "assistant"),
        interface=bundle.interface,
        encoder=bundle.encoder,
        scenarios=SCENARIOS,
        **bundle.settings["task"],
    )
    contestant = PolicyContestant("trained policy", bundle.policy, task)

    async def play():
        return [await contestant.answer(scenario, 0) for scenario in SCENARIOS]

    answers = client.run(play())
    evaluated, asked = list(bundle.policy.seen), list(server.requests)
    bundle.policy.seen.clear()
    server.requests.clear()
    running = serving(bundle=bundle)
    with httpx.Client(base_url=running.url) as caller:
        for answer in answers:
            for turn, described in zip(answer.turns, answer.actions, strict=True):
                messages = [m for m in turn.messages if m["content"] != "Answer briefly."]  # the server knows it
                response = caller.post("/chat/completions", json={"model": "my-model", "messages": messages})
                assert response.json()["choices"][0]["message"]["content"].strip() == turn.reply
                assert described == httpx.URL("http://x/" + response.headers["x-duologue-action"]).path[1:]
    assert len(evaluated) == sum(len(answer.turns) for answer in answers) > 200
    assert bundle.policy.seen == evaluated
    assert canonical(server.requests) == canonical(asked)
    assert len({str(action) for _, action in evaluated}) > 1
