"""The strict grammar of an action: from the text that the policy wrote to the command that it
means.
"""

import re

from rollouts.types import ParsedAction

_TAGGED = re.compile(
    r"\s*(?:<think>(?P<think>.*?)</think>)?\s*<action>(?P<command>.*?)</action>\s*", re.DOTALL
)
_TAGS = ("<think>", "</think>", "<action>", "</action>")


def parse_action(text: str, *, think: bool = False) -> ParsedAction:
    """Read one action.

    Plain: the text is exactly one line that is not blank; that line, stripped, is the command. With
    `think`: an optional `<think>...</think>` and then exactly one `<action>...</action>` that holds
    such a line, nothing else but white space. Everything else has no command.
    """
    if not think:
        return ParsedAction(text=text, command=_single_line(text))
    match = _TAGGED.fullmatch(text)
    if match is None or any(tag in part for part in match.groups(default="") for tag in _TAGS):
        return ParsedAction(text=text, command=None)
    return ParsedAction(text=text, command=_single_line(match["command"]))


def _single_line(text: str) -> str | None:
    line = text.strip()
    return line if line and len(line.splitlines()) == 1 else None
