"""An interface that another plugin of the CNI chain created: the coordinator keeps it and adds the path to the node.

`complete_attachment` reads the interface's addresses and gateways from the pod; `planning` then plans as for an
interface of our own. The other functions here decide which of its routes are copied and which default route stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from spiderpool.core.network.plumbing.foreign import impossible
from spiderpool.core.network.plumbing.naming import MAIN_TABLE
from spiderpool.core.network.plumbing.routing import default_route_holder
from spiderpool.core.network.plumbing.steps import AddRoute, Remove, Step
from spiderpool.core.network.plumbing.values import (
    Address,
    Attachment,
    Interface,
    PodState,
    default_destination,
    is_default,
)


def missing_part(attachment: Attachment, pod: PodState) -> str:
    """A sentence that says what the interface lacks, the link itself or a possible address; empty if it has both."""
    if pod.link(attachment.ifname) is None:
        return f"{attachment.ifname} is missing in the pod: the plugin before the coordinator has to make it"
    if sentence := impossible(attachment):
        return sentence
    if not pod.held_by(attachment.ifname):
        return f"{attachment.ifname} of the pod has no address: the plugin before the coordinator has to give it one"
    if not _given(attachment, pod):
        return (
            f"{attachment.ifname} of the pod has none of the addresses in the result of the plugin before the"
            f" coordinator, which has to give it one"
        )
    return ""


def complete_attachment(attachment: Attachment, pod: PodState) -> Attachment:
    """The attachment, completed with the addresses and gateways that its interface has in the pod.

    Of addresses only those that were given to it: others come from a router's advertisement, or from nobody knows whom.
    """
    return replace(attachment, addresses=_given(attachment, pod), gateways=tuple(_gateways(pod, attachment.ifname)))


def _given(attachment: Attachment, pod: PodState) -> tuple[Interface, ...]:
    given = attachment.ownership.granted | attachment.ownership.reported
    held = (held.address for held in pod.addresses if held.link == attachment.ifname)
    return tuple(address for address in held if address.ip in given)


def copy_main_routes(name: str, version: int, table: int, pod: PodState) -> Iterator[AddRoute]:
    """Copies for ``table`` of an interface's routes in ``main``, except default routes; routes to gateways first."""
    for route in sorted(pod.routes, key=lambda route: route.gateway is not None):
        matches = (route.table, route.link, route.destination.version) == (MAIN_TABLE, name, version)
        if matches and not is_default(route):
            yield replace(route, table=table, source=None)


def remove_default_routes(pod: PodState, name: str, version: int) -> Iterator[Remove]:
    """Remove the default routes of an interface from ``main``."""
    for route in pod.routes:
        if is_default(route) and (route.link, route.destination.version) == (name, version):
            yield Remove(route)


def _gateways(pod: PodState, name: str) -> Iterator[Address]:
    """The gateway of each family: from ``main``, or else from the interface's own table."""
    for version in (4, 6):
        found = [
            route for route in pod.routes if (route.link, route.destination) == (name, default_destination(version))
        ]
        for route in sorted(found, key=lambda route: route.table != MAIN_TABLE)[:1]:
            if route.gateway is not None:
                yield route.gateway


def place_default_route(pod: PodState, name: str, gateways: tuple[Address, ...] | None) -> tuple[Step, ...]:
    """The steps that give an interface of another plugin the default route that the pod's annotation requests.

    ``gateways`` None: no default route through this interface. Empty: as the plugin left it. Else through these.
    """
    if gateways is None:
        return (*remove_default_routes(pod, name, 4), *remove_default_routes(pod, name, 6))
    steps: list[Step] = []
    for gateway in gateways:
        steps += remove_default_routes(pod, name, gateway.version)
        steps.append(AddRoute("pod", default_destination(gateway.version), name, gateway))
    return tuple(steps)


def place_default_route_if_free(pod: PodState, name: str) -> tuple[Step, ...]:
    """As `place_default_route` for a pod without that annotation: the present holder keeps the default route."""
    taken = [version for version in (4, 6) if default_route_holder(pod, version, name) is not None]
    return tuple(step for version in taken for step in remove_default_routes(pod, name, version))
