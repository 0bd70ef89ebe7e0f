"""The rows of progress.csv outlive a kill at any moment."""

import csv
import math

import pytest

from duologue.agents.reporter import open_curves


def play(folder, first, last, begun=0):
    """Logs one row per 32 timesteps; the losses are there from the second row on, as PPO has them."""
    logger = open_curves(folder, begun)
    for i in range(first, last):
        logger.record("rollout/reward", 1 / (i + 3))
        logger.record("time/total_timesteps", 32 * (i + 1))
        logger.record("train/explained_variance", math.nan if i == 1 else -0.5 * i)
        if i:
            logger.record("train/loss", 1e-07 * i)
        logger.dump(i)
    logger.close()


def rows(folder):
    return sorted(
        tuple(sorted(row.items())) for row in csv.DictReader((folder / "progress.csv").read_text().splitlines())
    )


@pytest.fixture
def undisturbed(tmp_path):
    play(tmp_path / "undisturbed", 0, 6)
    return rows(tmp_path / "undisturbed")


def test_rows_after_the_checkpoint_are_written_again(tmp_path, undisturbed):
    play(tmp_path, 0, 5)
    play(tmp_path, 3, 6, begun=96)
    assert rows(tmp_path) == undisturbed


def test_a_row_that_was_cut_anywhere_is_written_again(tmp_path, undisturbed):
    play(tmp_path, 0, 4)
    whole = (tmp_path / "progress.csv").read_text()
    start = whole.rstrip("\n").rfind("\n") + 1
    for end in range(start, len(whole)):
        (tmp_path / "progress.csv").write_text(whole[:end])
        play(tmp_path, 3, 6, begun=96)
        assert rows(tmp_path) == undisturbed


def test_the_rows_are_there_before_anything_is_logged(tmp_path):
    play(tmp_path, 0, 3)
    before = rows(tmp_path)
    logger = open_curves(tmp_path, 96)
    assert rows(tmp_path) == before
    logger.close()


def test_a_new_run_begins_with_no_rows(tmp_path):
    play(tmp_path, 0, 3)
    play(tmp_path, 0, 1)
    assert len(rows(tmp_path)) == 1
