"""Where a text ends within ids. The tags are several tokens here, which is the harder case."""

from typing import Any

import pytest

from rollouts import Completion, FinishReason, PromptSettings
from rollouts.rendering.answers import AnswerReader, FoundText, first_of, ids_until
from tests.builders.episodes import turn
from tests.builders.models import make_tokenizer

TOKENIZER = make_tokenizer()
THINK: dict[str, Any] = {"format": "chat", "think": True}


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False))


def said(text: str, reason: FinishReason = FinishReason.LENGTH) -> Completion:
    return turn(ids=ids_of(text), finish_reason=reason).completion


def reader(opened: str = "", **settings: Any) -> AnswerReader:
    return AnswerReader(TOKENIZER, PromptSettings.model_validate(settings), opened)


def test_the_first_text_is_the_one_that_is_whole_first() -> None:
    assert first_of(["look", "loo", "at"], "I look at it") == FoundText(text="loo", begin=2)
    assert first_of(["a", "I"], "I look at it") == FoundText(text="I", begin=0)
    assert first_of(["see"], "I look at it") is None
    assert first_of([], "I look at it") is None


def test_ids_are_counted_up_to_the_one_that_completes_a_text() -> None:
    # The ids of a letter each, and one id of two letters.
    words = ["a", "b", "cd", "e", "b"]

    def decode(ids: object) -> str:
        return "".join(words[i] for i in ids)  # type: ignore[attr-defined]

    ids = (0, 1, 2, 3, 4)
    assert ids_until(["bc"], ids, decode) == 3
    assert ids_until(["cd"], ids, decode) == 3
    assert ids_until(["b"], ids, decode) == 2
    assert ids_until(["a"], ids, decode) == 1
    assert ids_until(["eb"], ids, decode) == 5
    assert ids_until(["f"], ids, decode) is None


def test_a_stop_string_may_end_within_a_token() -> None:
    # "Higher" is one token of this tokenizer, as it was trained on it.
    (higher,) = ids_of("Higher")
    sampled = (*ids_of("guess 7"), higher, *ids_of("guess 1"))
    whole = turn(ids=sampled, finish_reason=FinishReason.LENGTH).completion
    stopped = reader(stop=["gh"]).until_stop(whole)
    assert stopped.token_ids == (*ids_of("guess 7"), higher)
    assert stopped.finish_reason is FinishReason.STOP_TEXT
    action = reader(stop=["gh"]).parse(stopped)
    assert (action.text, action.command) == ("guess 7Higher", "guess 7Hi")
    assert reader().until_stop(whole) == whole
    assert reader(stop=["Lower"]).until_stop(whole) == whole


@pytest.mark.parametrize(
    ("stop", "text", "command"),
    [
        ("\nObservation:", "look\nObservation: you", "look"),
        (" END", "look END", "look"),
        ("k", "look", "loo"),
    ],
)
def test_the_command_lacks_the_stop_string_and_what_follows(
    stop: str, text: str, command: str
) -> None:
    read = reader(stop=[stop])
    assert read.parse(read.until_stop(said(text))).command == command


@pytest.mark.parametrize("stop", ["</action>", "</action>\n", "ok</action>"])
def test_the_end_of_an_action_stays_if_its_form_asks_for_it(stop: str) -> None:
    read = reader(**THINK, stop=[stop])
    stopped = read.until_stop(said("<think>hm</think><action>look</action>\nYou see"))
    assert stopped.finish_reason is FinishReason.STOP_TEXT
    assert read.parse(stopped).command == "look"


def test_a_stop_string_of_the_plain_format_is_dropped_whatever_it_is() -> None:
    read = reader(stop=["</action>"])
    assert read.parse(read.until_stop(said("look</action>"))).command == "look"


def test_text_after_the_action() -> None:
    text = "<action>look</action> is best"
    end = (TOKENIZER.eos_token_id,)
    ended = turn(ids=(*ids_of(text), *end), finish_reason=FinishReason.STOP).completion
    assert reader(**THINK).parse(ended).command is None
    tolerant = reader(**THINK, text_after_action="ignore")
    assert (tolerant.parse(ended).text, tolerant.parse(ended).command) == (text, "look")
    assert tolerant.parse(said(text)).command == "look"
    assert reader(**THINK).parse(said(text)).command is None


def test_the_ids_of_a_thought() -> None:
    read = reader(**THINK)
    thought = "<think>it is odd</think>"
    assert read.thought_tokens(ids_of("<think>it is o")) is None
    assert read.thought_tokens(ids_of("<action>look")) == 0
    whole = (*ids_of(thought), *ids_of("\n<action>look"))
    assert read.thought_tokens(whole) == len(ids_of(thought))
    begun = reader("<think>\n", **THINK)
    assert begun.thought_tokens(ids_of("it is o")) is None
    assert begun.thought_tokens(ids_of("odd</think><ac")) == len(ids_of("odd</think>"))
    assert reader().thought_tokens(ids_of("<think>it is")) == 0


def test_a_thought_that_was_cut_off_is_read_with_its_action() -> None:
    read = reader(**THINK)
    before = (*ids_of("<think>it is o"), *ids_of("\n</think>\n\n"))
    end = (TOKENIZER.eos_token_id,)
    action = turn(ids=(*ids_of("<action>look</action>"), *end)).completion
    parsed = read.parse(action, before=before)
    assert parsed.command == "look"
    assert parsed.text == "<think>it is o\n</think>\n\n<action>look</action>"
