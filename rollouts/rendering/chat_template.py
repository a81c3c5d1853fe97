"""A tokenizer's chat template, judged before it is used: it must only append."""

import ctypes
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

Message = dict[str, str]
"""`role` and `content`, as chat templates take them."""

_WAY_OUT = "set prompt.format: plain, or use a model with another chat template"
_MOST_SECONDS = 10.0
"""For all the short conversations that a template is tried with; they take milliseconds."""
_MOST_CHARACTERS = 1_000_000
"""Of one conversation, which has the length of a few messages."""
_MOST_QUOTED = 300
"""Characters of a template's own sentence in a message."""

_SYSTEM = {"role": "system", "content": "Answer with one command."}
_USER = {"role": "user", "content": "You see a desk 1."}


class TemplateRefused(ValueError):
    """A template does not do what a renderer needs."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"prompt.format: {reason}; {_WAY_OUT}")
        self.reason = reason
        """What is wrong, without a setting and a way out."""


class ChatTemplate:
    """Renders conversations with the chat template of a tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise TemplateRefused("chat needs a tokenizer with a chat template; this one has none")

    @property
    def source(self) -> str:
        """The text of the template, or of all templates if the tokenizer has several."""
        return str(self._tokenizer.chat_template)

    def render(self, messages: Sequence[Message]) -> str:
        """Return a conversation's text, up to where the next assistant message begins.

        Raises:
            TemplateRefused: the template fails, or writes far too much.
        """
        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is a program, and may raise anything
            raise TemplateRefused(
                f"the tokenizer's chat template fails: {_sentence(error)}"
            ) from error
        if len(text) > _MOST_CHARACTERS:
            raise TemplateRefused(
                f"the tokenizer's chat template writes {len(text):,} characters for "
                f"{len(messages)} messages"
            )
        return text

    def tail(self, messages: Sequence[Message]) -> str:
        """Return the text after the last assistant message, its end token included.

        Args:
            messages: a conversation that ends with an assistant and a user message.

        Raises:
            TemplateRefused: with the user message, the template changes the text before it.
        """
        before, action = self.render(messages[:-2]), messages[-2]["content"]
        whole = self.render(messages)
        if not whole.startswith(before + action):
            raise TemplateRefused(
                "the tokenizer's chat template rewrites the past: with one more message, an "
                f"earlier assistant message {action!r} is no longer shown as it was said (some "
                "templates drop <think> from earlier turns), so the policy's prompt could not be "
                "trained on"
            )
        return whole.removeprefix(before + action)

    def check(self, opening: Sequence[Message], action: str) -> str:
        """Try the template, and return the one token that it writes after an assistant message.

        A template renders whole conversations, but a renderer may only append. So two rules are
        checked with short conversations: a further message leaves the text before it alone, and
        every turn is written alike. And nothing is left out.

        Args:
            opening: the run's messages before the first observation.
            action: an answer such as the run's policy gives.

        Raises:
            TemplateRefused: the template breaks a rule, or does not come to an end.
        """
        return _in_time(lambda: self._checked_end(opening, action))

    def _checked_end(self, opening: Sequence[Message], action: str) -> str:
        said = {"role": "assistant", "content": action}
        self._check_that_all_is_shown([m["role"] for m in opening])
        turns = [*opening, _USER, said, _USER]
        first, later = self.tail(turns), self.tail([*turns, said, _USER])
        if first != later:
            raise TemplateRefused(
                "the tokenizer's chat template shows the same message differently later on "
                f"({first!r}, then {later!r}), so turns cannot be appended"
            )
        special_tokens: list[str] = [*self._tokenizer.get_added_vocab(), self._tokenizer.eos_token]
        ends = [token for token in special_tokens if token and first.startswith(token)]
        if not ends:
            raise TemplateRefused(
                f"after an assistant message the chat template writes {first[:20]!r}, which does "
                "not begin with one special token that could end an action"
            )
        # One special token may begin another, such as "<|im" and "<|im_end|>".
        return max(ends, key=len)

    def _check_that_all_is_shown(self, roles: Sequence[str]) -> None:
        messages = [_SYSTEM, _USER] if "system" in roles else [_USER]
        text = self.render(messages)
        for message in messages:
            if message["content"] not in text:
                raise TemplateRefused(
                    f"the tokenizer's chat template leaves out the {message['role']} message"
                )


def _sentence(error: Exception) -> str:
    """A template's own words, or the kind of error that it met."""
    from jinja2 import TemplateError

    said = " ".join(str(error).split())[:_MOST_QUOTED]
    if isinstance(error, TemplateError) and said:
        return said
    return f"{type(error).__name__}: {said}"


def _in_time(check: Callable[[], str]) -> str:
    """Return the check's result; a template that does not come to an end is refused.

    Jinja has no limit on loops within loops. The check runs in a thread, which can be given up.
    """
    results: list[str] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(check())
        except Exception as error:
            errors.append(error)
        except SystemExit:  # given up, see below
            return

    thread = Thread(target=work, name="chat-template", daemon=True)
    thread.start()
    thread.join(_MOST_SECONDS)
    if thread.is_alive():
        # Ends the thread at its next line; templates are compiled to Python.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        )
        raise TemplateRefused(
            f"the tokenizer's chat template did not come to an end in {_MOST_SECONDS:g} s"
        )
    if errors:
        raise errors[0]
    return results[0]
