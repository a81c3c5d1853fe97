"""The grammar of an action: from a command to the policy's text, and strictly back."""

import re

from rollouts.types import ParsedAction

_TAGGED = re.compile(
    r"\s*(?:<think>(?P<think>.*?)</think>)?\s*<action>(?P<command>.*?)</action>\s*", re.DOTALL
)
TAGS = ("<think>", "</think>", "<action>", "</action>")
"""What an answer is written with if the policy thinks first."""


def action_text(command: str, *, think: bool = False) -> str:
    """Return the text of an action that means `command`; `parse_action` reads it back."""
    return f"<action>{command}</action>" if think else command


def without_thought(text: str, command: str | None) -> str:
    """Return an answer with `think` as a later prompt shows it if thoughts are left out.

    It is the command in its tags. An answer without a command is what follows its thought: nothing,
    if the thought did not end.

    Args:
        text: the answer, with what the prompt has begun of its thought.
        command: the command in it.
    """
    if command is not None:
        return action_text(command, think=True)
    begin, end, _, _ = TAGS
    return text.rpartition(end)[2].partition(begin)[0].strip()


def as_asked_for(text: str, *, think: bool) -> str:
    """Return an answer, which may come from another prompt's format, in the form of this one.

    With `think`, a text without an action in tags is one. Without it, an action in tags becomes its
    command, and a thought is left out. Other texts stay, without white space at their end.
    """
    _, _, action, _ = TAGS
    if think:
        return text.rstrip() if action in text else action_text(text.strip(), think=True)
    command = parse_action(text, think=True).command
    return text.rstrip() if command is None else command


def parse_action(
    text: str, *, think: bool = False, whole: bool = True, ignore_rest: bool = False
) -> ParsedAction:
    """Read the text of one action.

    Without `think`, the text must be one line that is not blank. That line, stripped, is the
    command. With `think`, the text must be an optional `<think>...</think>` and then one
    `<action>...</action>` around such a line, with only white space around them. Any other text
    has no command.

    Args:
        whole: whether the policy itself ended the text. An action that was cut off is not guessed.
        ignore_rest: whether any text may follow the action: the first line that is not blank, or
            the first `</action>`. Then an action has its end before a cut.
    """
    if not whole and not ignore_rest:
        return ParsedAction(text=text, command=None)
    if not think:
        command = _first_line(text, whole=whole) if ignore_rest else _single_line(text)
        return ParsedAction(text=text, command=command)
    match = _TAGGED.match(text) if ignore_rest else _TAGGED.fullmatch(text)
    if match is None:
        return ParsedAction(text=text, command=None)
    # The pattern also matches "<action>look</action><action>help</action>", with the inner tags as
    # part of the command. A second action is ambiguous, so tags within a part are refused.
    parts = f"{match['think'] or ''}\n{match['command']}"
    if any(tag in parts for tag in TAGS):
        return ParsedAction(text=text, command=None)
    return ParsedAction(text=text, command=_single_line(match["command"]))


def _first_line(text: str, *, whole: bool) -> str | None:
    lines = text.lstrip().splitlines(keepends=True)
    # "take book 1" may be the beginning of "take book 12".
    if not lines or (not whole and lines[0].splitlines() == lines[:1]):
        return None
    return lines[0].strip()


def _single_line(text: str) -> str | None:
    line = text.strip()
    return line if line and len(line.splitlines()) == 1 else None
