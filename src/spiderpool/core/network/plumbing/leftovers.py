"""What an earlier attempt left in a pod: what has to go before a new one, and what stays."""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.core.network.plumbing.naming import (
    FIRST_TABLE,
    INTERFACE_TABLES,
    VETH,
    host_interface,
    loan,
    temporary_name,
    veth_mac,
)
from spiderpool.core.network.plumbing.routing import orphans, role_of, tables_of
from spiderpool.core.network.plumbing.steps import CreateVeth, DeleteLink, MoveLink, Remove, Step
from spiderpool.core.network.plumbing.values import (
    MODES,
    PRESENT,
    Attachment,
    Coordination,
    Link,
    Observation,
    PodState,
)
from spiderpool.errors import KernelFailure


def clear(attachment: Attachment, seen: Observation) -> Iterator[Step]:
    """Remove what an earlier attempt left of this interface. Raises KernelFailure when its name is somebody else's."""
    temporary = temporary_name(attachment.container_id, attachment.ifname)
    for link in seen.pod.links:
        if link.name in (attachment.ifname, temporary) and attachment.kind != PRESENT:
            yield from _clear_link(attachment, link)
    yield from forget(seen.pod, attachment.ifname)
    if _replaces_pair(attachment, seen):
        host = host_interface(attachment.container_id)
        yield DeleteLink("node", host) if seen.host_end else DeleteLink("pod", VETH)


def _clear_link(attachment: Attachment, link: Link) -> Iterator[Step]:
    mark = loan(attachment.container_id, attachment.ifname)
    if link.alias.startswith(mark):
        if attachment.kind != "host-device":
            yield MoveLink("node", link.name, link.alias.removeprefix(mark), alias="")
    elif link.kind in MODES:
        yield DeleteLink("pod", link.name)
    else:
        raise KernelFailure(
            f"the pod already has {link.name}, a {link.kind or 'device'} that was not made here:"
            f" two networks ask for the same interface name"
        )


def forget(pod: PodState, ifname: str) -> Iterator[Step]:
    """Empty the tables of an interface: routes through the interface go with it, but those by veth0 would stay."""
    rules = orphans(pod, ifname)
    yield from (Remove(rule) for rule in rules)
    tables = {*tables_of(pod, ifname), *(rule.table for rule in rules)}
    for route in pod.routes:
        if route.table in tables and route.table in (FIRST_TABLE, *INTERFACE_TABLES) and route.link != ifname:
            yield Remove(route)


def held(attachment: Attachment, seen: Observation) -> tuple[Step, ...]:
    """What the pod has already and keeps: a lent device, and the veth pair when other interfaces use it."""
    steps: tuple[Step, ...] = ()
    if on_loan(attachment, seen.pod):
        steps += (lending(attachment),)
    if attachment.coordination and seen.host_end and not _replaces_pair(attachment, seen):
        steps += (veth_pair(attachment.container_id, attachment.coordination),)
    return steps


def _replaces_pair(attachment: Attachment, seen: Observation) -> bool:
    """Whether a veth pair is there that an earlier attempt left, and that no other interface needs as it is."""
    veth, role = seen.pod.link(VETH), role_of(attachment, seen)
    if role in ("later", "overlay") or (veth is None and seen.host_end is None):
        return False
    if not other_interfaces(seen.pod, attachment.container_id, attachment.ifname):
        return True
    intact = veth and seen.host_end and veth.mac == veth_mac(attachment.container_id, "pod")
    return role == "first" and not intact


def other_interfaces(pod: PodState, container_id: str, ifname: str) -> tuple[str, ...]:
    """The pod's interfaces with an address, besides one."""
    not_these = ("lo", VETH, ifname, temporary_name(container_id, ifname))
    return tuple(dict.fromkeys(one.link for one in pod.addresses if one.link not in not_these))


def on_loan(attachment: Attachment, pod: PodState) -> bool:
    """Whether the pod holds the node's device already that it asks for."""
    link = pod.link(attachment.ifname)
    mark = loan(attachment.container_id, attachment.ifname)
    return attachment.kind == "host-device" and link is not None and link.alias.startswith(mark)


def lending(attachment: Attachment) -> MoveLink:
    """Lend the pod a device of the node."""
    alias = loan(attachment.container_id, attachment.ifname) + attachment.master
    return MoveLink("pod", attachment.master, attachment.ifname, alias)


def veth_pair(container: str, coordination: Coordination) -> CreateVeth:
    """The pair that all interfaces of a pod share."""
    return CreateVeth(
        "node",
        host_interface(container),
        veth_mac(container, "node"),
        VETH,
        veth_mac(container, "pod"),
        coordination.veth_mtu,
    )
