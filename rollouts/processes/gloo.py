"""Where gloo listens, by which processes with torch talk to each other on CPU. Light to import."""

import os
import socket

_VARIABLE = "GLOO_SOCKET_IFNAME"
_LOOPBACK = "lo"


def listen_on_loopback() -> None:
    """Close gloo's ports in this process to other machines, unless the user has chosen for it.

    Gloo listens on the address of the host's name, and asks for no password.
    """
    if _LOOPBACK in (name for _, name in socket.if_nameindex()):
        os.environ.setdefault(_VARIABLE, _LOOPBACK)
