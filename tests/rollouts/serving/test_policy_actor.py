"""The actor's part without an engine: a start that failed is told by every call that can tell."""

import asyncio
from pathlib import Path

import pytest

from rollouts import ServingSettings
from rollouts.serving.policy_actor import PolicyActor
from rollouts.serving.statistics import EngineStatistics


def test_a_failed_start_is_told_by_those_who_wait_for_it(tmp_path: Path) -> None:
    actor = PolicyActor(tmp_path, ServingSettings(), version=0)

    async def scenario() -> None:
        for call in (actor.address, actor.check_health, actor.until_dead):
            with pytest.raises(ValueError, match=r"config\.json"):
                await call()
        assert await actor.steps() == (0, False)
        assert await actor.statistics() == EngineStatistics()
        await actor.forget("worker-1")
        await actor.shutdown()

    asyncio.run(scenario())
