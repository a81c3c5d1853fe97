import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from models import make_tokenizer
from number_env import NumberEnv
from scripted import ScriptedPolicy

from rollouts import EpisodeSettings, PromptSettings
from rollouts.renderer import make_renderer
from rollouts.worker import RolloutWorker, WorkerPlan

RENDERER = make_renderer(make_tokenizer(), PromptSettings())
TASKS = NumberEnv().tasks("train")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> WorkerPlan:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return WorkerPlan(
        env_id="number_env:NumberEnv",
        env_options={"expert": True},
        envs=2,
        model_folder=folder,
        prompt=PromptSettings(),
        episode=EpisodeSettings(max_turns=5),
        context_length=512,
    )


def test_more_episodes_than_environments(plan: WorkerPlan) -> None:
    async def play() -> None:
        worker = RolloutWorker(plan, ScriptedPolicy(RENDERER, ["guess 5"] * 50))
        await worker.start()
        assert await worker.tasks("train") == TASKS
        episodes = await asyncio.gather(*(worker.run(task, temperature=1.0, seed=None) for task in TASKS))
        assert [episode.task for episode in episodes] == TASKS
        assert [episode.success for episode in episodes] == [n == 5 for n in range(10)]
        assert len(worker._free) == 2

    asyncio.run(play())


def test_experts_need_no_policy(plan: WorkerPlan) -> None:
    async def play() -> None:
        worker = RolloutWorker(plan)
        await worker.start()
        episodes = await asyncio.gather(*(worker.run_expert(task, noise=0.0, seed=0) for task in TASKS))
        assert all(episode.success for episode in episodes)

    asyncio.run(play())


def test_an_episode_gets_the_environment_that_played_its_task(plan: WorkerPlan) -> None:
    async def play() -> None:
        worker = RolloutWorker(plan)
        await worker.start()
        await asyncio.gather(*(worker.run_expert(task, noise=0.0, seed=0) for task in TASKS[:2]))
        of_task = {task: env for env, task in worker._free}
        await worker.run_expert(TASKS[1], noise=0.0, seed=0)
        assert {task: env for env, task in worker._free} == of_task

    asyncio.run(play())


def test_an_environment_is_free_again_after_an_error(plan: WorkerPlan) -> None:
    async def play() -> None:
        worker = RolloutWorker(plan)
        await worker.start()
        for _ in range(3):
            with pytest.raises(ValueError, match="cut in half"):
                await worker.run_expert(replace(TASKS[0], id="broken"), noise=0.0, seed=0)
        assert (await worker.run_expert(TASKS[0], noise=0.0, seed=0)).success

    asyncio.run(play())


def test_an_unknown_option_is_named(plan: WorkerPlan) -> None:
    worker = RolloutWorker(replace(plan, env_options={"experts": True}))
    with pytest.raises(ValueError, match=r"'experts'.*'expert'"):
        asyncio.run(worker.start())
