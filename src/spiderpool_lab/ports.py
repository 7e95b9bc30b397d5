"""Loopback ports for the servers of a lab."""

from __future__ import annotations

import random
import socket
from itertools import islice


def free_ports(count: int) -> list[int]:
    """TCP ports that are free now, below the range from which the kernel takes ports for clients.

    One of that range could be taken by a client between now and the start of the server.
    """
    return list(islice(filter(_is_free, random.sample(range(20000, 32768), 1000)), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
