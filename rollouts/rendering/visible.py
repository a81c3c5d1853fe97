"""Text of environments, models and files, made safe to show on one's screen."""

import re

_UNSEEN = re.compile(
    # Control characters, but for the tab and the end of a line.
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"
    # Marks that change the order in which a line is seen, and other ends of lines.
    r"\u200e\u200f\u2028-\u202e\u2066-\u2069"
    # Half characters, which cannot be written.
    r"\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""The text with its control characters spelled out; tabs and ends of lines stay.

    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
