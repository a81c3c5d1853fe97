"""Starts, calls and ends processes with Ray, which is imported only when it is needed."""

import logging
import math
import os
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import psutil

from rollouts.processes.lifeline import end_with
from rollouts.processes.ray_cluster import cluster_address, connect, lost_part, this_node
from rollouts.processes.ray_failures import NoAnswer, RayGone, death_of, raised_at_start, ray_gone
from rollouts.processes.ray_folder import ray_folder
from rollouts.processes.ray_signals import in_own_session, signals_kept


def process_of(
    cls: type,
    *,
    max_concurrency: int,
    environment: Mapping[str, str],
    place: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """Return a constructor that starts a process with an instance of `cls` and returns its actor.

    The process ends with this one. If it dies it stays dead: whoever started it decides what to do.
    It works in the folder of this process, if its node has that folder, and finds its modules.
    The constructor raises RayGone if Ray has ended.

    Args:
        max_concurrency: calls of its methods that may run at the same time.
        environment: environment variables of the process.
        place: Ray's options for where it runs, as of `Places.options`; None is anywhere.
    """
    import ray

    driver, home, folder = os.getpid(), this_node(), os.getcwd()

    class Actor(cls):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            # On another machine of a cluster, the driver's number is another process.
            if this_node() == home:
                end_with(driver)
            with suppress(OSError):
                os.chdir(folder)
            super().__init__(*arguments, **settings)

        def process_id(self) -> tuple[str, int]:
            """Return the node and the id of the process."""
            return this_node(), os.getpid()

        def live_with(self, process: tuple[str, int]) -> None:
            """End soon after another process of this node, as its `process_id` names it."""
            end_with(process[1])

    Actor.__name__ = Actor.__qualname__ = cls.__name__
    remote = ray.remote(Actor).options(
        max_concurrency=max_concurrency,
        max_restarts=0,
        max_task_retries=0,
        runtime_env={"env_vars": {"PYTHONPATH": _module_path(), **environment}},
        **(place or {"num_cpus": 0}),
    )

    def start(*arguments: Any, **settings: Any) -> Any:
        check_ray()  # a start would wait for ever
        actor = remote.remote(*arguments, **settings)
        when_answered(actor.process_id.remote(), partial(_note_process, actor))
        return actor

    return start


_RAYLET, _GCS = "raylet", "gcs_server"
"""Ray's own processes, by Ray's names: one starts processes, the other knows of their deaths."""
_LOOK_SECONDS = 1.0
_DEATH_SECONDS = 5.0
"""For Ray to tell of a death that another process has noticed."""


def check_ray(*names: str) -> None:
    """Raise RayGone if one of Ray's own processes with these names has ended, or any by default."""
    from ray._private.worker import global_worker

    parts = {} if global_worker.node is None else global_worker.node.all_processes
    for name in names or (_RAYLET, _GCS):
        for part in parts.get(name, ()):
            if part.process.poll() is not None:
                raise ray_gone(name, part.process.returncode, _logs)
    # Those of a cluster that runs already were not started here.
    if lost := lost_part(head=not names or _GCS in names):
        raise RayGone(f"{lost}, so no other process can go on")


def _module_path() -> str:
    """The folders where this process finds modules, but those of Python's installation.

    Ray's processes do not inherit them, and a user's own environment is found there.
    """
    paths = sysconfig.get_paths()
    installed = tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    own = [name for name in sys.path if name and not name.startswith(installed)]
    return os.pathsep.join([*own, os.getcwd()])


_process_ids: dict[Any, tuple[str, int]] = {}
"""The node and the process of each actor that has started, by Ray's id of the actor."""


def _note_process(actor: Any, answer: Callable[[], tuple[str, int]]) -> None:
    # The error of a failed start is told by the calls that wait for it.
    with suppress(Exception):
        _process_ids[actor._actor_id] = answer()


def gpu_count() -> int:
    """Return how many GPUs Ray knows."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


_users = 0
"""The calls of `start_ray` that no `stop_ray` has undone; 0 if Ray was started elsewhere."""


_logs: Path | None = None
"""The folder of the logs of Ray's last session."""


def logs_folder() -> Path | None:
    """Return the folder with the logs of the processes, also when they have ended."""
    return _logs


def start_ray() -> None:
    """Start Ray on this machine if this process has none. Each call needs a `stop_ray`.

    If `use_cluster` was given an address, this connects to the cluster there.

    Raises:
        ValueError: there is no folder for Ray's sockets and logs, or no cluster at the address.
    """
    address = cluster_address()
    if address is None:
        _protect_ray()
    import ray

    global _logs, _users
    if ray.is_initialized():
        _logs = _session_logs()
        # A program that started Ray itself also stops it: then nothing is counted.
        _users += _users > 0
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would keep a record of each call, and its memory would grow with each episode.
    os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
    # Its own statistics, each minute, would be 4 MiB of logs an hour.
    os.environ.setdefault("RAY_event_stats_print_interval_ms", "3600000")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None:
        _start_here()
    else:
        with signals_kept():
            connect(address)
    _users = 1
    _logs = _session_logs()


def _start_here() -> None:
    """Start Ray on this machine, for this process alone."""
    import ray

    folder = ray_folder()
    with signals_kept(), in_own_session():
        ray.init(
            address="local",
            _temp_dir=str(folder),
            # Our processes ask for no CPUs. With more than 0, Ray starts idle workers in advance.
            num_cpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )


def _protect_ray() -> None:
    """Let only processes that know a new token call Ray, unless the user has set this up.

    Ray listens on all addresses, and whoever may call it may run code. Its own default is a token
    in the home folder, which may not be writable, or in older versions none.
    """
    # Ray reads these variables when it is imported.
    if "ray" not in sys.modules and not any(name.startswith("RAY_AUTH_") for name in os.environ):
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex(32)}


def _session_logs() -> Path | None:
    """The folder of the logs of this session; None if it is not on this machine."""
    from ray._private.worker import global_worker

    node = global_worker.node
    return None if node is None else Path(node.get_logs_dir_path())


_MENDABLE = (ValueError, FloatingPointError)
"""Errors that a user can act on."""


def get(references: Any, *, seconds: float | None = None) -> Any:
    """Return the answers of calls, as `ray.get`.

    Args:
        seconds: the longest wait; None waits for ever.

    Raises:
        ValueError, FloatingPointError: a call or a constructor raised it; a user can act on these,
            so they arrive as they were raised, without Ray's traceback.
    """
    import ray

    return _as_raised(lambda: ray.get(references, timeout=seconds))


def _as_raised(answer: Callable[[], Any]) -> Any:
    """Return `answer()`; errors of `_MENDABLE` arrive as they were raised in the process."""
    from ray.exceptions import ActorDiedError, RayTaskError

    try:
        return answer()
    except RayTaskError as error:
        for kind in _MENDABLE:
            if isinstance(error.cause, kind):
                raise kind(str(error.cause)) from None
        raise
    except ActorDiedError as error:
        name, message = raised_at_start(error) or ("", "")
        for kind in _MENDABLE:
            if name == kind.__name__:
                raise kind(message) from None
        raise


def when_answered(reference: Any, callback: Callable[[Callable[[], Any]], None]) -> None:
    """Call `callback` with a function that returns the answer, as soon as there is one.

    The function raises as `get` does. The callback runs in a thread of Ray's, so it must not wait.
    """

    def answered(future: Future[Any]) -> None:
        callback(partial(_as_raised, future.result))

    reference.future().add_done_callback(answered)


def wait(references: Sequence[Any], *, seconds: float) -> None:
    """Wait until all calls have ended, whether well or not, but no longer than `seconds`."""
    import ray

    if references:
        ray.wait(list(references), num_returns=len(references), timeout=seconds)


def cancel(reference: Any) -> None:
    """Ask a process to stop working on a call; nobody gets its answer."""
    import ray

    ray.cancel(reference)


def put(value: Any) -> Any:
    """Return Ray's reference to a value, which is then sent to each machine only once.

    Raises:
        RayGone: Ray has ended; its library would then end this process without a word.
    """
    import ray

    check_ray(_RAYLET)
    return ray.put(value)


def calls_of_all(actors: Sequence[Any], method: str, *arguments: Any) -> list[Any]:
    """Call a method of all actors at the same time; return what to wait for, in their order."""
    return [getattr(actor, method).remote(*arguments) for actor in actors]


def wait_for_all(calls: Sequence[Any], *, seconds: float = math.inf) -> list[Any]:
    """Return the answers of calls in their order.

    The first error is raised at once: other processes may wait for the failed one for ever. But a
    death comes before the errors of those who lost their connection to the dead process.

    Raises:
        NoAnswer: some have not answered after `seconds`.
        RayGone: Ray ended, so that nobody would tell of a death.
    """
    import ray

    pending, limit = list(calls), time.monotonic() + seconds
    while pending:
        done, pending = ray.wait(pending, num_returns=1, timeout=_LOOK_SECONDS)
        for call in done:
            try:
                get(call)
            except Exception as error:
                if isinstance(error, _MENDABLE) or death_of(error) is not None:
                    raise
                if (death := _death_among(pending)) is None:
                    raise
                raise death from error
        if not done:
            check_ray(_RAYLET)
            if time.monotonic() > limit:
                raise NoAnswer(f"a process did not answer within {seconds:g} s")
    return [get(call) for call in calls]


def _death_among(pending: Sequence[Any]) -> Exception | None:
    """Return the error of a call whose process has died, or dies within `_DEATH_SECONDS`.

    A rank sees that another one closed its connection before Ray sees why. So its error,
    "connection reset by peer", comes first.
    """
    import ray

    limit = time.monotonic() + _DEATH_SECONDS
    while pending and (seconds := limit - time.monotonic()) > 0:
        done, pending = ray.wait(list(pending), num_returns=1, timeout=seconds)
        for call in done:
            try:
                get(call)
            except Exception as other:
                if death_of(other) is not None:
                    return other
    return None


def end_processes(actors: Sequence[Any]) -> None:
    """End the processes of actors at once."""
    import ray

    gone = ray_is_gone()
    for actor in actors:
        node, pid = _process_ids.pop(actor._actor_id, ("", 0))
        if not gone:
            ray.kill(actor)
        if node == this_node():
            _kill(pid, only_if_stopped=not gone)


def _kill(pid: int, *, only_if_stopped: bool) -> None:
    """End a process by a signal.

    Ray asks a process to end itself, which one that is stopped (SIGSTOP) cannot. Of any other one,
    Ray would report such an end as unexpected.
    """
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if not only_if_stopped or process.status() == psutil.STATUS_STOPPED:
            process.kill()


def ray_is_gone() -> bool:
    """Return whether one of Ray's own processes on this machine has ended."""
    try:
        check_ray()
    except RayGone:
        return True
    return False


def stop_ray() -> None:
    """Undo a `start_ray`. Ray stops with its last user, unless the program itself started it."""
    import ray

    global _users
    if _users == 1:
        with signals_kept():
            ray.shutdown()
    _users = max(_users - 1, 0)
