"""Reads the ids of an answer: where a stop string ends it, where its thought ends, its command.

A text may end within a token. The ids of an answer that a stop string ends are those up to and with
the id that completes it. For example, with the stop string ">>" (`|` separates tokens):

    sampled   go| to| desk| 1| >|>\\n|You| see
    kept      go| to| desk| 1| >|>\\n            these six ids are trained
    command   go to desk 1                      neither the stop string nor what follows it
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rollouts.actions import TAGS, parse_action
from rollouts.settings import PromptSettings
from rollouts.types import Completion, FinishReason, ParsedAction

_BEGIN, _END, _, _CLOSE = TAGS


@dataclass(frozen=True, kw_only=True)
class FoundText:
    """A text within another one."""

    text: str
    """The text."""
    begin: int
    """Its first character."""

    @property
    def end(self) -> int:
        """The first character after it."""
        return self.begin + len(self.text)


def first_of(texts: Sequence[str], within: str) -> FoundText | None:
    """Return the text that is whole first; None if `within` has none of them."""
    found = [FoundText(text=text, begin=within.find(text)) for text in texts if text in within]
    return min(found, key=lambda one: one.end, default=None)


def ids_until(
    texts: Sequence[str], ids: Sequence[int], decode: Callable[[Sequence[int]], str]
) -> int | None:
    """Return how many of `ids` it takes to complete one of `texts`; None if they have none."""

    def complete(count: int) -> bool:
        return first_of(texts, decode(ids[:count])) is not None

    if not complete(len(ids)):
        return None
    # More ids add to the text, and change at most a character that is not whole.
    return bisect_left(range(len(ids)), True, key=complete)


class AnswerReader:
    """Reads answers of one format."""

    def __init__(self, tokenizer: Any, settings: PromptSettings, opened: str = "") -> None:
        """Prepare.

        Args:
            opened: the thought that the prompt has begun (see `Judgement`).
        """
        self._tokenizer, self._settings, self._opened = tokenizer, settings, opened

    def text(self, ids: Sequence[int]) -> str:
        """Return ids as text."""
        # Special tokens stay in the text, so that a command with one inside is no valid command.
        # The clean-up would rewrite spaces, but a command must match the game's to the letter.
        text: str = self._tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def parse(self, completion: Completion, before: Sequence[int] = ()) -> ParsedAction:
        """Read a completion as an action.

        Args:
            before: ids of the same answer before it: a thought, and the end written for it.
        """
        ids, reason = completion.token_ids, completion.finish_reason
        if reason is FinishReason.STOP:
            ids = ids[:-1]
        text = self.text((*before, *ids))
        said = text
        if reason is FinishReason.STOP_TEXT:
            said = text[: len(text) - self._characters_left_out(ids)]
        action = parse_action(
            # The prompt may have begun a thought, of which this is the rest.
            self._opened + said,
            think=self._settings.think,
            whole=reason is not FinishReason.LENGTH,
            ignore_rest=self._settings.text_after_action == "ignore",
        )
        return ParsedAction(text=text, command=action.command)

    def until_stop(self, completion: Completion) -> Completion:
        """Return the completion up to and with the id that completes a stop string."""
        stop = self._settings.stop
        count = ids_until(stop, completion.token_ids, self.text) if stop else None
        if count is None:
            return completion
        return completion.cut(count, FinishReason.STOP_TEXT)

    def thought_tokens(self, ids: Sequence[int]) -> int | None:
        """Return how many ids at the beginning are a thought with its end.

        It is 0 if no thought has begun, and None if it has not ended.
        """
        if not self._settings.think or _BEGIN not in self._opened + self.text(ids):
            return 0
        return ids_until((_END,), ids, self.text)

    def _characters_left_out(self, ids: Sequence[int]) -> int:
        """The number of characters at the end that are no part of an action."""
        text = self.text(ids)
        found = first_of(self._settings.stop, text)
        if found is None:
            return 0
        kept = 0
        if self._settings.think and _CLOSE in found.text:
            # The end of an action is a part of it, as its form asks for it.
            kept = found.text.index(_CLOSE) + len(_CLOSE)
        return len(text) - found.begin - kept
