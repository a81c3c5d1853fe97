"""Judges a chat template by what a run will send it: may prompts grow, or is each a new one?

A template renders whole conversations, but a prompt that grows keeps all that was said, by id. So
short conversations show what a further message changes:

    before      <|im_start|>user\\nYou see a desk 1.<|im_end|>\\n<|im_start|>assistant\\n
    afterwards  <|im_start|>user\\nYou see a desk 1.<|im_end|>\\n<|im_start|>assistant\\n
                go to desk 1<|im_end|>\\n<|im_start|>user\\n...
"""

import ctypes
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from threading import Thread
from typing import Literal

from rollouts.actions import action_text, parse_action
from rollouts.rendering.chat_template import ChatTemplate, Message, TemplateRefused

_MOST_SECONDS = 10.0
"""For all the short conversations that a template is tried with; they take milliseconds."""
_SYSTEM: Message = {"role": "system", "content": "Answer with one command."}
PROBE: Message = {"role": "user", "content": "You see a desk 1."}
"""The observation that a template is tried with."""
_THOUGHT = "the desk is near"
_OPEN = re.compile(r"<think>\s*\Z")
"""The end of a prompt in which the policy thinks already."""
_EMPTY = re.compile(r"<think>\s*</think>\s*")
"""A thought without a word, which tells some models not to think."""
_SHOWN = 60
"""Characters of a template's text in a message."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How the prompts of a run's turns can be made with its chat template."""

    how: Literal["append", "whole"]
    """`append`: what is new is appended to the ids that are there. `whole`: the template shows the
    past otherwise later on, so each turn has a new prompt."""
    why_not_append: str = ""
    """What a prompt that grows would show otherwise than the template; empty for `append`."""
    kept: str = ""
    """An empty thought that stays in earlier turns, though the template drops it there."""
    end: str
    """The special token that the template writes after an answer."""
    opened: str = ""
    """The thought that the prompt has begun: the policy writes the rest of it. Mostly empty."""
    lead: str = ""
    """What precedes a command in an answer without thoughts: a space, or the end of `opened`."""
    answer: Message
    """The answer that the template was tried with."""
    command_text: str
    """The end of `answer`; no other text has it."""

    def tail_of(self, text: str) -> str:
        """Return what follows `answer`, without the end token, in a rendered conversation.

        Raises:
            TemplateRefused: something else than the end token follows.
        """
        tail = text.rpartition(self.command_text)[2]
        if not tail.startswith(self.end):
            raise TemplateRefused(
                f"the chat template writes {tail[:_SHOWN]!r} after an answer, and mostly "
                f"{self.end!r}: what the environment says has changed it"
            )
        return tail.removeprefix(self.end)


def judge(
    template: ChatTemplate,
    opening: Sequence[Message],
    *,
    think: bool,
    history_thoughts: bool = True,
) -> Judgement:
    """Try a template with short conversations of the run's kind.

    Args:
        opening: the run's messages before the first observation.
        think: whether the policy's answers have thoughts.
        history_thoughts: whether they are sent to the template with them.

    Raises:
        TemplateRefused: the template fails, leaves a message out, has no end token, writes today's
            date, begins thoughts that `think` excludes, or does not come to an end.
    """

    def judged() -> Judgement:
        judgement = _judged(template, opening, think=think)
        return judgement if history_thoughts else _forgetting(template, opening, judgement)

    return _in_time(template.name, judged)


def _forgetting(
    template: ChatTemplate, opening: Sequence[Message], judgement: Judgement
) -> Judgement:
    """The judgement of a run that leaves earlier thoughts out; raises `TemplateRefused`."""
    said = {**judgement.answer, "content": judgement.command_text}
    first = [*opening, PROBE]
    before, after = template.render(first), template.render([*first, said, PROBE])
    _Past.of(before, after, judgement.command_text, template)
    return replace(
        judgement,
        how="whole",
        why_not_append="prompt.history_thoughts: false leaves out the thoughts of earlier turns",
        kept="",
    )


def _judged(template: ChatTemplate, opening: Sequence[Message], *, think: bool) -> Judgement:
    _check_that_all_is_shown(template, [m["role"] for m in opening])
    if template.writes_date([*opening, PROBE]):
        option = "date_string" if "date_string" in template.source else "strftime_now"
        raise TemplateRefused(
            f"{template.name} writes the date of today, so that prompts change from day to day",
            key="prompt.template_options",
            way_out=f"pin it, as with {{{option}: 26 Jul 2024}}",
        )
    first: Judgement | None = None
    for answer, command_text in _answers(f"go to desk {secrets.randbits(64)}", think=think):
        judgement = _judged_with(template, opening, answer, command_text, think=think)
        if judgement.how == "append":
            return judgement
        first = first or judgement
    assert first is not None
    return first


def _answers(command: str, *, think: bool) -> Iterator[tuple[Message, str]]:
    """Answers of the policy, with the text that ends each.

    Templates take different white space around thoughts for granted.
    """
    text = action_text(command, think=think)
    if not think:
        yield {"role": "assistant", "content": text}, text
        return
    for thought in (f"<think>{_THOUGHT}</think>", f"<think>\n{_THOUGHT}\n</think>\n\n"):
        yield {"role": "assistant", "content": thought + text}, text


def _judged_with(
    template: ChatTemplate,
    opening: Sequence[Message],
    answer: Message,
    command_text: str,
    *,
    think: bool,
) -> Judgement:
    first = [*opening, PROBE]
    second = [*first, answer, PROBE]
    prompts = [template.render(said) for said in (first, second, [*second, answer, PROBE])]
    opened = _OPEN.search(prompts[0])
    if opened and not think:
        raise _begins_thoughts(template)
    now, later = (
        _Past.of(before, after, command_text, template) for before, after in pairwise(prompts)
    )
    begun = opened[0] if opened else ""
    why = now.why_not_kept(think=think, opened=begun)
    why = why or later.why_not_kept(think=think, opened=begun)
    if not why and now != later:
        why = (
            "shows the same message differently later on "
            f"({_quoted(now.shown, now.tail)}, then {_quoted(later.shown, later.tail)})"
        )
    return Judgement(
        how="whole" if why else "append",
        why_not_append=f"{template.name} {why}" if why else "",
        kept="" if why else now.dropped,
        end=_end(template, now.tail),
        opened=begun,
        lead=_lead(now.shown, opened=bool(begun)),
        answer=answer,
        command_text=command_text,
    )


@dataclass(frozen=True, kw_only=True)
class _Past:
    """What a further message makes of the last prompt and the answer to it."""

    dropped: str
    """The end of the prompt, if it is no longer there."""
    shown: str
    """What is now between the prompt and the command."""
    tail: str
    """What follows the command."""

    @classmethod
    def of(cls, before: str, after: str, command_text: str, template: ChatTemplate) -> "_Past":
        head, found, tail = after.rpartition(command_text)
        if not found:
            raise TemplateRefused(f"{template.name} leaves out the assistant message")
        pairs = enumerate(zip(before, head, strict=False))
        common = next((i for i, (x, y) in pairs if x != y), min(len(before), len(head)))
        return cls(dropped=before[common:], shown=head[common:], tail=tail)

    def why_not_kept(self, *, think: bool, opened: str) -> str:
        """Why the prompt and the answer cannot stay as they are; empty if they can."""
        if think and _THOUGHT not in self.shown:
            return "drops the thoughts of earlier turns, and a prompt that only grows keeps them"
        if self.dropped and (think or self.shown or not _EMPTY.fullmatch(self.dropped)):
            return (
                f"rewrites the past: with one more message, {_quoted(self.dropped)} before an "
                f"earlier answer has become {_quoted(self.shown)}"
            )
        said = f"{opened}{self.shown}{action_text('look', think=think)}"
        if parse_action(said, think=think).command != "look" or (not think and self.shown.strip()):
            return (
                f"shows an earlier answer with {_quoted(self.shown)} before the command, which is "
                "not what the policy said"
            )
        return ""


def _lead(shown: str, *, opened: bool) -> str:
    if opened:
        return shown.replace(_THOUGHT, "", 1)
    return shown[: len(shown) - len(shown.lstrip())]


def _end(template: ChatTemplate, tail: str) -> str:
    ends = [token for token in template.special_tokens() if tail.startswith(token)]
    if not ends:
        raise TemplateRefused(
            f"after an assistant message the chat template writes {tail[:20]!r}, which does not "
            "begin with one special token that could end an action"
        )
    # One special token may begin another, such as "<|im" and "<|im_end|>".
    return max(ends, key=len)


def _check_that_all_is_shown(template: ChatTemplate, roles: Sequence[str]) -> None:
    messages = [_SYSTEM, PROBE] if "system" in roles else [PROBE]
    text = template.render(messages)
    for message in messages:
        if message["content"] not in text:
            raise TemplateRefused(f"{template.name} leaves out the {message['role']} message")


def _begins_thoughts(template: ChatTemplate) -> TemplateRefused:
    option = "enable_thinking"
    ways_out = "set prompt.think: true"
    if option in template.source:
        ways_out += f", or prompt.template_options: {{{option}: false}}"
    return TemplateRefused(
        f"{template.name} begins each answer with <think>, and with prompt.think: false an answer "
        "has no thoughts",
        key="prompt.think",
        way_out=f"{ways_out}, or give another template in prompt.template",
    )


def _quoted(*texts: str) -> str:
    text = "".join(texts)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ...")


def _in_time(name: str, work: Callable[[], Judgement]) -> Judgement:
    """Return the judgement; a template that does not come to an end is refused.

    Jinja has no limit on loops within loops. The work runs in a thread, which can be given up.
    """
    results: list[Judgement] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)
        except SystemExit:  # given up, see below
            return

    thread = Thread(target=run, name="chat-template", daemon=True)
    thread.start()
    thread.join(_MOST_SECONDS)
    if thread.is_alive():
        # Ends the thread at its next line; templates are compiled to Python.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        )
        raise TemplateRefused(f"{name} did not come to an end in {_MOST_SECONDS:g} s")
    if errors:
        raise errors[0]
    return results[0]
