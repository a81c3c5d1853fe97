"""The progress bar of a pool's episodes; tests/rollouts/workers has the pool itself."""

from agent_rl.training.pool import advance_per_episode
from rollouts import StopReason, Trajectory
from tests.builders.episodes import trajectory, turn


def test_each_episode_advances_the_bar_and_is_handed_on() -> None:
    notes: list[str] = []
    ended: list[Trajectory] = []
    won, lost = trajectory(turn()), trajectory(turn(), stop_reason=StopReason.MAX_TURNS)
    on_end = advance_per_episode(notes.append, ended.append)
    on_end(won)
    on_end(lost)
    assert (notes, ended) == (["success", "max_turns"], [won, lost])
    advance_per_episode(notes.append, None)(won)
    assert notes == ["success", "max_turns", "success"]
