"""The prompts of an episode as text, for each history, in both formats."""

import pytest

from rollouts.renderer import Renderer, make_renderer
from rollouts.rendering.conversation import Conversation
from rollouts.rendering.histories import make_history
from rollouts.settings import PromptSettings
from rollouts.types import Completion, FinishReason
from tests.builders.models import CHATML, make_tokenizer

TURNS = (("Guess.", "guess 1"), ("Higher.", "guess 5"), ("Lower.", "guess 3"), ("Higher.", ""))


def prompts(settings: PromptSettings) -> tuple[list[str], list[bool]]:
    """All that the policy sees in each turn, and whether it is a new prompt."""
    tokenizer = make_tokenizer(chat_template=CHATML if settings.format == "chat" else None)
    renderer = make_renderer(tokenizer, settings)
    conversation = Conversation(renderer, make_history(settings))
    texts, new = [], []
    ids: list[int] = []
    for observation, command in TURNS:
        prompt = conversation.prompt(observation, [command])
        ids = [*(() if prompt.is_new else ids), *prompt.token_ids]
        texts.append(tokenizer.decode(ids))
        new.append(prompt.is_new)
        completion = said(renderer, command)
        conversation.add(observation, completion, renderer.parse(completion))
        ids += completion.token_ids
    return texts, new


def said(renderer: Renderer, command: str) -> Completion:
    ids = renderer.action_ids(command)
    return Completion(
        token_ids=ids,
        logprobs=(0.0,) * len(ids),
        finish_reason=FinishReason.STOP,
        versions=((0, 0),),
    )


def test_a_full_history_only_grows() -> None:
    texts, new = prompts(PromptSettings())
    assert new == [False] * 4
    assert texts[2] == "<s>Guess.\n> guess 1</s>\nHigher.\n> guess 5</s>\nLower.\n> "


def test_a_window_writes_new_prompts_when_a_turn_falls_out() -> None:
    texts, new = prompts(PromptSettings(history="window", window=1, system="Win."))
    assert new == [False, False, True, True]
    assert texts[1] == "<s>Win.\n\nGuess.\n> guess 1</s>\nHigher.\n> "
    assert texts[2] == "<s>Win.\n\nGuess.\n\n[...]\n\nHigher.\n> guess 5</s>\nLower.\n> "
    assert texts[3] == "<s>Win.\n\nGuess.\n\n[...]\n\nLower.\n> guess 3</s>\nHigher.\n> "


def test_a_window_in_a_chat_keeps_the_order_of_roles() -> None:
    texts, _ = prompts(PromptSettings(format="chat", history="window", window=1))
    assert texts[2] == (
        "<|im_start|>user\nGuess.\n\n[...]\n\nHigher.<|im_end|>\n"
        "<|im_start|>assistant\nguess 5<|im_end|>\n"
        "<|im_start|>user\nLower.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_observations_are_one_message() -> None:
    settings = PromptSettings(format="chat", history="observations", show_admissible_commands=True)
    texts, new = prompts(settings)
    assert new == [False, True, True, True]
    assert texts[1] == (
        "<|im_start|>user\nGuess.\n\nHigher.\n\nYou can now do one of these:\nguess 5<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("form", ["plain", "chat"])
def test_a_new_prompt_of_everything_is_what_was_appended(form: str) -> None:
    settings = PromptSettings.model_validate({"format": form})
    tokenizer = make_tokenizer(chat_template=CHATML if form == "chat" else None)
    renderer = make_renderer(tokenizer, settings)
    growing = Conversation(renderer, make_history(settings))
    rewriting = make_renderer(tokenizer, settings)
    rewriting.appends = False
    written = Conversation(rewriting, make_history(settings))
    ids: tuple[int, ...] = ()
    for observation, command in TURNS[:3]:
        appended, whole = (one.prompt(observation, None) for one in (growing, written))
        ids = (*ids, *appended.token_ids)
        assert whole.token_ids == ids
        assert whole.is_new == (observation != "Guess.")
        completion = said(renderer, command)
        ids = (*ids, *completion.token_ids)
        for one in (growing, written):
            one.add(observation, completion, renderer.parse(completion))
