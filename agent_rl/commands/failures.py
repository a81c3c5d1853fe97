"""What the command line says of an error: one line if it can be mended, a traceback if it is a bug.

Light to import, and imported only when there is an error.
"""

import errno
import os
import sys
import tempfile
import time
import traceback
from importlib import metadata

from agent_rl.config import ConfigError
from agent_rl.display import say_error, say_on_stderr
from agent_rl.files import is_disk_full
from rollouts.processes import ray_processes
from rollouts.processes.ray_failures import (
    ProcessesGone,
    cause_in_process,
    explain_ray_error,
    is_ray_error,
)

MENDABLE, BUG = 2, 1
"""Exit statuses."""

_OURS = {"agent_rl", "envs", "rollouts"}
_WAYS_OUT = {
    errno.ENOSPC: "free space there, or name a folder on another disk",
    errno.EDQUOT: "free space there, or name a folder on another disk",
    errno.EACCES: "change its permissions, or name another one",
    errno.EPERM: "change its permissions, or name another one",
    errno.EROFS: "name a folder on another disk",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
_MEMORY = "lower learner.micro_batch_tokens, or choose a smaller model or a larger machine"


def report(error: BaseException) -> int:
    """Print what a user needs to know of an error; return the exit status.

    An error that a user can mend is one message, which begins with `error:`. If it does not say
    where it comes from, it names a log file with the traceback. A bug is the traceback itself, and
    the log file to report.
    """
    message = mendable_message(error)
    if message is None:
        say_on_stderr("".join(traceback.format_exception(error)))
        log = _write_log(error)
        there = "the traceback above" if log is None else f"{log}, which holds the traceback"
        say_on_stderr(f"This is a bug. Please report it with {there}.")
        return BUG
    if not _says_enough(error):
        log = _write_log(error)
        message += "" if log is None else f"; traceback: {log}"
    say_error(message)
    return MENDABLE


def mendable_message(error: BaseException) -> str | None:
    """Return the message for an error that a user can mend; None for a bug."""
    cause = cause_in_process(error)
    if cause is not None:
        return mendable_message(cause)
    if isinstance(error, ProcessesGone):
        return str(error)
    if is_ray_error(error):
        return explain_ray_error(error, ray_processes.logs_folder())
    if is_disk_full(error) or isinstance(error, OSError):
        return _of_system(error)
    if isinstance(error, (ValueError, FloatingPointError)):
        return str(error)
    return _of_library(error)


def _of_system(error: BaseException) -> str:
    """For an error of files: the file, the reason and the way out."""
    code, said = errno.ENOSPC, str(error)
    if isinstance(error, OSError):
        code = error.errno or 0
        reason = os.strerror(code) if code in _WAYS_OUT else error.strerror
        said = f"{error.filename}: {reason}" if error.filename and reason else reason or said
    return f"{said}; {_WAYS_OUT[code]}" if code in _WAYS_OUT else said


def _of_library(error: BaseException) -> str | None:
    """For an error of a library; its class is known by name, as the library may not be loaded."""
    kind, room, text = type(error).__name__, type(error).__module__.partition(".")[0], str(error)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate" in text:
        return f"the machine's memory is used up; {_MEMORY}"
    if (room, kind) == ("torch", "OutOfMemoryError"):
        return f"the GPU's memory is used up ({text.partition('. ')[0]}); {_MEMORY}"
    if kind == "SafetensorError":
        return (
            f"a safetensors file cannot be read: {text}; it may be cut off, or a pointer of Git "
            "LFS: fetch it again"
        )
    if room == "jinja2":
        return (
            f"the tokenizer's chat template refuses a prompt: {text}; change prompt.system or "
            "prompt.format, or the template"
        )
    before = error.__cause__
    if isinstance(error, RuntimeError) and before is not None and is_ray_error(before):
        return f"{text}; {explain_ray_error(before, ray_processes.logs_folder())}"
    return None


def _says_enough(error: BaseException) -> bool:
    """Whether the message alone is enough: our own sentence, or a file and a known reason."""
    if isinstance(error, ConfigError) or is_ray_error(error) or is_disk_full(error):
        return True
    if isinstance(error, OSError):
        return error.errno in _WAYS_OUT and error.filename is not None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_in = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    return raised_in.partition(".")[0] in _OURS


def _write_log(error: BaseException) -> str | None:
    """Write the traceback to a new file that only the user can read; None if it cannot be."""
    try:
        number, path = tempfile.mkstemp(prefix=time.strftime("agent-rl-%Y%m%d-"), suffix=".log")
        with os.fdopen(number, "w", errors="backslashreplace") as file:
            file.write(f"command: {' '.join(sys.argv)}\nfolder: {os.getcwd()}\n")
            file.write(f"python: {sys.version}\n")
            for name in ("agent-rl", "torch", "transformers", "vllm", "ray"):
                try:
                    file.write(f"{name}: {metadata.version(name)}\n")
                except metadata.PackageNotFoundError:
                    continue
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return None
    return path
