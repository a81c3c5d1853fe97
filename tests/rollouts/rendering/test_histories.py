"""What each history shows of four turns: o0 > a0, o1 > a1, o2 > a2, o3 > a3."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from rollouts.rendering.histories import (
    Excerpt,
    Exchange,
    HistoryFailed,
    make_history,
)
from rollouts.settings import PromptSettings
from rollouts.types import Completion, FinishReason, ParsedAction

COMPLETION = Completion(
    token_ids=(1,), logprobs=(0.0,), finish_reason=FinishReason.STOP, versions=((0, 0),)
)
PAST = [
    Exchange(
        observation=f"o{n}",
        completion=COMPLETION,
        action=ParsedAction(text=f"a{n}", command=f"a{n}"),
    )
    for n in range(4)
]
SUMMARY = replace(PAST[0], action=ParsedAction(text="all is well", command=None), is_summary=True)


def shown(past: Sequence[Exchange], **settings: object) -> tuple[str, str]:
    """The opening, and the actions of the turns that are shown in full."""
    excerpt = make_history(PromptSettings.model_validate(settings)).excerpt(past)
    return excerpt.opening, " ".join(exchange.action.text for exchange in excerpt.exchanges)


def commands(turns: Sequence[Exchange]) -> str:
    """A summary by code."""
    return "Done: " + ", ".join(str(turn.action.command) for turn in turns)


def no_text(turns: Sequence[Exchange]) -> int:
    return len(turns)


def too_short(turns: Sequence[Exchange]) -> str:
    return turns[1].observation


def test_full_shows_all() -> None:
    assert shown([]) == ("", "")
    assert shown(PAST) == ("", "a0 a1 a2 a3")


def test_a_window_shows_the_first_observation_and_the_last_turns() -> None:
    assert shown(PAST[:2], history="window") == ("", "a0 a1")
    assert shown(PAST[:3], history="window") == ("o0\n\n[...]\n\n", "a1 a2")
    assert shown(PAST, history="window") == ("o0\n\n[...]\n\n", "a2 a3")
    assert shown(PAST, history="window", window=0) == ("o0\n\n[...]\n\n", "")


def test_observations_come_without_actions() -> None:
    assert shown([], history="observations") == ("", "")
    assert shown(PAST[:2], history="observations") == ("o0\n\no1\n\n", "")


def test_code_may_tell_what_is_left_out() -> None:
    name = f"{__name__}:commands"
    assert shown(PAST[:2], history=name) == ("", "a0 a1")
    assert shown(PAST, history=name) == ("o0\n\nDone: a0, a1\n\n", "a2 a3")


@pytest.mark.parametrize(
    ("function", "message"),
    [("no_text", "returned int, not text"), ("too_short", "raised IndexError: list index out of")],
)
def test_code_that_fails_is_named(function: str, message: str) -> None:
    name = f"{__name__}:{function}"
    with pytest.raises(HistoryFailed, match=rf"prompt\.history {name} {message}"):
        shown(PAST[:3], history=name)


@pytest.mark.parametrize("name", ["no.such.module:f", f"{__name__}:no_such", f"{__name__}:PAST"])
def test_a_function_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=rf"prompt\.history: .*{name}"):
        make_history(PromptSettings(history=name))


def test_the_policy_sums_up_after_so_many_turns() -> None:
    history = make_history(
        PromptSettings(history="summary", window=2, summary_request="Well?", summary_tokens=9)
    )
    assert history.request(PAST[:1]) is None
    request = history.request(PAST[:2])
    assert request is not None
    assert (request.text, request.max_tokens) == ("Well?", 9)
    assert history.request([*PAST[:2], SUMMARY]) is None
    assert history.request([*PAST[:2], SUMMARY, PAST[2]]) is None
    assert history.request([*PAST[:2], SUMMARY, *PAST[2:]]) is not None
    assert shown(PAST[:2], history="summary") == ("", "a0 a1")
    assert shown([*PAST[:2], SUMMARY], history="summary") == ("o0\n\nall is well\n\n", "")
    later = [*PAST[:2], SUMMARY, PAST[2]]
    assert shown(later, history="summary") == ("o0\n\nall is well\n\n", "a2")


def test_an_excerpt_goes_on_if_it_shows_the_same_and_one_more() -> None:
    two = Excerpt(exchanges=PAST[:2])
    assert Excerpt(exchanges=PAST[:3]).goes_on(two)
    assert not Excerpt(exchanges=PAST[:2]).goes_on(two)
    assert not Excerpt(exchanges=PAST[:4]).goes_on(two)
    assert not Excerpt(exchanges=PAST[1:4]).goes_on(two)
    assert not Excerpt(opening="o", exchanges=PAST[:3]).goes_on(two)


def test_a_summary_is_shown_without_its_thought_if_thoughts_are_left_out() -> None:
    said = ParsedAction(text="<think>hm</think>\nall is well", command=None)
    past = [*PAST[:2], replace(SUMMARY, action=said)]
    assert shown(past, history="summary") == (f"o0\n\n{said.text}\n\n", "")
    without = shown(past, history="summary", think=True, history_thoughts=False)
    assert without == ("o0\n\nall is well\n\n", "")
