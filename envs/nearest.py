"""Suggestions for a name that is not known: the end of every "did you mean" message."""

import difflib
from collections.abc import Iterable

_SHORTEST = 3
"""Characters of the shortest beginning that counts as a shortened name."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `word`; None if none is similar.

    A shortened name is similar: `obs` means `observation`, if no other known name begins so.
    """
    names = list(known)
    longer = [name for name in names if name.startswith(word) and len(word) >= _SHORTEST]
    matches = difflib.get_close_matches(word, names, n=1) or (longer if len(longer) == 1 else [])
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The question for the nearest known name; empty if none is similar.

    >>> did_you_mean("mug", ["cup", "mugs"])
    "did you mean 'mugs'?"
    """
    near = nearest(word, known)
    return "" if near is None else f"did you mean {near!r}?"


def hint(word: str, known: Iterable[str], *, label: str = "known") -> str:
    """The end of an error message: the nearest known name, or the list of all of them.

    >>> hint("mug", ["cup", "mugs"])
    "; did you mean 'mugs'?"
    >>> hint("x", ["cup", "mugs"], label="known keys here")
    '; known keys here: cup, mugs'
    """
    names = list(known)
    question = did_you_mean(word, names)
    if question:
        return f"; {question}"
    return f"; {label}: {', '.join(names)}" if names else ""
