"""The training's curves as a report draws them: over the turns, whatever rows there are."""

from duologue.evaluation.report.curves import curves


def test_points_stand_at_their_steps(tmp_path):
    path = tmp_path / "progress.csv"
    rows = [(100, 0.0), (200, 1.0), (1100, 0.5)]
    text = "".join(f"{step},{reward}\n" for step, reward in rows)
    path.write_text(f"time/total_timesteps,rollout/ep_rew_mean\n{text}", encoding="utf-8")
    (curve,) = curves(path, width=108, height=112)
    assert curve["points"] == "4.0,106.0 14.0,6.0 104.0,56.0"
    assert (curve["first"], curve["last"]) == (0.0, 0.5)


def test_a_file_cut_off_in_a_row_is_drawn_up_to_it(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text("time/total_timesteps,rollout/ep_rew_mean\n1,0.5\n2,0.75\n3,0.", encoding="utf-8")
    assert curves(path)[0]["last"] == 0.75
    assert curves(tmp_path / "none.csv") == []
