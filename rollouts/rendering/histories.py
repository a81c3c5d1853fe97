"""What of an episode's past the next prompt shows: the choices of `prompt.history`.

A prompt is the last one with more behind it, or a whole new one. For example, with a window of one
turn (`>` begins an action):

    turn 1   You are in a kitchen. > go to desk 1
    turn 2   You are in a kitchen. > go to desk 1   You see a book. > take book       (appended)
    turn 3   You are in a kitchen. ... You see a book. > take book   Taken. > look    (new)

A new prompt begins a new part of the episode, and each part is trained on exactly its own tokens.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Protocol

from rollouts.actions import without_thought
from rollouts.settings import PromptSettings
from rollouts.types import Completion, ParsedAction

LEFT_OUT = "\n\n[...]\n\n"
"""Between the first observation and the rest, if turns between them are left out."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """An observation, and what was said to it."""

    observation: str
    """The text that the environment showed."""
    completion: Completion
    """The ids of the answer."""
    action: ParsedAction
    """The answer as text, and the command in it."""
    is_summary: bool = False
    """Whether it is the policy's summary of what came before, and no action."""


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """What a prompt shows of the past, before the present observation."""

    opening: str = ""
    """Text before the first observation that it shows."""
    exchanges: Sequence[Exchange] = ()
    """The turns that it shows in full."""

    def goes_on(self, before: "Excerpt") -> bool:
        """Whether it is an earlier one and one more exchange."""
        former = before.exchanges
        return (
            self.opening == before.opening
            and len(self.exchanges) == len(former) + 1
            and all(map(is_, former, self.exchanges))
        )


@dataclass(frozen=True, kw_only=True)
class SummaryRequest:
    """What the policy is asked for between two actions."""

    text: str
    """It follows the observation."""
    max_tokens: int
    """Of the summary, its end token included."""


class HistoryFailed(Exception):
    """A function of the user's own raised an error, or returned no text."""


class History(Protocol):
    """Chooses what each prompt of an episode shows. One history serves all episodes."""

    def excerpt(self, past: Sequence[Exchange]) -> Excerpt:
        """Return what the next prompt shows of `past`.

        Raises:
            HistoryFailed: a function of the user's own did not return a text.
        """

    def request(self, past: Sequence[Exchange]) -> SummaryRequest | None:
        """Return what to ask the policy for before its next action; None asks nothing."""


class Full:
    """All of the past. The prompt only grows, so the prefix cache and the learner share it."""

    def excerpt(self, past: Sequence[Exchange]) -> Excerpt:
        return Excerpt(exchanges=tuple(past))

    def request(self, past: Sequence[Exchange]) -> SummaryRequest | None:
        return None


class Window(Full):
    """The first observation, which tells the task, and the last turns."""

    def __init__(self, turns: int) -> None:
        """Show so many turns before the present observation."""
        self._turns = turns

    def excerpt(self, past: Sequence[Exchange]) -> Excerpt:
        left_out = max(0, len(past) - self._turns)
        opening = past[0].observation + self._instead_of(past[:left_out]) if left_out else ""
        return Excerpt(opening=opening, exchanges=tuple(past[left_out:]))

    def _instead_of(self, left_out: Sequence[Exchange]) -> str:
        return LEFT_OUT


class Observations(Full):
    """All observations and no action."""

    def excerpt(self, past: Sequence[Exchange]) -> Excerpt:
        return Excerpt(opening="".join(f"{exchange.observation}\n\n" for exchange in past))


Summarise = Callable[[Sequence[Exchange]], str]
"""A function that returns the text to show in the place of turns."""


class Summarised(Window):
    """As a window, with a text of one's own code in the place of the turns before it."""

    def __init__(self, turns: int, name: str, summarise: Summarise) -> None:
        """Show what `summarise`, which errors call `name`, returns for the turns left out."""
        super().__init__(turns)
        self._name, self._summarise = name, summarise

    def _instead_of(self, left_out: Sequence[Exchange]) -> str:
        try:
            text = self._summarise(left_out)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise HistoryFailed(f"prompt.history {self._name} raised {said}") from error
        if not isinstance(text, str):
            said = type(text).__name__
            raise HistoryFailed(f"prompt.history {self._name} returned {said}, not text")
        return f"\n\n{text}\n\n"


class OwnSummary(Full):
    """The policy sums up the past itself, again and again; its summaries are trained, too."""

    def __init__(self, turns: int, request: SummaryRequest, *, thoughts: bool = True) -> None:
        """Ask with `request` after so many turns, and again after as many more.

        Args:
            thoughts: whether a summary is shown with the thought before it.
        """
        self._turns, self._request, self._thoughts = turns, request, thoughts

    def excerpt(self, past: Sequence[Exchange]) -> Excerpt:
        since = _since_summary(past)
        if since == len(past):
            return Excerpt(exchanges=tuple(past))
        shown = tuple(past[len(past) - since :])
        summary = past[len(past) - since - 1].action.text
        if not self._thoughts:
            summary = without_thought(summary, None)
        return Excerpt(opening=f"{past[0].observation}\n\n{summary}\n\n", exchanges=shown)

    def request(self, past: Sequence[Exchange]) -> SummaryRequest | None:
        return self._request if _since_summary(past) >= self._turns else None


def _since_summary(past: Sequence[Exchange]) -> int:
    """The number of exchanges after the last summary; all, if there is none."""
    for since, exchange in enumerate(reversed(past)):
        if exchange.is_summary:
            return since
    return len(past)


def make_history(settings: PromptSettings) -> History:
    """Return the history that the settings name.

    Raises:
        ValueError: they name a function that there is not.
    """
    match settings.history:
        case "full":
            return Full()
        case "window":
            return Window(settings.window)
        case "observations":
            return Observations()
        case "summary":
            request = SummaryRequest(
                text=settings.summary_request, max_tokens=settings.summary_tokens
            )
            return OwnSummary(settings.window, request, thoughts=settings.history_thoughts)
        case name:
            return Summarised(settings.window, name, _function(name))


def _function(name: str) -> Summarise:
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"prompt.history: cannot import {name!r}: {error}; is its folder on the module path? "
            "(`export PYTHONPATH=.` for a module in this one)"
        ) from error
    if not callable(function):
        raise ValueError(f"prompt.history: {name!r} is no function")
    summarise: Summarise = function
    return summarise
