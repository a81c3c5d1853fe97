"""Samples the answers of one episode: a thought, its end if it takes too long, and an action.

With `episode.max_thought_tokens: 4`, a prompt "Guess." and `|` between requests to the policy:

    Guess. > <think> it is odd | </think> <action>guess 7</action>

The policy is stopped after four tokens. `</think>` is written for it and not trained, and the
second request goes on from there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from rollouts.renderer import Renderer
from rollouts.rendering.conversation import Prompt
from rollouts.seeds import derive_seed
from rollouts.settings import EpisodeSettings
from rollouts.types import Completion, FinishReason, Policy


def most_answer_tokens(settings: EpisodeSettings, renderer: Renderer) -> int:
    """Return the most tokens of an answer: a thought that is cut off, its end, and an action."""
    if not settings.max_thought_tokens:
        return settings.max_action_tokens
    thought = settings.max_thought_tokens + len(renderer.thought_end_ids)
    return thought + settings.max_action_tokens


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the policy said to a prompt."""

    action: Completion
    """The action; the thought before it is in it, unless that was cut off."""
    thought: Completion | None = None
    """A thought that was cut off."""
    thought_end_ids: tuple[int, ...] = ()
    """What was written for the policy between the two."""

    @property
    def ids_before_action(self) -> tuple[int, ...]:
        """The ids of a thought that was cut off, and of its end."""
        return () if self.thought is None else (*self.thought.token_ids, *self.thought_end_ids)


@dataclass(kw_only=True)
class Sampler:
    """Asks the policy in one episode. Ids that it has read or written are never written again."""

    policy: Policy
    renderer: Renderer
    settings: EpisodeSettings
    temperature: float
    """The sampling temperature; 0 is greedy."""
    seed: int | None
    """Each request has a seed derived from it; None draws at random."""
    ask: Callable[[Awaitable[Completion]], Awaitable[Completion]]
    """Waits for a completion."""
    ids: list[int] = field(default_factory=list)
    """The last prompt and the answer to it."""
    asked: int = 0
    """The requests so far."""

    def length(self, prompt: Prompt) -> int:
        """Return the number of ids that the policy would read with a prompt."""
        return len(prompt.token_ids) + (0 if prompt.is_new else len(self.ids))

    async def answer(self, prompt: Prompt) -> Answer:
        """Sample a thought, if the policy has one, and an action."""
        most_thought = self.settings.max_thought_tokens
        most_action = self.settings.max_action_tokens
        if not most_thought:
            return Answer(action=await self.sample(prompt, most_action))
        first = await self.sample(prompt, most_thought)
        cut = first.finish_reason is FinishReason.LENGTH
        thought = self.renderer.answers.thought_tokens(first.token_ids)
        if thought is None and cut:
            end = self.renderer.thought_end_ids
            action = await self.sample(Prompt(token_ids=end), most_action)
            return Answer(action=action, thought=first, thought_end_ids=end)
        if thought is None:
            # The policy ended its answer in the middle of a thought.
            return Answer(action=first)
        return Answer(action=await self._with_whole_action(first, thought + most_action))

    async def sample(self, prompt: Prompt, max_tokens: int) -> Completion:
        """Sample after a prompt, up to and with an end token or the id that completes a stop."""
        if prompt.is_new:
            self.ids = []
        self.ids += prompt.token_ids
        request = self.policy.complete(
            tuple(self.ids),
            max_tokens=max_tokens,
            temperature=self.temperature,
            stop_token_ids=self.renderer.end_token_ids,
            seed=None if self.seed is None else derive_seed(self.seed, self.asked),
            stop=self.renderer.stop,
        )
        self.asked += 1
        completion = self.renderer.answers.until_stop(await self.ask(request))
        self.ids += completion.token_ids
        return completion

    async def _with_whole_action(self, first: Completion, most: int) -> Completion:
        """Return an answer of at most `most` ids that begins with `first`."""
        sampled = len(first.token_ids)
        begin = len(self.ids) - sampled
        whole = first
        if sampled > most:
            whole = first.cut(most, FinishReason.LENGTH)
        elif sampled < most and first.finish_reason is FinishReason.LENGTH:
            rest = await self.sample(Prompt(token_ids=()), most - sampled)
            # A stop string may begin before the cut.
            whole = self.renderer.answers.until_stop(first.with_rest(rest))
        self.ids[begin:] = whole.token_ids
        return whole
