"""How a training ended, in the run's folder: written by the command that trains, read by reports.

    {"state": "failed", "reason": "env alfworld: ...", "at": "2026-05-01T12:00:00+00:00"}

A process that is killed cannot write it. So a folder without this file, in which nobody trains, is
that of a run that was killed, or of an earlier version.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from agent_rl.files import read_json_object, write_json
from agent_rl.runs.layout import RunLayout

_MOST_CHARACTERS = 1000
"""Of a reason: some libraries say pages."""


@dataclass(frozen=True, kw_only=True)
class TrainingEnd:
    """How a training ended."""

    state: Literal["finished", "interrupted", "failed"]
    """In one word."""
    reason: str
    """The error's message, or the name of the signal; empty if it finished."""
    at: str
    """When (UTC)."""


_END = TypeAdapter(TrainingEnd)


@contextmanager
def recorded_end(run: RunLayout, stopped_by: Callable[[], str]) -> Iterator[None]:
    """Record how the training within this context ends; an earlier end is forgotten first.

    A run folder that holds nothing but its lock stays so: nothing was begun there.

    Args:
        run: the run, whose lock the caller holds.
        stopped_by: gives the name of the signal that stops the work; empty if there was none.
    """
    run.ending_file.unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        interrupted = bool(stopped_by()) or isinstance(error, KeyboardInterrupt)
        reason = stopped_by() if interrupted else _reason(error)
        _record(run, "interrupted" if interrupted else "failed", reason)
        raise
    _record(run, "finished", "")


def read_end(run: RunLayout) -> TrainingEnd | None:
    """Read how a training ended; None if nothing tells it."""
    if not run.ending_file.is_file():
        return None
    # A machine that dies may leave an empty file.
    with suppress(ValidationError, ValueError):
        return _END.validate_python(read_json_object(run.ending_file))
    return None


def _record(run: RunLayout, state: Literal["finished", "interrupted", "failed"], why: str) -> None:
    if [*run.folder.iterdir()] == [run.lock_file]:
        return
    end = TrainingEnd(state=state, reason=why, at=datetime.now(UTC).isoformat(timespec="seconds"))
    # The disk may be full. The training's own result or error is the one to see.
    with suppress(OSError):
        write_json(run.ending_file, asdict(end))


def _reason(error: BaseException) -> str:
    """What an error says, in a line; a death of a process by its cause."""
    # Imported here: only a failure needs them.
    from rollouts.processes.ray_failures import cause_in_process, death_of

    death = death_of(error)
    if death is not None:
        return death
    cause = cause_in_process(error) or error
    said = " ".join(str(cause).split())
    # A user's mistake speaks for itself; of a bug, the kind is half of the message.
    if not isinstance(cause, ValueError):
        said = f"{type(cause).__name__}: {said}"
    return said if len(said) <= _MOST_CHARACTERS else f"{said[:_MOST_CHARACTERS]} ..."
