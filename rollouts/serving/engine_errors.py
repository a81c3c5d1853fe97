"""What an engine that cannot start says: vLLM's own cause, in short."""

import re
import textwrap
from pathlib import Path

from pydantic import ValidationError

from rollouts.episode import describe

_IN_ANOTHER_PROCESS = "in a background process"
"""In vLLM's message that one of its processes failed, which does not say why."""
_LOGGED = re.compile(r"\] ((?:\w+\.)*\w+(?:Error|Exception): .+)")
"""The last line of a traceback in vLLM's log, after the place in brackets."""

_CAUSE = 300
"""The most letters of vLLM's own message within ours; it may list all models that it knows."""


def start_failure(error: BaseException) -> str:
    """Return why vLLM could not start, on one line.

    Its other processes write their errors to the log of this one.
    """
    cause = root_cause(error)
    return (_logged_error() or cause) if _IN_ANOTHER_PROCESS in cause else cause


def root_cause(error: BaseException) -> str:
    """Return the text of the error that others were raised from, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = describe(error)
    if isinstance(error, ValidationError):
        # Its own text repeats the whole input of each wrong value.
        text = "; ".join(item["msg"] for item in error.errors(include_input=False))
    return _in_short(text)


def _logged_error() -> str | None:
    """The first error in the log of this process."""
    log = Path("/proc/self/fd/1").resolve()
    found = _LOGGED.search(log.read_text(errors="replace")) if log.is_file() else None
    return None if found is None else _in_short(found[1])


def _in_short(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return textwrap.shorten(text, _CAUSE, placeholder=" ...").removesuffix(".")
