"""A chat template with its options: the tokenizer's own, or that of a file."""

import inspect
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from envs.nearest import did_you_mean
from rollouts.settings import PromptSettings

Message = dict[str, str]
"""`role` and `content`, as chat templates take them."""

_WAY_OUT = (
    "set prompt.format: plain, or use a model with another chat template, or give one in "
    "prompt.template"
)
_MOST_CHARACTERS = 1_000_000
"""Of one conversation, which has the length of a few messages."""
_MOST_QUOTED = 300
"""Characters of a template's own sentence in a message."""
CLOCK = "strftime_now"
"""The function by which a template asks for the date."""
_FIELD = "reasoning_content"
"""Where many templates look for the thoughts of an answer."""
_ANSWER = re.compile(r"\s*<think>(?P<thought>.*?)</think>(?P<rest>.*)", re.DOTALL)
_TOOLS = ("tools", "documents")
"""Arguments of `apply_chat_template` that reach the template as they are."""


class TemplateRefused(ValueError):
    """A template does not do what a renderer needs."""

    def __init__(self, reason: str, *, key: str = "prompt.format", way_out: str = _WAY_OUT) -> None:
        super().__init__(f"{key}: {reason}; {way_out}")
        self.reason = reason
        """What is wrong, without a setting and a way out."""


class ChatTemplate:
    """Renders conversations with the chat template that the settings choose."""

    name: str
    """What messages call it."""
    source: str
    """The text of the template, or of all templates if the tokenizer has several."""

    def __init__(self, tokenizer: Any, settings: PromptSettings) -> None:
        """Find the template, and check the names of its options.

        Raises:
            TemplateRefused: there is no template, or no such option.
            ValueError: `prompt.template` is no readable file.
        """
        self._tokenizer = tokenizer
        self._own = read_template(settings.template)
        self.name = "the tokenizer's chat template"
        if self._own:
            self.name = f"the chat template {settings.template}"
        elif not getattr(tokenizer, "chat_template", None):
            raise TemplateRefused("chat needs a tokenizer with a chat template; this one has none")
        self.source = self._own or str(tokenizer.chat_template)
        self._days_ahead = 0
        self._options = {CLOCK: self._today, **self._checked(settings.template_options)}

    def render(self, messages: Sequence[Message]) -> str:
        """Return a conversation's text, up to where the next answer begins.

        Thoughts in an answer, between <think> and </think>, get where the template looks for them.

        Raises:
            TemplateRefused: the template fails, or writes far too much.
        """
        try:
            text: str = self._tokenizer.apply_chat_template(
                [self._with_field(message) for message in messages],
                chat_template=self._own or None,
                tokenize=False,
                add_generation_prompt=True,
                **self._options,
            )
        except Exception as error:  # a template is a program, and may raise anything
            raise TemplateRefused(f"{self.name} fails: {_sentence(error)}") from error
        if len(text) > _MOST_CHARACTERS:
            raise TemplateRefused(
                f"{self.name} writes {len(text):,} characters for {len(messages)} messages"
            )
        return text

    def writes_date(self, messages: Sequence[Message]) -> bool:
        """Return whether a conversation's text depends on the day."""
        today = self.render(messages)
        self._days_ahead = 40  # another day and another month
        another = self.render(messages)
        self._days_ahead = 0
        return another != today

    def special_tokens(self) -> list[str]:
        """Return the tokens that the tokenizer finds in a text before its model reads it."""
        tokens = [*self._tokenizer.get_added_vocab(), self._tokenizer.eos_token]
        return [token for token in tokens if token]

    def _checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options as the template gets them."""
        words = set(re.findall(r"[A-Za-z_]\w*", self.source))
        taken = {"messages", *inspect.signature(self._tokenizer.apply_chat_template).parameters}
        for name in options:
            key = f"prompt.template_options.{name}"
            if name in taken.difference(_TOOLS):
                reason = "is not an option, as the renderer itself gives it to the template"
                raise TemplateRefused(reason, key=key, way_out="remove it")
            if name not in words:
                question = did_you_mean(name, words)
                way_out = f"{question} Or remove it" if question else "remove it"
                raise TemplateRefused(f"{self.name} never reads it", key=key, way_out=way_out)
        return {name: _stopped(v) if name == CLOCK else v for name, v in options.items()}

    def _with_field(self, message: Message) -> Message:
        found = _ANSWER.fullmatch(message["content"])
        if message["role"] != "assistant" or found is None or _FIELD not in self.source:
            return message
        thought, rest = found["thought"].strip("\n"), found["rest"].lstrip("\n")
        return {**message, "content": rest, _FIELD: thought}

    def _today(self, form: str) -> str:
        return (datetime.now() + timedelta(days=self._days_ahead)).strftime(form)


def read_template(path: str) -> str:
    """Return the text of `prompt.template`; empty if it is.

    Raises:
        ValueError: there is no such file, or it holds no text.
    """
    if not path:
        return ""
    file, problem, text = Path(path).expanduser(), "no such file", ""
    if file.is_dir():
        problem = "is a folder"
    elif file.is_file():
        try:
            text, problem = file.read_text(encoding="utf-8"), "is empty"
        except UnicodeDecodeError:
            problem = "is no text in UTF-8"
    if not text.strip():
        raise ValueError(
            f"prompt.template: {path!r}: {problem}; name a file with a chat template (jinja), or "
            "leave it empty for the tokenizer's own"
        )
    return text


def use_template(tokenizer: Any, settings: PromptSettings) -> None:
    """Make the text of `prompt.template`, if it is set, the tokenizer's own chat template.

    So it is saved with the tokenizer, and other processes need no file.

    Raises:
        ValueError: as in `read_template`.
    """
    text = read_template(settings.template)
    if text:
        tokenizer.chat_template = text


def _stopped(date: Any) -> Any:
    """A clock that always shows a date, in whatever form it is asked for."""
    return lambda form: str(date)


def _sentence(error: Exception) -> str:
    """A template's own words, or the kind of error that it met."""
    from jinja2 import TemplateError

    said = " ".join(str(error).split())[:_MOST_QUOTED]
    if isinstance(error, TemplateError) and said:
        return said
    return f"{type(error).__name__}: {said}"
