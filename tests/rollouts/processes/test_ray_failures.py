"""The errors are Ray's own classes, made as Ray makes them."""

from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError, OutOfMemoryError, RayTaskError

from rollouts.processes.ray_failures import (
    cause_in_process,
    explain_ray_error,
    is_ray_error,
    raised_at_start,
)

DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: RolloutWorker
\tactor_id: 0123456789
\tpid: 4711
\tip: 127.0.0.1
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit \
detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common causes"""


def died(text: str = DIED) -> ActorDiedError:
    error = ActorDiedError()
    error.error_msg = text
    return error


def raised_in_constructor(text: str) -> ActorDiedError:
    trace = f'ray::PolicyActor.__init__() (pid=12, ip=1.2.3.4)\n  File "x.py", line 1\n{text}'
    error = died(f"The actor died because of an error raised in its creation task, {trace}")
    error._actor_init_failed = True
    return error


def test_ray_errors_are_known_by_their_class() -> None:
    assert is_ray_error(died())
    assert not is_ray_error(ValueError("ray"))
    assert cause_in_process(died()) is None
    cause = OSError(28, "full")
    assert cause_in_process(RayTaskError("f", "Traceback", cause)) is cause


def test_the_cause_is_read_from_the_log_of_the_process_that_died(tmp_path: Path) -> None:
    (tmp_path / "worker-ab-01000000-4711.err").write_text(
        "KeyError: 'earlier'\nTraceback (most recent call last):\n"
        '  File "x.py", line 1, in f\nvllm.errors.EngineError: no room for the cache\n'
    )
    (tmp_path / "worker-cd-01000000-4712.err").write_text("ValueError: of another process\n")
    assert explain_ray_error(died(), tmp_path) == (
        "the process RolloutWorker died: EngineError: no room for the cache; Ray's logs are in "
        f"{tmp_path}"
    )


@pytest.mark.parametrize(
    "line",
    ["Fatal Python error: Segmentation fault", "*** SIGSEGV received at time=1 on cpu 1 ***"],
)
def test_a_crash_is_told_by_its_first_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "worker-ab-01000000-4711.err").write_text(f"{line}\n\nThread 1:\n  File x\n")
    assert f"died: {line};" in explain_ray_error(died(), tmp_path)


def test_a_death_without_words_says_so() -> None:
    assert explain_ray_error(died(), None) == (
        "the process RolloutWorker died: it ended without a word, as when it calls exit, or when "
        "the system kills it because memory is used up (see dmesg)"
    )


def test_what_a_constructor_raised_is_the_reason() -> None:
    error = raised_in_constructor("RuntimeError: cache too small\nfor the context")
    assert raised_at_start(error) == ("RuntimeError", "cache too small\nfor the context")
    assert explain_ray_error(error, None) == (
        "the process PolicyActor could not start: RuntimeError: cache too small\nfor the context"
    )
    assert raised_at_start(died()) is None


def test_memory_and_time_have_sentences_of_their_own() -> None:
    assert "memory was nearly used up; lower workers.count" in explain_ray_error(
        OutOfMemoryError("1 worker(s) were killed"), None
    )
    assert "did not answer in time" in explain_ray_error(GetTimeoutError("x"), None)
