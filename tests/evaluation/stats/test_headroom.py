"""The headroom gate: its arithmetic by hand, and the command on a game."""

import json
import math

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from scipy import stats

from duologue.commands.bench import bench
from duologue.evaluation.stats.headroom import PolicyReturns, as_markdown, gate, two_way_interval, within
from duologue.inference import ConfigError
from duologue.plugins import plugins
from duologue.plugins.publish import publish


def standing(name, kind, mean, half=0.05):
    return PolicyReturns(name, kind, mean, mean - half, mean + half, (mean, mean), 1.0, 10.0, 0.0)


class TestInterval:
    def test_seeds_alone_give_students_interval(self):
        """Where all scenarios are alike only the seeds vary."""
        seeds = np.array([0.2, 0.5, 0.6, 0.3])
        mean, low, high = two_way_interval(np.repeat(seeds[:, None], 7, axis=1))
        half = stats.t.ppf(0.975, 3) * seeds.std(ddof=1) / 2
        assert (mean, low, high) == pytest.approx((0.4, 0.4 - half, 0.4 + half))

    def test_scenarios_alone_likewise(self):
        scenarios = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
        mean, low, high = two_way_interval(np.tile(scenarios, (3, 1)))
        half = stats.t.ppf(0.975, 4) * scenarios.std(ddof=1) / math.sqrt(5)
        assert (mean, low, high) == pytest.approx((0.6, 0.6 - half, 0.6 + half))

    def test_no_end_lies_beyond_the_worst_and_the_best_episode(self):
        found = within(standing("a", "learnt", 0.97), 0.0, 1.0)
        assert (found.low, found.mean, found.high) == (pytest.approx(0.92), 0.97, 1.0)
        assert within(standing("a", "learnt", 0.02), 0.0, 1.0).low == 0.0
        assert math.isnan(within(standing("a", "learnt", 0.5, math.nan), 0.0, 1.0).low)

    def test_no_variation_is_no_doubt_and_one_seed_is_no_interval(self):
        assert two_way_interval(np.ones((3, 4))) == (1.0, 1.0, 1.0)
        assert two_way_interval([[0.0, 1.0]])[0] == 0.5
        assert math.isnan(two_way_interval([[0.0, 1.0]])[1])

    def test_failures_are_left_out(self):
        assert two_way_interval([[0.0, 1.0, math.nan], [0.0, 1.0, math.nan]])[0] == 0.5

    @pytest.mark.parametrize(("seed_sd", "scenario_sd"), [(0.1, 0.4), (0.3, 0.1)])
    def test_it_covers_the_truth(self, seed_sd, scenario_sd):
        rng = np.random.default_rng(0)
        covered = 0
        for _ in range(300):
            table = rng.normal(0, seed_sd, (5, 1)) + rng.normal(0, scenario_sd, (1, 40)) + rng.normal(0, 0.2, (5, 40))
            _, low, high = two_way_interval(table)
            covered += low <= 0 <= high
        assert covered / 300 >= 0.93


class TestGate:
    def test_it_passes_where_the_intervals_are_apart(self):
        those = [standing("ppo", "learnt", 0.8), standing("a", "constant", 0.5), standing("b", "constant", 0.6),
                 standing("random", "random", 0.4), standing("oracle", "oracle", 0.9)]  # fmt: skip
        verdict = gate(those)
        assert verdict["passed"]
        assert verdict["best_constant"] == "b"
        assert verdict["of_oracle"] == pytest.approx(0.8)

    @pytest.mark.parametrize(("learnt", "constant"), [(0.69, 0.6), (0.9, 0.49)])
    def test_it_fails_where_they_touch(self, learnt, constant):
        those = [
            standing("ppo", "learnt", learnt),
            standing("a", "constant", constant),
            standing("random", "random", 0.4),
        ]
        assert not gate(those)["passed"]

    def test_the_first_agent_counts_and_not_its_rival(self):
        those = [standing("ppo", "learnt", 0.5), standing("linucb", "learnt", 0.9),
                 standing("a", "constant", 0.6), standing("random", "random", 0.4)]  # fmt: skip
        assert not gate(those)["passed"]
        assert "ppo does not surely beat the best constant" in as_markdown("x", those, gate(those))


@pytest.fixture
def composed():
    def compose_bench(*overrides):
        publish(plugins())
        with initialize_config_module("duologue.conf", version_base="1.3"):
            config = compose("bench", ["experiment=forms", "inference=rules", *overrides])
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=False)

    return compose_bench


def test_on_a_game_what_learnt_beats_what_is_constant(composed, tmp_path, capsys):
    config = composed("bench.seeds=2", "bench.limit=60", "agent.total_timesteps=3000", "encoder.dim=64")
    summary = bench(config, tmp_path / "bench")
    by_kind = {row["kind"]: row for row in summary["results"]}
    assert by_kind["learnt"]["mean"] > 0.6 > by_kind["random"]["mean"]
    assert [row["name"] for row in summary["results"]][:3] == ["ppo", "linucb", "random"]
    assert len([row for row in summary["results"] if row["kind"] == "constant"]) == 8
    assert all(row["requests"] == 1 for row in summary["results"])
    written = json.loads((tmp_path / "bench" / "bench.json").read_text())
    assert written["verdict"] == json.loads(json.dumps(summary["verdict"]))
    for file in (
        "bench.md",
        "bench.svg",
        "bench.png",
        "ppo-seed-0/bundle/policy.json",
        "linucb-seed-1/bundle/policy.json",
    ):
        assert (tmp_path / "bench" / file).exists()
    assert "best constant" in capsys.readouterr().out


def test_a_single_seed_is_refused(composed, tmp_path):
    with pytest.raises(ConfigError, match="`seeds` must be at least 2, not 1: there is no interval else"):
        bench(composed("bench.seeds=1"), tmp_path / "bench")


def test_the_oracle_is_played_where_the_action_chooses_a_reply(server, configured, tmp_path):
    config = configured("train") | {"bench": {"seeds": 2, "limit": 3}, "rival": None}
    rows = {row["kind"]: row for row in bench(config, tmp_path / "bench")["results"]}
    assert rows["oracle"]["mean"] >= max(row["mean"] for row in rows.values())
    assert rows["oracle"]["requests"] == 3


def test_without_judges_nothing_is_trained(server, configured, tmp_path):
    config = configured("train") | {"bench": {"seeds": 2, "limit": 3}, "judges": {}}
    with pytest.raises(ConfigError, match="`judges` is empty"):
        bench(config, tmp_path / "bench")
    assert not server.requests
