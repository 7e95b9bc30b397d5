"""What an interrupted ADD left in a pod: what the next ADD removes first, and what it keeps.

A repeated ADD rebuilds its own interface. It keeps what the pod's other interfaces use: the veth pair and their tables.
"""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.core.network.plumbing.naming import (
    FIRST_TABLE,
    INTERFACE_TABLES,
    VETH,
    host_interface,
    temporary_name,
    veth_mac,
)
from spiderpool.core.network.plumbing.routing import orphan_rules, role_of, tables_of
from spiderpool.core.network.plumbing.steps import CreateVeth, DeleteLink, MoveLink, Remove, SetSysctl, Step
from spiderpool.core.network.plumbing.values import (
    EXISTING,
    MODES,
    Attachment,
    Coordination,
    Link,
    Observation,
    PodState,
)
from spiderpool.errors import KernelFailure


def plan_cleanup(attachment: Attachment, observed: Observation) -> Iterator[Step]:
    """The steps that remove what an interrupted ADD of this interface left.

    Raises:
        KernelFailure: the pod has a link of this name that is not ours.
    """
    temporary = temporary_name(attachment.container_id, attachment.ifname)
    for link in observed.pod.links:
        if link.name in (attachment.ifname, temporary) and attachment.kind != EXISTING:
            yield from _remove_link(attachment, link)
    yield from empty_tables(observed.pod, attachment.ifname)
    if _replaces_veth_pair(attachment, observed):
        host = host_interface(attachment.container_id)
        yield DeleteLink("node", host) if observed.host_end else DeleteLink("pod", VETH)


def _remove_link(attachment: Attachment, link: Link) -> Iterator[Step]:
    if _is_device(attachment, link):
        return
    if link.kind in MODES:
        yield DeleteLink("pod", link.name)
    else:
        raise KernelFailure(
            f"the pod already has {link.name}, a {link.kind or 'device'} that was not made here:"
            f" two networks ask for the same interface name"
        )


def empty_tables(pod: PodState, ifname: str) -> Iterator[Step]:
    """The steps that remove an interface's source rules, and its tables' routes through other links, such as veth0.

    The kernel removes the routes through the interface together with it.
    """
    rules = orphan_rules(pod, ifname)
    yield from (Remove(rule) for rule in rules)
    tables = {*tables_of(pod, ifname), *(rule.table for rule in rules)}
    for route in pod.routes:
        if route.table in tables and route.table in (FIRST_TABLE, *INTERFACE_TABLES) and route.link != ifname:
            yield Remove(route)


def already_in_pod(attachment: Attachment, observed: Observation) -> tuple[Step, ...]:
    """Steps of the plan whose result the pod has and keeps: a lent device, and a veth pair that is not replaced."""
    steps: tuple[Step, ...] = ()
    if is_lent(attachment, observed.pod):
        steps += (lend_device(attachment),)
    if attachment.coordination and observed.host_end and not _replaces_veth_pair(attachment, observed):
        steps += (veth_pair(attachment.container_id, attachment.coordination),)
    return steps


def _replaces_veth_pair(attachment: Attachment, observed: Observation) -> bool:
    """Whether to delete a leftover veth pair: no other interface uses it, or it is damaged and this ADD repairs it."""
    veth, role = observed.pod.link(VETH), role_of(attachment, observed)
    if role in ("later", "overlay") or (veth is None and observed.host_end is None):
        return False
    if not other_interfaces(observed.pod, attachment.container_id, attachment.ifname):
        return True
    intact = veth and observed.host_end and veth.mac == veth_mac(attachment.container_id, "pod")
    return role == "first" and not intact


def other_interfaces(pod: PodState, container_id: str, ifname: str) -> tuple[str, ...]:
    """The pod's interfaces with an address, other than ``ifname``."""
    excluded = ("lo", VETH, ifname, temporary_name(container_id, ifname))
    return tuple(dict.fromkeys(held.link for held in pod.addresses if held.link not in excluded))


def is_lent(attachment: Attachment, pod: PodState) -> bool:
    """Whether the pod already has the device of the node that the attachment requests."""
    link = pod.link(attachment.ifname)
    return link is not None and _is_device(attachment, link)


def _is_device(attachment: Attachment, link: Link) -> bool:
    loan = attachment.loan
    return attachment.kind == "host-device" and loan is not None and loan.find([link], attachment.ifname) is not None


def lend_device(attachment: Attachment) -> MoveLink:
    """The step that moves a device of the node into the pod."""
    return MoveLink("pod", attachment.master, attachment.ifname)


def strict_sources(host_end: str) -> SetSysctl:
    """The step by which the node drops what comes from a pod with an address of somebody else as source.

    The kernel uses the greater of ``all`` and the link's own value. It may be 2: on a link without addresses that is
    as strict.
    """
    return SetSysctl("node", f"net/ipv4/conf/{host_end}/rp_filter", "1", required=False)


def veth_pair(container: str, coordination: Coordination) -> CreateVeth:
    """The step that creates the veth pair, which all interfaces of a pod share."""
    return CreateVeth(
        "node",
        host_interface(container),
        veth_mac(container, "node"),
        VETH,
        veth_mac(container, "pod"),
        coordination.veth_mtu,
    )
