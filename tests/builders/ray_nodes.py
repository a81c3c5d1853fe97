"""Nodes of a Ray cluster on one machine that share nothing that two machines would not.

The second node has its own /tmp and /dev/shm, processes, host name and environment. It shares the
code, which has to be on all nodes, and the network.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.builders.paths import ROOT

_RAY = [str(Path(sys.executable).with_name("ray")), "start", "--disable-usage-stats", "--block"]
_OBJECTS_BYTES = 100_000_000
_SECOND = """
set -e
hostname second
mount -t tmpfs tmpfs /mnt
mkdir /mnt/code
mount --bind "$0" /mnt/code
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
mkdir -p "$0"
mount --bind /mnt/code "$0"
cd /
exec env -i HOME=/tmp PATH=/usr/bin:/bin LANG=C.UTF-8 "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of Ray's."""

    address: str
    """The cluster's address."""
    process: "subprocess.Popen[str]"
    """Its first process."""

    @property
    def root(self) -> Path:
        """Where this machine sees the files of a second node."""
        return Path(f"/proc/{self._inner}/root")

    def command(self, folder: Path, *command: str) -> list[str]:
        """Return a command that runs another one on a second node, in a folder there."""
        spaces = ["--mount", "--uts", "--pid", "--ipc"]
        inside = ["sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]
        return ["nsenter", f"--target={self._inner}", *spaces, "--", *inside]

    def kill(self) -> None:
        """End all of its processes at once, as a power cut would."""
        if self.process.poll() is not None:
            return
        own = psutil.Process(self.process.pid)
        for process in (own, *own.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    @property
    def _inner(self) -> int:
        """The first process in the name spaces of a second node."""
        (inner,) = psutil.Process(self.process.pid).children()
        return inner.pid


def environment(token: str = "", **more: str) -> dict[str, str]:
    """The variables of a process that uses a cluster with this token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "PYTHONPATH": str(ROOT), **_of_ray(token), **more}


def unshare_is_missing() -> str:
    """Why this machine cannot hold a second node; empty if it can."""
    if shutil.which("unshare") is None:
        return "there is no unshare"
    tried = subprocess.run(
        [*_unshared(), "mount -t tmpfs tmpfs /mnt && hostname second"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.stderr.strip()


@contextmanager
def head(*, cpus: int, token: str = "", objects_bytes: int = _OBJECTS_BYTES) -> Iterator[Node]:
    """Start the first node of a cluster; it ends with the block.

    Args:
        cpus: what it says that it has; 0 leaves all to other nodes.
        objects_bytes: the size of its part of Ray's object store.
        token: the cluster's token; without one, whoever reaches it may use it.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # Sockets have short paths.
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    address = f"127.0.0.1:{port}"
    command = [*_RAY, "--head", f"--port={port}", "--node-ip-address=127.0.0.1"]
    command += ["--include-dashboard=false", f"--temp-dir={folder}", *_size(cpus, objects_bytes)]
    process = _start(command, {**os.environ, **_of_ray(token)})
    try:
        yield Node(address=address, process=process)
    finally:
        if process.poll() is None:
            # The signal lets Ray end its other processes.
            process.terminate()
            process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def second_node(
    address: str, *, cpus: int, token: str = "", objects_bytes: int = _OBJECTS_BYTES
) -> Iterator[Node]:
    """Start another node of the cluster at `address`; it ends with the block."""
    variables = [f"{name}={value}" for name, value in _of_ray(token).items()]
    ray = [*_RAY, f"--address={address}", "--node-ip-address=127.0.0.1"]
    ray += _size(cpus, objects_bytes)
    command = [*_unshared(), _SECOND, str(ROOT), *variables, *ray]
    node = Node(address=address, process=_start(command, {**os.environ}))
    try:
        yield node
    finally:
        node.kill()


def _unshared() -> list[str]:
    namespaces = ["--mount", "--uts", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *namespaces, "--propagation=private", "sh", "-c"]


def _size(cpus: int, objects_bytes: int) -> list[str]:
    return [f"--num-cpus={cpus}", f"--object-store-memory={objects_bytes}"]


def _of_ray(token: str) -> dict[str, str]:
    """Ray's variables."""
    # A node on a busy machine needs more than the 30 s that Ray gives it to start.
    patience = {"RAY_raylet_start_wait_time_s": "120"}
    if token:
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, **patience}
    return {"RAY_AUTH_MODE": "disabled", **patience}


def _start(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    """Start a node, and wait until it is there."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Else a signal that this process ignores would be ignored there.
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ray runtime started" in line:
            return process
    raise AssertionError("".join(said))
