"""An episode is shown step by step while the expert plays."""

from pathlib import Path

import pytest

from tests.builders.play import CONFIG, NUMBER, Play, at_terminal, saved


@pytest.mark.process
def test_a_shown_episode_waits_for_enter_until_the_input_ends(tmp_path: Path) -> None:
    shown = at_terminal(
        tmp_path, NUMBER, "--policy", "expert", "--task", "number-6", typed=b"\n\x04"
    )
    assert shown.count("(Enter)") == 2
    assert "= success, 4 turns" in shown


def test_the_expert_is_shown_step_by_step(play: Play, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    shown = play("c.yaml", "episode.reward_scale=2", "--policy", "expert", "--task", "number-7")
    assert shown.splitlines()[1:6] == [
        "    Guess my number.",
        "  1 > guess 4",
        "    Higher.",
        "  2 > guess 7   reward +1.00",
        "    Right!",
    ]
    assert saved(tmp_path).episode_return == 2.0
