"""Real Ray, real vLLM, a real (tiny) model: one engine for all tests of this file."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from envs import Task
from rollouts import (
    EpisodeSettings,
    ServingSettings,
    StopReason,
    TrajectoryGroup,
    WorkerSettings,
)
from rollouts.workers.pool import PoolSettings, RolloutPool
from tests.builders.models import make_model, save_policy
from tests.builders.number_env import NumberEnv

pytestmark = pytest.mark.engine


@dataclass
class World:
    pool: RolloutPool
    tasks: list[Task]
    folders: list[Path]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folders = [save_policy(tmp_path_factory.mktemp(f"policy-{seed}"), seed) for seed in range(2)]
    settings = PoolSettings(
        env_id="tests.builders.number_env:NumberEnv",
        env_options={"expert": True},
        episode=EpisodeSettings(max_turns=4, max_action_tokens=8),
        serving=ServingSettings(kv_cache_gib=0.25, max_concurrent=16),
        workers=WorkerSettings(count=2, envs_per_worker=8),
    )
    with RolloutPool(settings, folders[0]) as pool:
        yield World(pool, NumberEnv().tasks("train"), folders)


def parity(groups: list[TrajectoryGroup], seed: int) -> float:
    """Mean absolute difference in nats between the sampler's log-probs and transformers', over all
    trained tokens.
    """
    import torch

    model = make_model(seed)
    differences = []
    for episode in (episode for group in groups for episode in group.trajectories):
        ids = torch.tensor([episode.token_ids])
        with torch.no_grad():
            logprobs_TV = model(ids).logits[0, :-1].float().log_softmax(-1)
        learner_T = logprobs_TV.gather(1, ids[0, 1:, None])[:, 0]
        sampler_T = torch.tensor(episode.behavior_logprobs[1:])
        differences.append((learner_T - sampler_T)[torch.tensor(episode.action_mask[1:])].abs())
    return float(torch.cat(differences).mean())


def collect(world: World, *, seed: int = 0, temperature: float = 1.0) -> list[TrajectoryGroup]:
    return world.pool.collect(world.tasks, group_size=3, temperature=temperature, seed=seed)


def test_experts_play_in_the_pool_of_a_policy(world: World) -> None:
    seen: list[str] = []
    episodes = world.pool.collect_scripted(
        world.tasks, player="expert", seed=0, on_episode=lambda e: seen.append(e.task.id)
    )
    assert [episode.task for episode in episodes] == world.tasks
    assert all(episode.success for episode in episodes)
    assert sorted(seen) == [task.id for task in world.tasks]


def test_groups_of_episodes(world: World) -> None:
    groups = collect(world)
    assert [group.task for group in groups] == world.tasks
    episodes = [episode for group in groups for episode in group.trajectories]
    assert {episode.stop_reason for episode in episodes} <= {
        StopReason.MAX_TURNS,
        StopReason.SUCCESS,
    }
    completions = [turn.completion for episode in episodes for turn in episode.turns]
    assert {completion.policy_version for completion in completions} == {0}
    assert all(x < 0.0 for completion in completions for x in completion.logprobs)
    assert len({episode.token_ids for episode in episodes}) == len(episodes)


def test_the_same_seed_plays_the_same_episodes(world: World) -> None:
    first, again, other = (collect(world, seed=seed) for seed in (1, 1, 2))

    def texts(groups: list[TrajectoryGroup]) -> list[tuple[int, ...]]:
        return [episode.token_ids for group in groups for episode in group.trajectories]

    # The batch that a request lands in may change the last bit of its bfloat16 logits, rarely a
    # token.
    same = sum(a == b for a, b in zip(texts(first), texts(again), strict=True))
    assert same >= 27
    assert sum(a == b for a, b in zip(texts(first), texts(other), strict=True)) <= 3


def test_a_task_that_comes_twice_is_played_by_other_chance(world: World) -> None:
    task = world.tasks[0]
    groups = world.pool.collect([task, task, task], group_size=2, temperature=1.0, seed=0)
    assert len({episode.token_ids for group in groups for episode in group.trajectories}) == 6


def test_sampler_and_learner_agree_before_and_after_an_update_of_every_weight(
    world: World,
) -> None:
    old, new = (dict(make_model(seed).named_parameters()) for seed in range(2))
    moved = {name for name in old if not (old[name] == new[name]).all()}
    assert {
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.layers.1.mlp.down_proj.weight",
    } <= moved
    assert parity(collect(world), seed=0) < 0.05
    world.pool.sync_weights(world.folders[1], version=7)
    groups = collect(world)
    completions = [t.completion for g in groups for e in g.trajectories for t in e.turns]
    assert {completion.policy_version for completion in completions} == {7}
    assert parity(groups, seed=1) < 0.05
    assert parity(groups, seed=0) > 1.0
    world.pool.sync_weights(world.folders[0], version=8)


def test_a_task_that_is_refused_costs_its_own_group_only(world: World) -> None:
    broken = replace(world.tasks[0], id="broken")
    refused, good = world.pool.collect(
        [broken, world.tasks[1]], group_size=2, temperature=1.0, seed=0
    )
    assert {episode.error for episode in refused.trajectories} == {
        "reset of task 'broken': ValueError: the file of task broken is cut in half"
    }
    assert all(episode.trains for episode in good.trajectories)
    assert len(collect(world)) == 10


def test_the_episodes_of_a_dead_worker_are_played_again(world: World) -> None:
    import ray

    killed: list[object] = []

    def kill(_: object) -> None:
        if not killed:
            killed.append(world.pool._workers.actors[0])
            ray.kill(world.pool._workers.actors[0])

    groups = world.pool.collect(world.tasks, group_size=6, temperature=1.0, seed=0, on_episode=kill)
    assert world.pool._workers.actors[0] is not killed[0]
    episodes = [episode for group in groups for episode in group.trajectories]
    # At most one was just in a call of its environment, and is blamed for the death.
    assert sum(not episode.trains for episode in episodes) <= 1
    assert len(episodes) == 60
