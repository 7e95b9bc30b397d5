"""An interface that another plugin made: what the coordinator takes over from it, and where its routes go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from spiderpool.core.network.plumbing.naming import MAIN_TABLE
from spiderpool.core.network.plumbing.routing import holder_of_default
from spiderpool.core.network.plumbing.steps import AddRoute, Remove, Step
from spiderpool.core.network.plumbing.values import Address, Attachment, PodState, everything, is_default


def lacking(attachment: Attachment, pod: PodState) -> str:
    """What an interface that must be there lacks, in a sentence; empty when nothing."""
    if pod.link(attachment.ifname) is None:
        return f"{attachment.ifname} is missing in the pod: the plugin before the coordinator has to make it"
    if not pod.held_by(attachment.ifname):
        return f"{attachment.ifname} of the pod has no address: the plugin before the coordinator has to give it one"
    return ""


def adopted(attachment: Attachment, pod: PodState) -> Attachment:
    """The attachment with the addresses and gateways that its interface has in the pod."""
    name = attachment.ifname
    addresses = tuple(one.address for one in pod.addresses if one.link == name)
    return replace(attachment, addresses=addresses, gateways=tuple(_gateways(pod, name)))


def as_in_main(name: str, version: int, table: int, pod: PodState) -> Iterator[AddRoute]:
    """A copy of what ``main`` says of an interface, but for default routes; routes without gateway first."""
    for route in sorted(pod.routes, key=lambda one: one.gateway is not None):
        ours = (route.table, route.link, route.destination.version) == (MAIN_TABLE, name, version)
        if ours and not is_default(route):
            yield replace(route, table=table, source=None)


def without_default(pod: PodState, name: str, version: int) -> Iterator[Remove]:
    """Take the default routes of an interface out of ``main``."""
    for route in pod.routes:
        if is_default(route) and (route.link, route.destination.version) == (name, version):
            yield Remove(route)


def _gateways(pod: PodState, name: str) -> Iterator[Address]:
    """The gateway of each family: from ``main``, or from the interface's own table once its routes have moved there."""
    for version in (4, 6):
        found = [route for route in pod.routes if (route.link, route.destination) == (name, everything(version))]
        for route in sorted(found, key=lambda one: one.table != MAIN_TABLE)[:1]:
            if route.gateway is not None:
                yield route.gateway


def default_by_wish(pod: PodState, name: str, gateways: tuple[Address, ...] | None) -> tuple[Step, ...]:
    """The steps after which an interface that another plugin made has the default route only as the pod wishes.

    ``gateways`` None: not by this interface. Empty: as the plugin left it. Else by these.
    """
    if gateways is None:
        return (*without_default(pod, name, 4), *without_default(pod, name, 6))
    steps: list[Step] = []
    for gateway in gateways:
        steps += without_default(pod, name, gateway.version)
        steps.append(AddRoute("pod", everything(gateway.version), name, gateway))
    return tuple(steps)


def default_if_free(pod: PodState, name: str) -> tuple[Step, ...]:
    """As `default_by_wish` for a pod without a wish: who has the default route already keeps it."""
    taken = [version for version in (4, 6) if holder_of_default(pod, version, name) is not None]
    return tuple(step for version in taken for step in without_default(pod, name, version))
