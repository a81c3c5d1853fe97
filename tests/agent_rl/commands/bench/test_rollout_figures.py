"""The figures of a rollout, worked out by hand."""

from dataclasses import replace

import pytest

from agent_rl.commands.bench.rollout_figures import busy_seconds, figures_of, first_free
from tests.builders.episodes import trajectory, turn


def test_places_are_busy_until_no_episode_is_left() -> None:
    # Three episodes on two places: the third begins at 1, and from 2 on it plays alone.
    assert first_free([4.0, 1.0, 2.0], 2) == 2.0
    assert busy_seconds([4.0, 1.0, 2.0], 2) == 6.0
    # As many episodes as places: the first end leaves a place free.
    assert first_free([1.0, 3.0], 2) == 1.0
    assert busy_seconds([1.0, 3.0], 2) == 4.0
    # Fewer episodes than places: one place is free from the beginning.
    assert first_free([1.0, 3.0], 3) == 0.0
    assert busy_seconds([1.0, 3.0], 3) == 4.0


def test_the_shares_by_hand() -> None:
    # Two places for 5 s: 10 s. Episodes end at 2 and 4; so 2 * 2 + 2 = 6 s are busy.
    played = turn(ids=(5, 6, 2))
    completion = replace(played.completion, seconds=0.5)
    episodes = [
        replace(
            trajectory(*[replace(played, completion=completion)] * turns),
            policy_seconds=1.0 * turns,
            env_seconds=0.25 * turns,
        )
        for turns in (1, 3)
    ]
    figures = figures_of(episodes, [2.0, 4.0], places=2, seconds=5.0, cache_hits=0.5)
    assert (figures.episodes, figures.tokens, figures.tokens_per_second) == (2, 12, 2.4)
    assert figures.engine == pytest.approx(0.2)
    assert figures.policy == pytest.approx(0.4)
    assert figures.transport == pytest.approx(0.2)
    assert figures.environment == pytest.approx(0.1)
    assert figures.waiting == pytest.approx(0.4)
    assert figures.busy == pytest.approx(0.6)
    assert figures.worker == pytest.approx(0.1)
    assert figures.tail == pytest.approx(0.6)
    assert figures.cache_hits == 0.5
    parts = ("engine", "transport", "environment", "worker", "waiting")
    assert sum(getattr(figures, part) for part in parts) == pytest.approx(1.0)
