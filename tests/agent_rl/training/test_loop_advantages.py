"""The loop's samples have the advantages that the config asks for."""

from pathlib import Path

import pytest

from agent_rl.config.learner import LearnerSettings
from rollouts import StopReason
from tests.builders.episodes import group, trajectory, turn
from tests.builders.scripted_session import scripted_loop


def test_the_penalty_of_a_turn_reaches_the_samples(tmp_path: Path) -> None:
    loop, _ = scripted_loop(tmp_path)
    lost = trajectory(turn(), stop_reason=StopReason.MAX_TURNS)
    wrong = trajectory(turn(), turn(admissible=False), stop_reason=StopReason.MAX_TURNS)
    played = group(lost, wrong)
    assert [s.advantages for s in loop.samples(played)] == [(0.0,), (0.0, 0.0)]
    learner = LearnerSettings(objective="grpo", advantage="turn_weighted", invalid_turn_penalty=0.5)
    loop.config = loop.config.model_copy(update={"learner": learner})
    # Rows 0, 0 and -1/2: mean -1/6, std 1/sqrt(12).
    found = [a / 12**0.5 for sample in loop.samples(played) for a in sample.advantages]
    assert found == pytest.approx([1 / 6, 1 / 6, -1 / 3], abs=1e-4)
    loop.close()
