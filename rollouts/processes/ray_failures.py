"""What a user needs to know of Ray's errors: one line with the cause, from the error or from a log.

Light to import: Ray's classes are known by their names.
"""

import re
import signal
from pathlib import Path

_RAISED = re.compile(
    r"^(?:ray\.exceptions\.)?(?P<kind>[A-Za-z_][\w.]*): (?P<text>.*)", re.MULTILINE
)
"""The line of a traceback that names the exception."""
_ERROR_NAME = re.compile(r"(Error|Exception|Interrupt|Exit|Fault)$")
_TAIL_BYTES = 2**16
_CRASH = re.compile(r"^(Fatal Python error: .*|\*\*\* SIG\w+ received.*)", re.MULTILINE)

_VANISHED = (
    "it ended without a word, as when it calls exit, or when the system kills it because memory "
    "is used up (see dmesg)"
)
_BY_KIND = {
    "OutOfMemoryError": "Ray ended a process, because the machine's memory was nearly used up; "
    "lower workers.count, workers.envs_per_worker or serving.kv_cache_gib, or free memory",
    "GetTimeoutError": "a process of Ray did not answer in time",
    "LocalRayletDiedError": "Ray's own process (raylet) ended",
    "NodeDiedError": "a machine of Ray's cluster is gone",
    "RaySystemError": "Ray itself failed",
    "ObjectStoreFullError": "Ray's shared memory is full; free space in /dev/shm",
    "OutOfDiskError": "the disk with Ray's temporary folder is full; free space there, or set "
    "RAY_TMPDIR",
}

_DEATHS = ("RayActorError", "OutOfMemoryError", "WorkerCrashedError", "NodeDiedError")
NODE_GONE = "its node of Ray's cluster is gone"
"""What `death_of` says if a process died with its node."""


class ProcessesGone(RuntimeError):
    """Processes died or hang, and are not replaced any more. The message says all that is known."""


class NoAnswer(ProcessesGone):
    """A process did not answer in time. It is treated like one that died."""


class RayGone(ProcessesGone):
    """One of Ray's own processes ended. No process can be started any more."""


def ray_gone(name: str, status: int, logs: Path | None) -> RayGone:
    """Return the error for the end of one of Ray's own processes.

    Args:
        name: Ray's name of it.
        status: its exit status, as `subprocess` has it.
        logs: the folder of the session's logs, if there is one.
    """
    end = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    where = "" if logs is None else f"; Ray's logs are in {logs}"
    return RayGone(f"Ray's own process {name} ended ({end}), so no other process can go on{where}")


def is_ray_error(error: BaseException) -> bool:
    """Return whether Ray made the error: a process died, or a call in one raised something."""
    return _is(error, "RayError")


def _is(error: BaseException, *names: str) -> bool:
    """Whether it is of one of these classes of Ray."""
    kinds = type(error).__mro__
    return any(kind.__module__ == "ray.exceptions" and kind.__name__ in names for kind in kinds)


def cause_in_process(error: BaseException) -> BaseException | None:
    """Return the exception that a call raised in its process; None if the process died."""
    cause = getattr(error, "cause", None) if is_ray_error(error) else None
    return cause if isinstance(cause, BaseException) else None


def death_of(error: BaseException) -> str | None:
    """Return why the process behind an answer died or is given up, in one line.

    None for any other error.
    """
    if isinstance(error, NoAnswer):
        return str(error)
    # What a call was to get from another process that died is the cause of an error of its own.
    cause = cause_in_process(error)
    if cause is not None and _is(cause, "RayActorError"):
        error = cause
    if not _is(error, *_DEATHS):
        return None
    text = str(error)
    if _is(error, "NodeDiedError") or "its node has died" in text:
        return NODE_GONE
    if "creation task" in text:
        return text.strip().rpartition("\n")[2]
    # Ray says it in the middle of many lines.
    if _is(error, "OutOfMemoryError") or "running low on memory" in text:
        return (
            "this machine ran low on memory, and Ray's memory monitor ended the process; lower "
            "workers.count or workers.envs_per_worker, or free memory"
        )
    return text.partition("\n")[0]


def raised_at_start(error: BaseException) -> tuple[str, str] | None:
    """Return kind and message of what a process raised in its constructor; None if it did not.

    Ray keeps only the text of such an exception.
    """
    return _last_raised(str(error)) if getattr(error, "actor_init_failed", False) else None


def explain_ray_error(error: BaseException, logs: Path | None) -> str:
    """Return the line for a process that died: which one, and why.

    Args:
        error: an error of Ray.
        logs: the folder of the session's logs, if there is one. A process that crashed can only
            write its cause there.
    """
    kinds = [kind.__name__ for kind in type(error).__mro__]
    known = next((_BY_KIND[kind] for kind in kinds if kind in _BY_KIND), None)
    text = str(error)
    where = "" if logs is None else f"; Ray's logs are in {logs}"
    if known is not None:
        return f"{known}{where}"
    name = _first(r"class_name: (\S+)", text) or _first(r"::(\w+)\.__init__\(\)", text) or "of Ray"
    raised = raised_at_start(error)
    if raised is not None:
        kind, message = raised
        return f"the process {name} could not start: {kind}: {message}{where}"
    pid = _first(r"\bpid[:=] ?(\d+)", text)
    last = None if logs is None or pid is None else _last_words(logs, pid)
    reason = last or (_VANISHED if "error code 2. End of file" in text else _summary(text))
    return f"the process {name} died: {reason}{where}"


def _last_words(logs: Path, pid: str) -> str | None:
    """The last exception or crash in the logs of a process."""
    for path in sorted(logs.glob(f"worker-*-{pid}.*")):
        try:
            with path.open("rb") as file:
                file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
                text = file.read().decode(errors="replace")
        except OSError:
            continue
        crash = _CRASH.search(text)
        if crash:
            return crash[0].strip()
        raised = _last_raised(text)
        if raised is not None:
            return f"{raised[0]}: {raised[1]}"
    return None


def _last_raised(text: str) -> tuple[str, str] | None:
    found = [match for match in _RAISED.finditer(text) if _ERROR_NAME.search(match["kind"])]
    if not found:
        return None
    last = found[-1]
    # A message may have several lines; it ends with the text, or before an empty line.
    message = (last["text"] + text[last.end() :]).partition("\n\n")[0]
    return last["kind"].rpartition(".")[2], message.strip()


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1].strip() if found else None


def _summary(text: str) -> str:
    """Ray's own words without its details, each of which has a line of its own."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\t")]
    said = " ".join(line.strip() for line in lines[:2])
    return said if len(said) <= 400 else said[:400].rpartition(" ")[0] + " ..."
