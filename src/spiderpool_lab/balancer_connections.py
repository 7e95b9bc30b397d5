"""Connections through the balancers of the simulated cloud that must not go on to the target which they have chosen."""

from __future__ import annotations

from collections.abc import Iterable

from spiderpool.core.network.hostports import Connection
from spiderpool.kernel.conntrack import forget_udp
from spiderpool_lab.alibaba.forwarding import Frontend


def end_stale_udp(applied: Iterable[Frontend]) -> None:
    """Let datagrams go to a present target that have gone to a former one, or to none, from the same port of a client.

    The kernel chooses a target for the first datagram only, and each further one keeps that choice. Acts in the network
    namespace of the calling thread. Raises KernelFailure.
    """
    found = [frontend for frontend in applied if frontend.transport == "udp"]
    choices = {(each.address, each.port): {(one.address, one.port) for one in each.targets} for each in found}

    def is_stale(connection: Connection) -> bool:
        present = choices.get((connection.destination, connection.port))
        return present is not None and (connection.answer_source, connection.answer_port) not in present

    for version in {frontend.version for frontend in found}:
        forget_udp(version, {frontend.port for frontend in found if frontend.version == version}, is_stale)
