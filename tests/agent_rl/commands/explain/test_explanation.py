"""An episode of a run whose learner is real, and whose episodes are scripted."""

from pathlib import Path

import pytest

from agent_rl.commands.explain.explanation import explanation_of
from agent_rl.config import ConfigError
from agent_rl.runs.episode_ids import EpisodeId
from tests.builders.scripted_session import run_with_records


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a real learner."""
    folder = tmp_path_factory.mktemp("explained")
    run_with_records(folder)
    return folder


def test_the_numbers_equal_the_learners_own(run: Path) -> None:
    told = explanation_of(run, EpisodeId(2, 1, 1))
    assert told.logged["clip_fraction_low"] + told.logged["clip_fraction_high"] > 0
    assert len(told.step_metrics) == 9
    for name, value in told.step_metrics.items():
        assert told.logged[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


def test_each_turn_has_its_advantage_and_its_tokens(run: Path) -> None:
    won, lost = (explanation_of(run, EpisodeId(1, 1, member)) for member in (1, 2))
    # Returns 1 and 0: mean 1/2, std sqrt(1/2).
    assert won.advantages[0] == pytest.approx(0.5**0.5, abs=1e-5)
    assert lost.advantages[0] == pytest.approx(-(0.5**0.5), abs=1e-5)
    assert {won.optimizer_step, lost.optimizer_step} == {1, 2}
    (numbers,) = won.turn_numbers
    assert numbers is not None
    assert numbers["advantage"].tolist() == pytest.approx([0.5**0.5] * 2, abs=1e-5)
    first = won if won.optimizer_step == 1 else lost
    (numbers,) = first.turn_numbers
    assert numbers is not None
    assert numbers["log_ratio"].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_what_is_not_there_is_told_with_what_is(run: Path, tmp_path: Path) -> None:
    for name, message in (
        ((7, 1, 1), "no episodes of step 7; there are steps 1 to 2"),
        ((1, 2, 1), "episode 1/2/1: step 1 has the groups 1 to 1"),
        ((1, 1, 3), "episode 1/1/3: group 1 has the members 1 to 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            explanation_of(run, EpisodeId(*name))
    with pytest.raises(ConfigError, match="no run that was trained"):
        explanation_of(tmp_path, EpisodeId(1, 1, 1))


def test_records_of_other_episodes_are_refused(run: Path) -> None:
    from agent_rl.runs.layout import RunLayout
    from agent_rl.runs.trajectories import load_step_episodes, write_trajectories
    from tests.builders.episodes import trajectory, turn

    path = RunLayout(run).train.step_episodes(2)
    stored = load_step_episodes(path, 2)
    others = [trajectory(turn(ids=(3, 3, 2)), task=e.task) for e in stored.values()]
    kept = path.read_bytes()
    write_trajectories(path, others, ids=[*stored])
    with pytest.raises(ConfigError, match="is of other episodes: it has 2 tokens of 2/1/1"):
        explanation_of(run, EpisodeId(2, 1, 1))
    path.write_bytes(kept)
