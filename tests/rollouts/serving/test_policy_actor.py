"""The actor's part without an engine: a start that fails is told, and leaves nothing to end."""

import asyncio
from pathlib import Path

import pytest

from rollouts import ServingSettings
from rollouts.serving.policy_actor import PolicyActor


def test_a_failed_start_is_told_and_leaves_nothing_to_end(tmp_path: Path) -> None:
    actor = PolicyActor(ServingSettings())

    async def scenario() -> None:
        await actor.forget("worker-1")
        with pytest.raises(ValueError, match=r"config\.json"):
            await actor.start(tmp_path, 0)
        await actor.forget("worker-1")
        await actor.shutdown()

    asyncio.run(scenario())
