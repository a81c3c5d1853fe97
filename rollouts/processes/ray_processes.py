"""What starting processes with Ray takes. Ray is imported only when some are started."""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rollouts.processes.lifeline import end_with


def process_of(
    cls: type, *, max_concurrency: int, environment: dict[str, str], gpus: float = 0.0
) -> Callable[..., Any]:
    """The constructor of `cls` in a process of its own, which ends with this one.

    A dead one stays dead: whoever started it decides what follows.
    """
    import ray

    driver, machine = os.getpid(), socket.gethostname()

    class Actor(cls):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            if (
                socket.gethostname() == machine
            ):  # on another one of a cluster, the number is somebody else's
                end_with(driver)
            super().__init__(*arguments, **settings)

    Actor.__name__ = Actor.__qualname__ = cls.__name__
    remote = ray.remote(Actor).options(
        num_cpus=0,
        num_gpus=gpus,
        max_concurrency=max_concurrency,
        max_restarts=0,
        max_task_retries=0,
        runtime_env={"env_vars": environment},
    )
    return partial(remote.remote)


def gpus_there() -> int:
    """How many GPUs Ray knows of."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


_users = 0
"""How many called `start_ray` and not yet `stop_ray`, where Ray was started here."""


def start_ray() -> None:
    """Start Ray in this machine, quietly, where this process has none yet. Each call needs a
    `stop_ray`.
    """
    import ray

    global _users
    if ray.is_initialized():
        _users += _users > 0
        return
    _users = 1
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(
        address="local",
        num_cpus=0,  # what is started here asks for none; with more, Ray starts idle workers in advance
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
    )


def get(references: Any) -> Any:
    """`ray.get`, with an error that a user can mend as it was raised."""
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(references)
    except RayTaskError as error:
        for kind in (ValueError, FloatingPointError):
            if isinstance(error.cause, kind):
                raise kind(str(error.cause)) from None
        raise


def put(value: Any) -> Any:
    """Ray's reference to a value; processes get the value, which is sent to a machine once for all
    of them.
    """
    import ray

    return ray.put(value)


def call_all(actors: Sequence[Any], method: str, *arguments: Any, **settings: Any) -> list[Any]:
    """Call a method of all actors at the same time; their answers, in the actors' order.

    The first error is raised at once: the others may wait for the one that has failed, and for
    ever.
    """
    import ray

    calls = [getattr(one, method).remote(*arguments, **settings) for one in actors]
    pending = list(calls)
    while pending:
        done, pending = ray.wait(pending, num_returns=1)
        get(done[0])
    return [get(call) for call in calls]


def end_processes(started: Sequence[Any]) -> None:
    """End processes at once."""
    import ray

    for one in started:
        ray.kill(one)


def stop_ray() -> None:
    """Undo a `start_ray`: Ray ends with its last user. One that the program itself had started goes
    on.
    """
    import ray

    global _users
    if _users == 1:
        ray.shutdown()
    _users = max(_users - 1, 0)
