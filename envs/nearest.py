"""Suggestions for a name that is not known: the end of every "did you mean" message."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `word`; None if none is similar."""
    matches = difflib.get_close_matches(word, list(known), n=1)
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
