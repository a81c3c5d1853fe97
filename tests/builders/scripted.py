"""A `Policy` that plays a list of actions, for tests in one process."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from rollouts import Completion, FinishReason
from rollouts.renderer import Renderer


@dataclass
class ScriptedPolicy:
    """Plays `actions` in order and records the prompts and seeds that it is asked with."""

    renderer: Renderer
    """Turns the actions into ids."""
    actions: list[str | Exception | float | tuple[int, ...]]
    """A text is played with its end token, cut at `max_tokens`. So are ids, which bring their end
    token along. An error is raised. A number of seconds is waited, and then `think` is played."""
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    """The token ids of each request."""
    limits: list[int] = field(default_factory=list)
    """The `max_tokens` of each request."""
    seeds: list[int | None] = field(default_factory=list)
    """The seed of each request."""

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
        stop: Sequence[str] = (),
    ) -> Completion:
        self.prompts.append(tuple(token_ids))
        self.seeds.append(seed)
        self.limits.append(max_tokens)
        action = self.actions.pop(0)
        if isinstance(action, Exception):
            raise action
        if isinstance(action, float):
            await asyncio.sleep(action)
            action = "think"
        ids = action if isinstance(action, tuple) else self.renderer.action_ids(action)
        ids = ids[:max_tokens]
        stopped = ids[-1] in stop_token_ids
        return Completion(
            token_ids=ids,
            logprobs=tuple(-0.5 for _ in ids),
            finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            versions=((3, 0),),
        )
