"""A Ray cluster of the user's own: its address, its nodes, and places for processes on them."""

import logging
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

ADDRESS = "AGENT_RL_RAY_ADDRESS"
"""The environment variable with the cluster's address. Processes that this one starts read it."""
WAIT_SECONDS = 600.0
"""How long to wait for places. A cluster that adds nodes when they are needed takes minutes."""
_ANSWER_SECONDS = 5.0
"""How long an address gets to accept a connection."""
_HEAD_SECONDS = 30.0
"""How long the head may be away, as it may start again. After 60 s Ray ends this process."""
_head_lost_at: float | None = None
"""Since when the head has not answered (monotonic)."""
_PATIENCE_SECONDS = 5.0
"""After this wait a line says what is missing."""


def use_cluster(address: str | None) -> str | None:
    """Let Ray connect to the cluster at `address`, or to this machine's with `auto`.

    None leaves things as they are: Ray starts on this machine.

    Raises:
        ValueError: it is an address for Ray's client, which cannot share memory.
    """
    if address is not None:
        _refuse_client(address)
        os.environ[ADDRESS] = address
    return address


def cluster_address() -> str | None:
    """Return the address that `use_cluster` was given."""
    return os.environ.get(ADDRESS) or None


def connect(address: str) -> None:
    """Connect to a cluster.

    Raises:
        ValueError: there is none, or it wants another token.
    """
    _refuse_client(address)
    import ray
    from ray._private.authentication.authentication_utils import is_token_auth_enabled
    from ray._private.services import canonicalize_bootstrap_address
    from ray.exceptions import AuthenticationError

    try:
        found = canonicalize_bootstrap_address(address)
        if found is None or not _answers(found):
            # Ray itself would try for minutes.
            raise ConnectionError("nothing answers there")
        ray.init(
            address=found,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        said = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"--ray-address {address}: {said}; start Ray on this machine (`ray start`, `ray up` or "
            "KubeRay), or leave the option out to start Ray for this run alone"
        ) from error
    if not is_token_auth_enabled():
        logging.getLogger(__name__).warning(
            "Ray's cluster at %s asks for no token: whoever reaches its ports can run code on it "
            "(RAY_AUTH_MODE=token on all nodes closes it)",
            address,
        )


def lost_part(*, head: bool) -> str | None:
    """Return what is gone of the cluster, in a few words: its part of this node, or its head.

    Args:
        head: whether to look for the head too. It is gone if it is away for a while.
    """
    from ray._private.worker import global_worker

    global _head_lost_at
    if cluster_address() is None or global_worker.node is None:
        return None
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(global_worker.node.raylet_socket_name)
    except (ConnectionRefusedError, FileNotFoundError):
        return "Ray's own process of this node ended"
    except OSError:
        pass  # too many wait for it to accept them, so it lives
    if not head:
        return None
    if _answers(global_worker.gcs_client.address):
        _head_lost_at = None
        return None
    now = time.monotonic()
    _head_lost_at = now if _head_lost_at is None else _head_lost_at
    return "the head of Ray's cluster is gone" if now - _head_lost_at > _HEAD_SECONDS else None


def _answers(address: str) -> bool:
    """Whether something accepts connections at `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _refuse_client(address: str) -> None:
    if address.startswith("ray://"):
        raise ValueError(
            f"--ray-address {address}: Ray Client cannot be used; run on a node of the cluster, "
            "such as with `ray job submit`, and give --ray-address auto"
        )


def this_node() -> str:
    """Return Ray's id of the node that this process runs on."""
    import ray

    node: str = ray.get_runtime_context().get_node_id()
    return node


def node_address() -> str:
    """Return the address of this node that others reach. A host name may stand for a loopback."""
    import ray

    address: str = ray.util.get_node_ip_address()
    return address


def address_of(node: str) -> str:
    """Return the address at which a node's processes take connections from all of Ray's nodes."""
    import ray

    if not is_cluster():
        return "127.0.0.1"
    addresses = {one["NodeID"]: one["NodeManagerAddress"] for one in ray.nodes()}
    return str(addresses[node])


def is_cluster() -> bool:
    """Return whether Ray is a cluster of the user's own, with other jobs or other nodes."""
    import ray

    return cluster_address() is not None or sum(node["Alive"] for node in ray.nodes()) > 1


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a process needs on a cluster."""

    cpus: float = 1.0
    """Cores."""
    gpus: float = 0.0
    """GPUs."""
    here: bool = False
    """Whether it has to run on the node of the process that asks."""


class Places:
    """Places for processes, by number.

    On a cluster, a placement group has found room for all of them at once, and keeps it until
    `hand_over`. Then the processes hold their places themselves, and one that replaces another
    takes any node that has room.

    The group does not stay, because of what Ray does if a node of it is lost: until there is room
    again, the head tries to place the group anew without a pause, and before all other groups
    (https://github.com/ray-project/ray/pull/65007). A process that waits for room costs nothing.
    """

    def __init__(self, needs: Sequence[Need], what: str = "", group: Any = None) -> None:
        """Keep the needs, their settings, and Ray's placement group with a bundle for each."""
        self._needs, self._what, self._group = needs, what, group
        self._nodes: dict[int, str] = {}
        """The nodes that the group has found for processes that were not started yet."""
        self.may_wait = group is not None
        """Whether a process may have to wait for a node with room, as on a cluster."""
        if group is not None:
            from ray.util import placement_group_table

            self._nodes |= placement_group_table(group)["bundles_to_node_id"]

    def options(self, number: int) -> dict[str, Any]:
        """Return Ray's options for the process at a place; negative numbers count from the end.

        The first process of a place starts where the group has found room, all later ones anywhere.
        """
        number = range(len(self._needs))[number]
        need = self._needs[number]
        if not self.may_wait:
            # Ray on this machine has no CPUs, so it starts no idle workers in advance.
            return {"num_cpus": 0, "num_gpus": need.gpus}
        options: dict[str, Any] = {"num_cpus": need.cpus, "num_gpus": need.gpus}
        found = self._nodes.pop(number, None)
        if need.here:
            return options | _on_node(this_node(), soft=False)
        return options if found is None else options | _on_node(found, soft=True)

    def missing(self) -> str:
        """Return what is asked for, what there is, and what is free."""
        import ray

        asked = {
            "CPU": sum(need.cpus for need in self._needs),
            "GPU": sum(need.gpus for need in self._needs),
        }
        alive = [node for node in ray.nodes() if node["Alive"]]
        there, free = ray.cluster_resources(), ray.available_resources()
        said = (
            f"{self._what} need {_amounts(asked)}; there are {_amounts(there)} on {len(alive)} "
            f"node{'s' * (len(alive) != 1)}, and {_amounts(free)} are free"
        )
        own: dict[str, float] = next(
            (node["Resources"] for node in alive if node["NodeID"] == this_node()), {}
        )
        here = [_bundle(need) for need in self._needs if need.here]
        if any(count > own.get(name, 0.0) for need in here for name, count in need.items()):
            said += (
                "; the learner's first process has to be on the node of this command, which has "
                f"{_amounts(own)}"
            )
        return said

    def hand_over(self) -> None:
        """Give the group's room to the processes, which have been asked for. Or to nobody."""
        group, self._group = self._group, None
        # If Ray is gone, the places are too, and the call would wait.
        if group is not None and lost_part(head=True) is None:
            _remove(group)


def reserve(needs: Sequence[Need], what: str) -> Places:
    """Return places for processes. On a cluster this waits until there is room.

    Args:
        needs: of each process.
        what: the settings that say how many there are, for messages.

    Raises:
        ValueError: the cluster had no room within `WAIT_SECONDS`; the message says what is missing.
    """
    if not is_cluster():
        return Places(needs, what)
    from ray.util import placement_group

    here = this_node()
    group = placement_group(
        [_bundle(need) for need in needs],
        strategy="PACK",
        bundle_label_selector=[{"ray.io/node-id": here} if need.here else {} for need in needs],
    )
    try:
        if not group.wait(min(_PATIENCE_SECONDS, WAIT_SECONDS)):
            missing = Places(needs, what).missing
            logging.getLogger(__name__).warning(
                "waiting up to %g s for room on Ray's cluster: %s", WAIT_SECONDS, missing()
            )
            if not group.wait(max(WAIT_SECONDS - _PATIENCE_SECONDS, 0.0)):
                raise ValueError(
                    f"Ray's cluster had no room within {WAIT_SECONDS:g} s: {missing()}; lower "
                    "these settings, add nodes, or wait for other jobs"
                )
        return Places(needs, what, group)
    except BaseException:
        _remove(group)
        raise


def _remove(group: Any) -> None:
    from ray.util import remove_placement_group

    with suppress(Exception):
        remove_placement_group(group)


def node_process(node: str) -> dict[str, Any]:
    """Return Ray's options for a small process on a node, beside all places."""
    return {"num_cpus": 0, **_on_node(node, soft=False)}


def _on_node(node: str, *, soft: bool) -> dict[str, Any]:
    """Ray's options for a process on a node; `soft` if it may go elsewhere once that is lost."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=soft)}


def _bundle(need: Need) -> dict[str, float]:
    return {"CPU": need.cpus, **({"GPU": need.gpus} if need.gpus else {})}


def _amounts(resources: Mapping[str, float]) -> str:
    cpus, gpus = (math.floor(resources.get(name, 0.0) * 10) / 10 for name in ("CPU", "GPU"))
    return f"{cpus:g} CPU and {gpus:g} GPU"
