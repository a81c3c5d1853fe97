"""`agent-rl prompt`: what a policy will read, in two turns that stand for any episode."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from agent_rl.config import Config
from agent_rl.display import console
from agent_rl.policy.loading import load_description
from rollouts import Completion, FinishReason, PromptSettings
from rollouts.actions import action_text
from rollouts.renderer import ChatRenderer, make_renderer
from rollouts.rendering.conversation import Conversation
from rollouts.rendering.end_tokens import end_ids
from rollouts.rendering.histories import make_history
from rollouts.rendering.judgement import Judgement

FIRST, COMMAND, SECOND = "You see a desk 1.", "go to desk 1", "On the desk 1, you see a mug 3."
"""The two turns: an observation, a command, the next observation."""
_THOUGHT = "<think>\nThe desk is near.\n</think>\n\n"
_ADMISSIBLE = ("go to desk 1", "look")


@dataclass(frozen=True, kw_only=True)
class TwoTurns:
    """The prompts of two turns, and how they are made."""

    judgement: Judgement | None
    """Of the chat template; None for the plain format."""
    ends: tuple[str, ...]
    """The tokens that end an answer, with their ids."""
    first: str
    """The first prompt, as text with its special tokens."""
    answer: str
    """An answer with its end token."""
    appended: str
    """What continues both to the second prompt; empty if that is a new one."""
    second: str
    """The whole second prompt."""


def two_turns(tokenizer: Any, settings: PromptSettings, ends: Sequence[int] = ()) -> TwoTurns:
    """Return the prompts of two turns.

    Args:
        ends: the model's own end tokens.

    Raises:
        ValueError: the tokenizer does not fit the format.
    """
    renderer = make_renderer(tokenizer, settings, ends=ends)
    judgement = renderer.judgement if isinstance(renderer, ChatRenderer) else None
    conversation = Conversation(renderer, make_history(settings))
    first = conversation.prompt(FIRST, _ADMISSIBLE).token_ids
    answer = renderer.action_ids(COMMAND)
    if judgement is not None and settings.think:
        # An expert has no thoughts, and a policy has.
        said = f"{_THOUGHT}{action_text(COMMAND, think=True)}".removeprefix(judgement.opened)
        answer = (*tokenizer.encode(said, add_special_tokens=False), renderer.end_token_ids[0])
    completion = Completion(
        token_ids=answer,
        logprobs=(0.0,) * len(answer),
        finish_reason=FinishReason.STOP,
        versions=((0, 0),),
    )
    conversation.add(FIRST, completion, renderer.parse(completion))
    second = conversation.prompt(SECOND, _ADMISSIBLE)

    def text(ids: Sequence[int]) -> str:
        shown: str = tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return shown

    return TwoTurns(
        judgement=judgement,
        ends=tuple(f"{tokenizer.convert_ids_to_tokens(i)} ({i})" for i in renderer.end_token_ids),
        first=text(first),
        answer=text(answer),
        appended="" if second.is_new else text(second.token_ids),
        second=text(second.token_ids if second.is_new else (*first, *answer, *second.token_ids)),
    )


def show_prompts(config: Config, source: str) -> None:
    """Print the prompts of two turns of a policy, and what was found about its chat template.

    Args:
        source: as in `load_policy`; no weights are loaded.

    Raises:
        ValueError: there is no policy at `source`, or it does not fit `prompt`.
    """
    description, tokenizer = load_description(source, revision=config.model.revision_of(source))
    turns = two_turns(tokenizer, config.prompt, end_ids(description.eos_token_id, source))
    for line in (*_about(turns), *_about_answers(config)):
        console.print(line, markup=False)
    _show("the first prompt", turns.first)
    _show("an answer", turns.answer)
    if turns.appended:
        _show("what continues both to the second prompt", turns.appended)
    else:
        _show("the second prompt, which is a new one", turns.second)


def _show(title: str, part: str) -> None:
    console.print(Text(f"--- {title}:", style="bold"))
    console.print(part, markup=False)


def _about_answers(config: Config) -> Iterator[str]:
    prompt, limit = config.prompt, config.episode.max_thought_tokens
    if prompt.stop:
        yield f"an answer also ends after: {', '.join(map(repr, prompt.stop))}"
    if prompt.text_after_action == "ignore":
        yield "text after the action is ignored"
    if limit:
        yield f"a thought of {limit} tokens is cut off, and goes on with {prompt.thought_end!r}"


def _about(turns: TwoTurns) -> Iterator[str]:
    judgement = turns.judgement
    yield "format: plain" if judgement is None else f"format: chat, {judgement.how}"
    if judgement is not None and judgement.why_not_append:
        yield f"why not append: {judgement.why_not_append}"
    if judgement is not None and judgement.kept:
        yield f"earlier turns keep {judgement.kept!r}, which the template would drop"
    if judgement is not None and judgement.opened:
        yield f"the policy goes on with {judgement.opened!r}, which the prompt begins"
    yield f"an answer ends with: {', '.join(turns.ends)}"
