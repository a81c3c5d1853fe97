"""A policy that says what it was told to: a real `Policy`, for tests in one process."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from rollouts import Completion, FinishReason
from rollouts.renderer import Renderer


@dataclass
class ScriptedPolicy:
    """Says `actions` one after the other: a text with its end token, cut at `max_tokens`; a number
    of seconds is waited before `think` is said; an error is raised.
    """

    renderer: Renderer
    actions: list[str | Exception | float]
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    seeds: list[int | None] = field(default_factory=list)

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
    ) -> Completion:
        self.prompts.append(tuple(token_ids))
        self.seeds.append(seed)
        action = self.actions.pop(0)
        if isinstance(action, Exception):
            raise action
        if isinstance(action, float):
            await asyncio.sleep(action)
            action = "think"
        ids = self.renderer.action_ids(action)
        stopped = len(ids) <= max_tokens
        ids = ids[:max_tokens]
        return Completion(
            token_ids=ids,
            logprobs=tuple(-0.5 for _ in ids),
            finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            policy_version=3,
        )
