"""The prompt's format: the only file that turns an episode into text and tokens, and back.

A renderer only appends. It returns the ids to put after the ids that are already there, and never
looks at those again. So the learner trains on exactly the ids that the policy sampled.

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

from rollouts.actions import action_text, parse_action
from rollouts.settings import PromptSettings
from rollouts.types import Completion, FinishReason, ParsedAction

_MARK = "\n> "
"""What the plain format writes before an action."""
_WAY_OUT = "; set prompt.format: plain, or use a model with another chat template"


class Renderer(Protocol):
    """Turns observations into token ids, and completions into commands."""

    end_token_ids: tuple[int, ...]
    """The ids that end an action; `action_ids` writes the first of them."""

    def first(self, observation: str, admissible: Sequence[str] | None) -> tuple[int, ...]:
        """Return the ids of the first prompt."""

    def following(
        self, observation: str, admissible: Sequence[str] | None, finish_reason: FinishReason
    ) -> tuple[int, ...]:
        """Return the ids to append to a completion that ended with `finish_reason`.

        They begin with an end token if the policy did not sample one.
        """

    def parse(self, completion: Completion) -> ParsedAction:
        """Read a completion; one that was cut at its token limit has no command."""

    def action_ids(self, command: str) -> tuple[int, ...]:
        """Return the ids of an action that means `command`, with its end token."""


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
    """Return the renderer for the tokenizer of a model folder.

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
    return make_renderer(tokenizer, settings)


def make_renderer(tokenizer: Any, settings: PromptSettings) -> Renderer:
    """Return the renderer of `settings.format` over a transformers tokenizer.

    Raises:
        ValueError: the tokenizer does not fit the format; the message says why and what to do.
    """
    if settings.format == "chat":
        return ChatRenderer(tokenizer, settings)
    return PlainRenderer(tokenizer, settings)


class _TokenizerRenderer:
    """The part that both formats share: actions to ids and back."""

    end_token_ids: tuple[int, ...]

    def __init__(self, tokenizer: Any, settings: PromptSettings) -> None:
        self._tokenizer = tokenizer
        self._settings = settings

    def parse(self, completion: Completion) -> ParsedAction:
        stopped = completion.finish_reason is FinishReason.STOP
        ids = completion.token_ids[:-1] if stopped else completion.token_ids
        # Special tokens stay in the text, so that a command with one inside is no valid command.
        # The clean-up would rewrite spaces, but a command must match the game's to the letter.
        text = self._tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        if not stopped:
            # "take book 1" may be the beginning of "take book 12": a cut action is not guessed.
            return ParsedAction(text=text, command=None)
        return parse_action(text, think=self._settings.think)

    def action_ids(self, command: str) -> tuple[int, ...]:
        text = action_text(command, think=self._settings.think)
        return (*self._encode(text), self.end_token_ids[0])

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def _missing_end(self, finish_reason: FinishReason) -> tuple[int, ...]:
        return () if finish_reason is FinishReason.STOP else self.end_token_ids[:1]


class PlainRenderer(_TokenizerRenderer):
    """Writes the observation and `> `; the tokenizer's eos token ends an action."""

    def __init__(self, tokenizer: Any, settings: PromptSettings) -> None:
        super().__init__(tokenizer, settings)
        if settings.think:
            raise ValueError(
                "prompt.think: the tags need prompt.format: chat; set prompt.think: false for plain"
            )
        if settings.examples:
            raise ValueError(
                "prompt.examples: they need prompt.format: chat; leave them out for plain"
            )
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "prompt.format: plain needs a tokenizer with an eos token; this one has none"
            )
        self.end_token_ids = (int(tokenizer.eos_token_id),)

    def first(self, observation: str, admissible: Sequence[str] | None) -> tuple[int, ...]:
        bos = self._tokenizer.bos_token_id
        ids = self._encode(first_text(self._settings, observation, admissible))
        return ids if bos is None else (bos, *ids)

    def following(
        self, observation: str, admissible: Sequence[str] | None, finish_reason: FinishReason
    ) -> tuple[int, ...]:
        text = "\n" + _plain_text(self._settings, observation, admissible)
        return (*self._missing_end(finish_reason), *self._encode(text))


class ChatRenderer(_TokenizerRenderer):
    """Writes observations as user messages and actions as assistant messages.

    The messages go through the tokenizer's chat template. A template renders whole conversations,
    but a renderer may only append. So the constructor renders short conversations and checks two
    rules: a further message leaves the text before it alone, and every turn is written alike.
    """

    def __init__(self, tokenizer: Any, settings: PromptSettings) -> None:
        """Check the chat template.

        Raises:
            ValueError: there is no template, or it breaks a rule of the class.
        """
        super().__init__(tokenizer, settings)
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                "prompt.format: chat needs a tokenizer with a chat template; this one has none"
                + _WAY_OUT
            )
        self._end = self._probe_end_token()
        # The template's end token comes first: `action_ids` writes it. Some models end a message
        # with another token than their eos token, and sample either, so both end an action.
        ids = (tokenizer.convert_tokens_to_ids(self._end), tokenizer.eos_token_id)
        self.end_token_ids = tuple(dict.fromkeys(int(i) for i in ids if i is not None))

    def first(self, observation: str, admissible: Sequence[str] | None) -> tuple[int, ...]:
        return self._encode(self._render(first_messages(self._settings, observation, admissible)))

    def following(
        self, observation: str, admissible: Sequence[str] | None, finish_reason: FinishReason
    ) -> tuple[int, ...]:
        # Any short conversation serves, because the template writes each turn alike. The end token
        # is left out of the text: the completion has it, or `_missing_end` adds it.
        user = _user_message(self._settings, observation, admissible)
        tail = self._tail([_PROBE_USER, _PROBE_ACTION, user])
        return (*self._missing_end(finish_reason), *self._encode(tail.removeprefix(self._end)))

    def _render(self, messages: list[dict[str, str]]) -> str:
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return text

    def _tail(self, messages: list[dict[str, str]]) -> str:
        """Return the text after the last assistant message, its end token included.

        Args:
            messages: a conversation that ends with an assistant and a user message.

        Raises:
            ValueError: with the user message, the template changes the text before it.
        """
        messages = [*_opening_messages(self._settings), *messages]
        before, action = self._render(messages[:-2]), messages[-2]["content"]
        whole = self._render(messages)
        if not whole.startswith(before + action):
            raise ValueError(
                "prompt.format: the tokenizer's chat template rewrites the past: with one more "
                f"message, an earlier assistant message {action!r} is no longer shown as it was "
                "said (some templates drop <think> from earlier turns), so the policy's prompt "
                "could not be trained on" + _WAY_OUT
            )
        tail: str = whole.removeprefix(before + action)
        return tail

    def _probe_end_token(self) -> str:
        """Return the one token that the template writes after an assistant message.

        Raises:
            ValueError: the template does not only append, or writes no special token there.
        """
        first = self._tail([_PROBE_USER, _PROBE_ACTION, _PROBE_USER])
        later = self._tail([_PROBE_USER, _PROBE_ACTION, _PROBE_USER, _PROBE_ACTION, _PROBE_USER])
        if first != later:
            raise ValueError(
                "prompt.format: the tokenizer's chat template shows the same message differently "
                f"later on ({first!r}, then {later!r}), so turns cannot be appended" + _WAY_OUT
            )
        special_tokens = [*self._tokenizer.get_added_vocab(), self._tokenizer.eos_token]
        ends = [token for token in special_tokens if token and first.startswith(token)]
        if not ends:
            raise ValueError(
                "prompt.format: after an assistant message the chat template writes "
                f"{first[:20]!r}, which does not begin with one special token that could end an "
                "action" + _WAY_OUT
            )
        # One special token may begin another, such as "<|im" and "<|im_end|>".
        end: str = max(ends, key=len)
        return end


_PROBE_USER = {"role": "user", "content": "You see a desk 1."}
_PROBE_ACTION = {
    "role": "assistant",
    "content": "<think>the desk is near</think><action>go to desk 1</action>",
}
"""Messages to try a chat template with. Templates that drop past thoughts show it with this one."""
