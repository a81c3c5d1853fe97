"""The end of a command line that a test ran in its own process."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of a command line."""

    status: int
    """Its exit status."""
    out: str
    """Its standard output."""
    err: str
    """Its standard error."""


CommandLine = Callable[..., Ended]
"""Runs `agent-rl` with the given arguments; `typed=` is the standard input."""
