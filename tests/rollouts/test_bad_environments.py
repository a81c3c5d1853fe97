"""Real processes with environments that hang, die and print."""

import time
from collections.abc import Iterator

import pytest

from rollouts import EpisodeSettings, PromptSettings, ServingSettings, StopReason, Trajectory, WorkerSettings
from rollouts.actors import RolloutPool

LIMIT_SECONDS = 1.0


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> Iterator[RolloutPool]:
    """Two processes, no model; `advice` is what the expert says of some numbers instead of what is right."""
    with RolloutPool(
        env_id="number_env:NumberEnv",
        env_options={"expert": True, "advice": request.param},
        model_folder=None,
        prompt=PromptSettings(),
        episode=EpisodeSettings(max_turns=6, env_timeout_seconds=LIMIT_SECONDS),
        serving=ServingSettings(),
        workers=WorkerSettings(count=2, envs_per_worker=3),
        serve=False,
    ) as pool:
        yield pool


def play(pool: RolloutPool) -> tuple[dict[str, Trajectory], int]:
    """Episodes by task, and how many of them were reported on the way."""
    reported: list[Trajectory] = []
    tasks = pool.tasks("train")
    episodes = pool.collect_scripted(tasks, player="expert", seed=0, on_episode=reported.append)
    assert [episode.task for episode in episodes] == tasks
    return {episode.task.id: episode for episode in episodes}, len(reported)


@pytest.mark.parametrize("pool", [{"3": "hang", "7": "hold"}], indirect=True)
def test_a_call_that_does_not_return_costs_one_episode(pool: RolloutPool) -> None:
    started = time.monotonic()
    episodes, reported = play(pool)
    assert time.monotonic() - started < 30
    failed = {name: episode for name, episode in episodes.items() if not episode.success}
    assert set(failed) == {"number-3", "number-7"}
    for name, word in (("number-3", "hang"), ("number-7", "hold")):
        assert failed[name].stop_reason is StopReason.ENV_ERROR
        sentence = f"step '{word}' of task '{name}' did not return within 1 s (episode.env_timeout_seconds)"
        assert failed[name].error.startswith(sentence)
    assert reported == 10
    again = pool.collect_scripted(pool.tasks("train")[:3], player="expert", seed=0)
    assert all(episode.success for episode in again), "the replaced processes do not play"
    lucky = pool.collect_scripted(pool.tasks("train"), player="random", seed=0)
    assert 0 < sum(episode.success for episode in lucky) < 10


@pytest.mark.parametrize("pool", [{"2": "die", "5": "chat"}], indirect=True)
def test_a_call_that_ends_its_process_costs_one_episode_and_printing_none(pool: RolloutPool) -> None:
    episodes, _ = play(pool)
    assert [name for name, e in episodes.items() if e.stop_reason is StopReason.ENV_ERROR] == ["number-2"]
    assert "died in step 'die' of task 'number-2'" in episodes["number-2"].error
    assert episodes["number-5"].stop_reason is StopReason.MAX_TURNS
    assert {turn.action.command for turn in episodes["number-5"].turns} == {"chat"}
