import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs import Task
from rollouts import Completion, EpisodeSettings, PromptSettings, Trajectory
from rollouts.renderer import make_renderer
from rollouts.workers.calls import Call, CallPage
from rollouts.workers.worker import RolloutWorker, WorkerPlan
from tests.builders.models import make_tokenizer
from tests.builders.number_env import NumberEnv
from tests.builders.scripted import ScriptedPolicy

RENDERER = make_renderer(make_tokenizer(), PromptSettings())
TASKS = NumberEnv().tasks("train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def plan() -> WorkerPlan:
    return WorkerPlan(
        env_id="tests.builders.number_env:NumberEnv",
        env_options={"expert": True},
        envs=2,
        prompt=PromptSettings(),
        episode=EpisodeSettings(max_turns=5),
        context_length=512,
    )


def expert_plays(worker: RolloutWorker, task: Task) -> Awaitable[Trajectory]:
    return worker.run_scripted(task, player="expert", noise=0.0, seed=0)


def test_more_episodes_than_environments(plan: WorkerPlan, folder: Path) -> None:
    async def play() -> None:
        worker = RolloutWorker(plan, [ScriptedPolicy(RENDERER, ["guess 5"] * 50)])
        await worker.start(folder)
        episodes = await asyncio.gather(
            *(worker.run(task, temperature=1.0, seed=None) for task in TASKS)
        )
        assert [episode.task for episode in episodes] == TASKS
        assert [episode.success for episode in episodes] == [n == 5 for n in range(10)]
        assert len(worker._free) == 2

    asyncio.run(play())


def test_an_expert_advises_a_policy_that_asks_for_it(plan: WorkerPlan, folder: Path) -> None:
    unasked = replace(plan, env_options={})

    async def play() -> None:
        worker = RolloutWorker(unasked, [ScriptedPolicy(RENDERER, ["guess 9"] * 10)])
        await worker.start(folder)
        alone = await worker.run(TASKS[5], temperature=1.0, seed=None)
        advised = await worker.run(TASKS[5], temperature=1.0, seed=None, advised=True)
        assert {turn.advice for turn in alone.turns} == {None}
        assert None not in {turn.advice for turn in advised.turns}

    asyncio.run(play())


def test_experts_need_no_policy(plan: WorkerPlan, folder: Path) -> None:
    async def play() -> None:
        worker = RolloutWorker(plan)
        await worker.start(folder)
        episodes = await asyncio.gather(*(expert_plays(worker, task) for task in TASKS))
        assert all(episode.success for episode in episodes)

    asyncio.run(play())


def test_an_episode_gets_the_environment_that_played_its_task(
    plan: WorkerPlan, folder: Path
) -> None:
    async def play() -> None:
        worker = RolloutWorker(plan)
        await worker.start(folder)
        await asyncio.gather(*(expert_plays(worker, task) for task in TASKS[:2]))
        of_task = {free.last_task: free.env for free in worker._free}
        await expert_plays(worker, TASKS[1])
        assert {free.last_task: free.env for free in worker._free} == of_task

    asyncio.run(play())


def test_an_environment_is_free_again_after_an_error(plan: WorkerPlan, folder: Path) -> None:
    async def play() -> None:
        worker = RolloutWorker(plan)
        await worker.start(folder)
        for _ in range(3):
            assert (
                "cut in half" in (await expert_plays(worker, replace(TASKS[0], id="broken"))).error
            )
        assert (await expert_plays(worker, TASKS[0])).success

    asyncio.run(play())


def test_without_a_model_both_players_play(plan: WorkerPlan) -> None:
    async def play() -> None:
        worker = RolloutWorker(replace(plan, context_length=None))
        await worker.start()
        episodes = [
            await worker.run_scripted(task, player="random", noise=0.0, seed=seed)
            for task in TASKS
            for seed in (0, 0, 1)
        ]
        assert [e.turns for e in episodes[::3]] == [e.turns for e in episodes[1::3]]
        assert [e.turns for e in episodes[::3]] != [e.turns for e in episodes[2::3]]
        assert 0 < sum(episode.success for episode in episodes) < 30
        assert (await expert_plays(worker, TASKS[3])).success

    asyncio.run(play())


def test_a_worker_writes_down_which_call_it_is_in(plan: WorkerPlan, folder: Path) -> None:
    page = CallPage()
    seen: list[Call | None] = []

    class Peeking(ScriptedPolicy):
        async def complete(self, *arguments: Any, **settings: Any) -> Completion:
            seen.append(page.read())
            return await super().complete(*arguments, **settings)

    class Noting(NumberEnv):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            seen.append(page.read())
            return super().step(action)

    async def play() -> None:
        worker = RolloutWorker(plan, [Peeking(RENDERER, ["guess 5"])])
        worker._make_env = lambda number, *, expert: Noting()  # type: ignore[method-assign]
        await worker.start(folder, page.path)
        await worker.run(TASKS[5], temperature=1.0, seed=None, number=17)

    asyncio.run(play())
    between, during = seen
    assert between is None
    assert during is not None
    assert (during.episode, during.command) == (17, "guess 5")
    assert page.read() is None


def test_an_unknown_option_is_named(plan: WorkerPlan, folder: Path) -> None:
    worker = RolloutWorker(replace(plan, env_options={"experts": True}))
    with pytest.raises(ValueError, match=r"'experts'.*'expert'"):
        asyncio.run(worker.start(folder))


class Asking(NumberEnv):
    """Runs an event loop of its own wherever it is called."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        asyncio.run(asyncio.sleep(0))

    def reset(self, **settings: Any) -> Any:
        asyncio.run(asyncio.sleep(0))
        return super().reset(**settings)

    def step(self, action: str) -> Any:
        asyncio.run(asyncio.sleep(0))
        return super().step(action)


class Unmade(NumberEnv):
    """Cannot be made."""

    def __init__(self, **options: Any) -> None:
        raise KeyError("goal")


def test_an_environment_may_run_a_loop_in_each_call(plan: WorkerPlan, folder: Path) -> None:
    async def play() -> None:
        worker = RolloutWorker(replace(plan, env_id=f"{__name__}:Asking"))
        await worker.start(folder)
        episodes = await asyncio.gather(*(expert_plays(worker, task) for task in TASKS))
        assert all(episode.success for episode in episodes)

    asyncio.run(play())


def test_a_constructor_that_raises_is_named_at_the_start(plan: WorkerPlan, folder: Path) -> None:
    worker = RolloutWorker(replace(plan, env_id=f"{__name__}:Unmade"))
    with pytest.raises(ValueError, match=r"its constructor raised KeyError: 'goal'"):
        asyncio.run(worker.start(folder))


def test_a_constructor_that_raises_later_costs_one_episode(plan: WorkerPlan, folder: Path) -> None:
    async def play() -> None:
        worker = RolloutWorker(plan)
        await worker.start(folder)
        worker._plan = replace(plan, env_id=f"{__name__}:Unmade")
        episode = await expert_plays(worker, TASKS[0])
        assert episode.unplayable
        assert episode.error == "its constructor raised KeyError: 'goal'"
        worker._plan = plan
        assert (await expert_plays(worker, TASKS[0])).success

    asyncio.run(play())


def test_the_page_tells_of_a_constructor(plan: WorkerPlan, folder: Path) -> None:
    page = CallPage()
    seen: list[Call | None] = []

    class Peeking(NumberEnv):
        def __init__(self, **options: Any) -> None:
            seen.append(page.read())
            super().__init__(**options)

    globals()["Peeking"] = Peeking
    Peeking.__qualname__ = "Peeking"
    worker = RolloutWorker(replace(plan, env_id=f"{__name__}:Peeking"))
    asyncio.run(worker.start(folder, page.path))
    (call,) = seen
    assert call is not None
    assert (call.making, call.is_reset, call.command, call.episode) == (True, False, None, -1)
    assert page.read() is None
