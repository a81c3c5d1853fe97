"""The prompts of one episode: the renderer writes what the history chooses."""

from collections.abc import Sequence
from dataclasses import dataclass

from rollouts.renderer import Renderer
from rollouts.rendering.histories import Excerpt, Exchange, History, SummaryRequest
from rollouts.types import Completion, ParsedAction


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What comes before an action."""

    token_ids: tuple[int, ...]
    """All ids, or those that the last prompt and its completion are continued with."""
    is_new: bool = False
    """Whether they are all ids."""


class Conversation:
    """An episode's exchanges so far, and the prompts that come of them."""

    def __init__(self, renderer: Renderer, history: History) -> None:
        """Begin an episode."""
        self._renderer, self._history = renderer, history
        self._past: list[Exchange] = []
        self._shown = Excerpt()
        """What the last prompt showed of the past."""

    def request(self) -> SummaryRequest | None:
        """What to ask the policy for before its next action; None asks nothing."""
        return self._history.request(self._past)

    def prompt(self, observation: str, admissible: Sequence[str] | None) -> Prompt:
        """Return the prompt of the next action.

        It is appended to the last one if it shows the same and one more turn.

        Raises:
            HistoryFailed: the history's own function did not return a text.
        """
        if not self._past:
            return Prompt(token_ids=self._renderer.first(observation, admissible))
        before, self._shown = self._shown, self._history.excerpt(self._past)
        if self._renderer.appends and self._shown.goes_on(before):
            ended = self._past[-1].completion.finish_reason
            return Prompt(token_ids=self._renderer.following(observation, admissible, ended))
        ids = self._renderer.whole(self._shown, observation, admissible)
        return Prompt(token_ids=ids, is_new=True)

    def add(
        self,
        observation: str,
        completion: Completion,
        action: ParsedAction,
        *,
        is_summary: bool = False,
    ) -> None:
        """Note what was said to an observation."""
        exchange = Exchange(
            observation=observation, completion=completion, action=action, is_summary=is_summary
        )
        self._past.append(exchange)
