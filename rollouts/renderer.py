"""The prompt's format: turns an episode into text and tokens, and back.

A renderer appends: it returns the ids to put after the ids that are already there, and never looks
at those again. So the learner trains on exactly the ids that the policy sampled. If the history
forgets something (`prompt.history`), it writes a whole new prompt.

The plain format, for one turn and the prompt of the next (`</s>` is the tokenizer's end token):

    <s>You see a desk 1.          first("You see a desk 1.", ...)
    > go to desk 1</s>            the action follows "> "
    On the desk 1, you see ...    following("On the desk 1, you see ...", ...)
    >

The chat format writes the same exchange as user and assistant messages of the tokenizer's chat
template.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rollouts.actions import TAGS, action_text, as_asked_for, without_thought
from rollouts.rendering.answers import AnswerReader
from rollouts.rendering.chat_template import ChatTemplate, TemplateRefused
from rollouts.rendering.control_tokens import PromptEncoder
from rollouts.rendering.end_tokens import end_ids_of_folder
from rollouts.rendering.histories import Excerpt
from rollouts.rendering.judgement import PROBE, Judgement, judge
from rollouts.settings import PromptSettings
from rollouts.types import Completion, FinishReason, ParsedAction

_MARK = "\n> "
"""What the plain format writes before an action."""


class Renderer(Protocol):
    """Turns observations into token ids, and completions into commands."""

    end_token_ids: tuple[int, ...]
    """The ids that end an action; `action_ids` writes the first of them."""
    appends: bool
    """Whether `following` may be used; else each prompt has to be written as a whole."""
    answers: AnswerReader
    """Reads what the policy wrote."""
    stop: tuple[str, ...]
    """The texts that end an action, besides the end tokens (`prompt.stop`)."""
    thought_end_ids: tuple[int, ...]
    """The ids that end a thought for the policy (`prompt.thought_end`)."""

    def first(self, observation: str, admissible: Sequence[str] | None) -> tuple[int, ...]:
        """Return the ids of the first prompt."""

    def following(
        self, observation: str, admissible: Sequence[str] | None, finish_reason: FinishReason
    ) -> tuple[int, ...]:
        """Return the ids to append to a completion that ended with `finish_reason`.

        They begin with an end token if the policy did not sample one.
        """

    def whole(
        self, excerpt: Excerpt, observation: str, admissible: Sequence[str] | None
    ) -> tuple[int, ...]:
        """Return the ids of a new prompt that shows an excerpt of the past.

        Lists of commands of the past are left out.
        """

    def parse(self, completion: Completion, before: Sequence[int] = ()) -> ParsedAction:
        """Read a completion, with ids of the same answer before it (see `AnswerReader`)."""

    def action_ids(self, command: str) -> tuple[int, ...]:
        """Return the ids of an action that means `command`, with its end token."""

    def answer_ids(self, text: str) -> tuple[int, ...]:
        """Return the ids of an answer that somebody wrote, with its end token.

        It is written in the form that the prompt asks for: an action gets its tags with `think`,
        and without it a thought is left out.
        """


def first_text(settings: PromptSettings, observation: str, admissible: Sequence[str] | None) -> str:
    """Return the text of the first prompt in the plain format, without the begin token."""
    system = f"{settings.system}\n\n" if settings.system else ""
    return system + _plain_text(settings, observation, admissible)


def _plain_text(
    settings: PromptSettings, observation: str, admissible: Sequence[str] | None
) -> str:
    listed = ""
    if settings.show_admissible_commands and admissible:
        listed = f"\nCommands: {', '.join(admissible)}"
    return f"{observation}{listed}{_MARK}"


def first_messages(
    settings: PromptSettings, observation: str, admissible: Sequence[str] | None
) -> list[dict[str, str]]:
    """Return the messages of the first prompt in the chat format, as chat templates take them."""
    return [*_opening_messages(settings), _user_message(settings, observation, admissible)]


def _opening_messages(settings: PromptSettings) -> list[dict[str, str]]:
    """The messages before the first observation: the system message and the examples."""
    messages = []
    if settings.system:
        messages.append({"role": "system", "content": settings.system})
    for example in settings.examples:
        messages.append({"role": "user", "content": example.observation})
        messages.append({"role": "assistant", "content": example.action})
    return messages


def _user_message(
    settings: PromptSettings, observation: str, admissible: Sequence[str] | None
) -> dict[str, str]:
    if settings.show_admissible_commands and admissible:
        observation = f"{observation}\n\nYou can now do one of these:\n" + "\n".join(admissible)
    return {"role": "user", "content": observation}


def transcript(observation: str, command: str) -> str:
    """Return a past observation and the command after it as text for people."""
    return f"{observation}{_MARK}{command}\n"


class ByteTokenizer:
    """A tokenizer of UTF-8 bytes, with 256 as end token; for episodes that no model plays."""

    bos_token_id = None
    eos_token_id = 256

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return list(text.encode(errors="replace"))

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return bytes(i for i in ids if i != self.eos_token_id).decode(errors="replace")


def byte_renderer() -> Renderer:
    """Return a plain renderer over bytes, for episodes that no model plays."""
    return PlainRenderer(ByteTokenizer(), PromptSettings())


def load_renderer(model_folder: str | Path, settings: PromptSettings) -> Renderer:
    """Return the renderer for the tokenizer and the end tokens of a model folder.

    Raises:
        ValueError: the folder has no tokenizer, or the tokenizer does not fit `prompt.format`.
    """
    from transformers import AutoTokenizer

    if not Path(model_folder).is_dir():
        raise ValueError(
            f"model: no folder {str(model_folder)!r}; name a folder that holds a model and its "
            "tokenizer"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model_folder))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"model: {model_folder} holds no tokenizer that transformers can load: {error}"
        ) from error
    return make_renderer(tokenizer, settings, ends=end_ids_of_folder(Path(model_folder)))


def make_renderer(
    tokenizer: Any, settings: PromptSettings, *, ends: Sequence[int] = ()
) -> Renderer:
    """Return the renderer of `settings.format` over a transformers tokenizer.

    Args:
        ends: the model's own end tokens. They end an action, besides the format's.

    Raises:
        ValueError: the tokenizer does not fit the format; the message says why and what to do.
    """
    if settings.format == "chat":
        return ChatRenderer(tokenizer, settings, ends=ends)
    return PlainRenderer(tokenizer, settings, ends=ends)


class _TokenizerRenderer:
    """The part that both formats share: actions to ids and back."""

    end_token_ids: tuple[int, ...]
    appends = True
    _opened = _lead = ""
    """As in `Judgement`."""

    def __init__(self, tokenizer: Any, settings: PromptSettings, encoder: PromptEncoder) -> None:
        self._tokenizer, self._settings, self._encoder = tokenizer, settings, encoder
        self.answers = AnswerReader(tokenizer, settings, self._opened)
        self.stop = settings.stop
        self.thought_end_ids = encoder.encode(settings.thought_end)

    def parse(self, completion: Completion, before: Sequence[int] = ()) -> ParsedAction:
        return self.answers.parse(completion, before)

    def action_ids(self, command: str) -> tuple[int, ...]:
        # Without quotes, an expert's command could end the action and begin a message.
        text = action_text(self._encoder.quote(command), think=self._settings.think)
        return (*self._encoder.encode(self._lead + text), self.end_token_ids[0])

    def answer_ids(self, text: str) -> tuple[int, ...]:
        think = self._settings.think
        text = as_asked_for(text, think=think)
        begin, end, _, _ = TAGS
        lead = self._lead
        if self._opened and end in text:
            # The prompt has begun the thought, and the answer goes on with it.
            text, lead = text.partition(begin)[2].lstrip() or text, ""
        said = self._encoder.quote(text.removeprefix(lead), keep=TAGS if think else ())
        return (*self._encoder.encode(lead + said), self.end_token_ids[0])

    def _missing_end(self, finish_reason: FinishReason) -> tuple[int, ...]:
        return () if finish_reason is FinishReason.STOP else self.end_token_ids[:1]


class PlainRenderer(_TokenizerRenderer):
    """Writes the observation and `> `; the tokenizer's eos token ends an action."""

    def __init__(
        self, tokenizer: Any, settings: PromptSettings, *, ends: Sequence[int] = ()
    ) -> None:
        super().__init__(tokenizer, settings, PromptEncoder(tokenizer))
        for name, verb in _CHAT_ONLY.items():
            if getattr(settings, name):
                raise ValueError(f"prompt.{name}: needs prompt.format: chat; {verb} for plain")
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "prompt.format: plain needs a tokenizer with an eos token; this one has none"
            )
        self.end_token_ids = _once(tokenizer.eos_token_id, *ends)

    def first(self, observation: str, admissible: Sequence[str] | None) -> tuple[int, ...]:
        bos = self._tokenizer.bos_token_id
        ids = self._encode_said(first_text(self._settings, observation, admissible))
        return ids if bos is None else (bos, *ids)

    def following(
        self, observation: str, admissible: Sequence[str] | None, finish_reason: FinishReason
    ) -> tuple[int, ...]:
        text = "\n" + _plain_text(self._settings, observation, admissible)
        return (*self._missing_end(finish_reason), *self._encode_said(text))

    def whole(
        self, excerpt: Excerpt, observation: str, admissible: Sequence[str] | None
    ) -> tuple[int, ...]:
        past = excerpt.exchanges
        seen = [*(exchange.observation for exchange in past), observation]
        seen[0] = excerpt.opening + seen[0]
        ids = [*self.first(seen[0], None if past else admissible)]
        for number, exchange in enumerate(past, start=1):
            listed = admissible if number == len(past) else None
            ids += exchange.completion.token_ids
            ids += self.following(seen[number], listed, exchange.completion.finish_reason)
        return tuple(ids)

    def _encode_said(self, text: str) -> tuple[int, ...]:
        # The format itself writes no control token as text.
        return self._encoder.encode(self._encoder.quote(text))


class ChatRenderer(_TokenizerRenderer):
    """Writes observations as user messages and actions as assistant messages.

    The messages go through the chat template, which is tried first on what this run will send it
    (see `judge`). If it shows the past otherwise later on, it writes each prompt as a whole.
    """

    judgement: Judgement
    """What was found about the template."""

    def __init__(
        self, tokenizer: Any, settings: PromptSettings, *, ends: Sequence[int] = ()
    ) -> None:
        """Check the chat template.

        Raises:
            ValueError: there is no template, or it does not fit; the message begins with the
                setting to change.
        """
        self._template, self.judgement = _accepted(tokenizer, settings)
        self._opened, self._lead = self.judgement.opened, self.judgement.lead
        self.appends = self.judgement.how == "append"
        end = self.judgement.end
        encoder = PromptEncoder(tokenizer, template=self._template.source, end=end)
        super().__init__(tokenizer, settings, encoder)
        # The template's end token comes first: `action_ids` writes it. Some models end a message
        # with another token than their eos token, and sample either, so all of them end an action.
        end_id = tokenizer.convert_tokens_to_ids(end)
        self.end_token_ids = _once(end_id, tokenizer.eos_token_id, *ends)

    def first(self, observation: str, admissible: Sequence[str] | None) -> tuple[int, ...]:
        messages = first_messages(self._settings, observation, admissible)
        return self._encoder.encode(self._template.render(self._quoted(messages)))

    def following(
        self, observation: str, admissible: Sequence[str] | None, finish_reason: FinishReason
    ) -> tuple[int, ...]:
        # Any short conversation serves, because the template writes each turn alike. The end token
        # is left out of the text: the completion has it, or `_missing_end` adds it.
        said = [
            *_opening_messages(self._settings),
            PROBE,
            self.judgement.answer,
            _user_message(self._settings, observation, admissible),
        ]
        tail = self.judgement.tail_of(self._template.render(self._quoted(said)))
        return (*self._missing_end(finish_reason), *self._encoder.encode(tail))

    def whole(
        self, excerpt: Excerpt, observation: str, admissible: Sequence[str] | None
    ) -> tuple[int, ...]:
        messages = _opening_messages(self._settings)
        before = excerpt.opening
        for exchange in excerpt.exchanges:
            messages.append({"role": "user", "content": before + exchange.observation})
            messages.append({"role": "assistant", "content": self._said(exchange.action)})
            before = ""
        messages.append(_user_message(self._settings, before + observation, admissible))
        return self._encoder.encode(self._template.render(self._quoted(messages)))

    def _said(self, action: ParsedAction) -> str:
        """An answer of the policy as the template takes it."""
        text = action.text
        said = self._opened + text if self._opened else text.removeprefix(self._lead)
        if not self._settings.history_thoughts:
            return without_thought(said, action.command)
        # A template drops a thought by its end, which one that was cut off lacks.
        cut = self._settings.think and TAGS[0] in said and TAGS[1] not in said
        return f"{said}\n{TAGS[1]}\n\n" if cut else said

    def _quoted(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        # Examples show "<think>" as the policy writes it, which is one token to some tokenizers.
        kept = {"assistant": TAGS if self._settings.think else ()}
        return [
            {**m, "content": self._encoder.quote(m["content"], keep=kept.get(m["role"], ()))}
            for m in messages
        ]


def _accepted(tokenizer: Any, settings: PromptSettings) -> tuple[ChatTemplate, Judgement]:
    """Return the template and the judgement on it.

    Raises:
        ValueError: the template does not fit. The message begins with the first setting that makes
            it fit if left out.
    """

    def tried(with_settings: PromptSettings) -> Judgement:
        opening = _opening_messages(with_settings)
        return judge(
            template,
            opening,
            think=with_settings.think,
            history_thoughts=with_settings.history_thoughts,
        )

    template = ChatTemplate(tokenizer, settings)
    try:
        return template, tried(settings)
    except TemplateRefused as refused:
        for name, nothing, way_out in _OPTIONAL:
            if not getattr(settings, name):
                continue
            try:
                tried(settings.model_copy(update={name: nothing}))
            except TemplateRefused:
                continue
            raise ValueError(f"prompt.{name}: {refused.reason}; {way_out}") from refused
        raise


def _once(*ids: int | None) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(i) for i in ids if i is not None))


_CHAT_ONLY = {
    "think": "set it to false",
    "examples": "leave them out",
    "template": "leave it out",
    "template_options": "leave them out",
}
"""Settings that the plain format has no use for, with the way out."""

_OPTIONAL: tuple[tuple[str, Any, str], ...] = (
    ("system", "", "leave prompt.system empty, or use another template"),
    ("examples", (), "leave prompt.examples out, or use another template"),
    ("think", False, "set prompt.think: false, or use another template"),
)
"""Settings that a chat template may not bear: the name, the value without it, the way out."""
