"""ADD: the steps that give a pod one interface. The package's docstring explains the tables, rules and marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Interface, ip_network

from spiderpool.core.network.plumbing.checks import check
from spiderpool.core.network.plumbing.existing import copy_main_routes, remove_default_routes
from spiderpool.core.network.plumbing.leftovers import (
    already_in_pod,
    lend_device,
    plan_cleanup,
    strict_sources,
    veth_pair,
)
from spiderpool.core.network.plumbing.naming import (
    MAIN_TABLE,
    MARK,
    MARK_TABLE,
    RULE_PRIORITY,
    VETH,
    host_interface,
    pod_mac,
    temporary_name,
    unicast_mac,
)
from spiderpool.core.network.plumbing.routing import (
    NodePath,
    Role,
    copy_to_own_table,
    default_route_holder,
    families_with_path,
    node_path,
    orphan_rules,
    own_table,
    own_table_routes,
    required_node_addresses,
    role_of,
    routes_from_node,
    routes_through,
    routes_to_node,
    source_rule,
    source_rules,
    tables_of,
    takes_default_route,
)
from spiderpool.core.network.plumbing.services import reserved_addresses, service_steps
from spiderpool.core.network.plumbing.steps import (
    AddAddress,
    AddRoute,
    AddRule,
    Announce,
    CreateLink,
    LoadMarks,
    SetLink,
    SetSysctl,
    Step,
)
from spiderpool.core.network.plumbing.values import (
    DISABLED,
    EXISTING,
    MODES,
    Address,
    Attachment,
    Coordination,
    Network,
    Observation,
    PodState,
    default_destination,
)


def plan(attachment: Attachment, observed: Observation) -> tuple[Step, ...]:
    """The steps that give the pod its interface, in order; the first ones remove what an interrupted ADD left.

    Raises:
        BadConfig: the attachment cannot work on this node, or does not fit the pod's other interfaces.
        AddressHeld: the node itself has one of the addresses.
        KernelFailure: the NIC does not exist, or the name in the pod is taken by a link that is not ours.
        NotReady: the node has no address yet through which its pods could reach it.
    """
    steps = full_plan(attachment, observed)
    done = already_in_pod(attachment, observed)
    return (*plan_cleanup(attachment, observed), *(step for step in steps if step not in done))


def full_plan(attachment: Attachment, observed: Observation) -> tuple[Step, ...]:
    """As `plan`, for a pod that has nothing of this interface yet: CHECK compares the pod with it."""
    check(attachment, observed)
    role = role_of(attachment, observed)
    steps: list[Step] = [*_interface(attachment, observed)]
    coordination = attachment.coordination
    if role == "alone" or coordination is None:
        steps += _plain_routes(attachment, observed)
    elif role == "first":
        steps += _first_interface(attachment, coordination, observed)
    else:
        steps += _further_interface(attachment, coordination, observed, role)
    steps += _announcements(attachment)
    return tuple(_without_conflicts(steps, (address.network for address in attachment.addresses)))


def _interface(attachment: Attachment, observed: Observation) -> Iterator[Step]:
    name, coordination = attachment.ifname, attachment.coordination
    if 6 in attachment.versions():
        yield from _prepare_ipv6()
    queue = coordination.tx_queue_len if coordination else 0
    mac = _mac(attachment)
    if attachment.kind == EXISTING:
        yield SetLink("pod", name, queue, mac=mac)
        return
    if attachment.kind == "host-device":
        yield lend_device(attachment)
        yield SetLink("pod", name, queue, attachment.mtu, mac)
    else:
        yield _child(attachment, observed, mac)
        yield SetLink("pod", name, queue)
    for address in attachment.addresses:
        yield AddAddress("pod", name, address)


def _prepare_ipv6() -> Iterator[Step]:
    """Switch IPv6 on, without duplicate address detection: an address is unusable for the second that it takes."""
    yield SetSysctl("pod", "net/ipv6/conf/all/disable_ipv6", "0")
    for scope in ("all", "default"):
        yield SetSysctl("pod", f"net/ipv6/conf/{scope}/accept_dad", "0")


def _child(attachment: Attachment, observed: Observation, mac: str) -> CreateLink:
    assert observed.master is not None  # check raises without a master
    return CreateLink(
        "pod",
        attachment.ifname,
        attachment.kind,
        attachment.mode or MODES[attachment.kind][0],
        attachment.master,
        attachment.mtu or observed.master.mtu,
        temporary_name(attachment.container_id, attachment.ifname) if observed.taken else "",
        mac,
        attachment.vlan_id,
    )


def _mac(attachment: Attachment) -> str:
    coordination = attachment.coordination
    if attachment.mac:
        return unicast_mac(attachment.mac)
    if coordination and coordination.pod_mac_prefix and coordination.mode not in DISABLED:
        return pod_mac(coordination.pod_mac_prefix, (address.ip for address in attachment.addresses))
    return ""


def _plain_routes(attachment: Attachment, observed: Observation) -> Iterator[Step]:
    yield from _main_routes(attachment, attachment.routes)
    yield from (route for route, holder in _defaults(attachment, observed) if holder is None)


def _main_routes(attachment: Attachment, routes: tuple[tuple[Network, Address], ...]) -> Iterator[Step]:
    for version in (4, 6):
        yield from routes_through(attachment.ifname, routes, version)


def _defaults(attachment: Attachment, observed: Observation) -> Iterator[tuple[AddRoute, str | None]]:
    """The default routes that the interface could have in ``main``, and the other link that has each of them now."""
    for gateway in attachment.gateways:
        route = AddRoute("pod", default_destination(gateway.version), attachment.ifname, gateway)
        yield route, default_route_holder(observed.pod, gateway.version, attachment.ifname)


def _first_interface(attachment: Attachment, coordination: Coordination, observed: Observation) -> Iterator[Step]:
    """A pod's first interface: creates the veth pair. Its routes are in ``main``, if needed also in its own table."""
    path = node_path("first", attachment, coordination, observed)
    versions = attachment.versions()
    yield from _main_routes(attachment, (*attachment.routes, *coordination.policy_routes))
    yield from _place_defaults(attachment, coordination, observed, path)
    yield from _veth(attachment, coordination)
    yield from _node_path_steps(attachment, coordination, observed, path, versions)
    if coordination.tune_pod_routes:
        yield from _own_table(
            attachment, coordination, observed, path, _families_with_own_table(attachment, observed.pod)
        )
    yield from _forwarding(observed, versions)
    yield from _reverse_path_filter(coordination, attachment.ifname, VETH)
    yield from _marks(attachment, observed, versions)


def _families_with_own_table(attachment: Attachment, pod: PodState) -> tuple[int, ...]:
    """Families for which the first interface needs a table: another interface has one, or has the default route."""
    needed = {rule.version for rule in source_rules(pod) if rule not in orphan_rules(pod, attachment.ifname)}
    holders = {version: default_route_holder(pod, version, attachment.ifname) for version in attachment.versions()}
    needed |= {version for version, holder in holders.items() if not takes_default_route(attachment, holder)}
    return tuple(version for version in attachment.versions() if version in needed)


def _further_interface(
    attachment: Attachment, coordination: Coordination, observed: Observation, role: Role
) -> Iterator[Step]:
    """An interface beside others: all its routes in a table of its own, and its network's routes also in ``main``."""
    path = node_path(role, attachment, coordination, observed)
    versions = attachment.versions()
    new = tuple(version for version in versions if version not in families_with_path(observed.pod, path))
    yield from _main_routes(attachment, attachment.routes)
    yield from _own_table(attachment, coordination, observed, path, versions)
    if coordination.tune_pod_routes:
        for version in versions:
            yield from _table_of_first(coordination, path, observed, version)
    yield from _place_defaults(attachment, coordination, observed, path)
    yield from _missing_in_main(_node_path_steps(attachment, coordination, observed, path, new), role, observed.pod)
    for version in versions:
        yield from routes_from_node(path, attachment.of(version), coordination.host_rule_table)
    yield from _forwarding(observed, versions)
    yield from _reverse_path_filter(coordination, attachment.ifname, path.link)
    if role == "later" and new:
        yield from _marks(attachment, observed, new)


def _own_table(
    attachment: Attachment, coordination: Coordination, observed: Observation, path: NodePath, versions: tuple[int, ...]
) -> Iterator[Step]:
    table = own_table(observed.pod, attachment.ifname, coordination.first_nic, path.link)
    for version in versions:
        addresses = attachment.of(version)
        if attachment.kind == EXISTING:
            yield from copy_main_routes(attachment.ifname, version, table, observed.pod)
        yield from own_table_routes(attachment, version, table)
        yield from routes_to_node(path, required_node_addresses(observed, version), coordination, addresses[0], table)
        if coordination.tune_pod_routes:
            yield from (source_rule(address, table) for address in addresses)


def _table_of_first(coordination: Coordination, path: NodePath, observed: Observation, version: int) -> Iterator[Step]:
    """Give the first interface a table, so that its traffic to the new interface's subnet still leaves through it.

    If another CNI plugin made the first interface, without our routes through it, which later ADDs may change.
    """
    pod, node = observed.pod, required_node_addresses(observed, version)
    ours = {*coordination.overlay_cidrs, *coordination.service_cidrs, *coordination.hijack_cidrs}
    ours |= {ip_network(address) for address in node}
    table = own_table(pod, coordination.first_nic, coordination.first_nic, path.link)
    for step in copy_to_own_table(coordination.first_nic, version, path, table, pod):
        if not (path.link != VETH and isinstance(step, AddRoute) and step.destination in ours):
            yield step


def _node_path_steps(
    attachment: Attachment,
    coordination: Coordination,
    observed: Observation,
    path: NodePath,
    versions: tuple[int, ...],
) -> Iterator[Step]:
    for version in versions:
        addresses = attachment.of(version)
        node = required_node_addresses(observed, version)
        yield from routes_to_node(path, node, coordination, addresses[0])
        yield from routes_from_node(path, addresses, coordination.host_rule_table)
        template = AddRoute("pod", default_destination(version), path.link, node[0], addresses[0])
        yield from service_steps(template, coordination.service_addresses, _reserved(attachment, observed, path))


def _reserved(attachment: Attachment, observed: Observation, path: NodePath) -> frozenset[Address]:
    return reserved_addresses(observed.pod, path.link, observed.addresses) | {*attachment.gateways}


def _missing_in_main(steps: Iterable[Step], role: Role, pod: PodState) -> Iterator[Step]:
    """Leave out routes to destinations for which another CNI plugin has a route in ``main``: its route stays."""
    present = {route.destination for route in pod.routes if route.table == MAIN_TABLE}
    for step in steps:
        if role == "overlay" and isinstance(step, AddRoute) and _in_main(step) and step.destination in present:
            continue
        yield step


def _in_main(route: AddRoute) -> bool:
    return route.side == "pod" and route.table == MAIN_TABLE


def _place_defaults(
    attachment: Attachment, coordination: Coordination, observed: Observation, path: NodePath
) -> Iterator[Step]:
    """Give the interface the default route in ``main`` if it takes it; its former holder gets a table of its own.

    An interface that another plugin made already has a default route in ``main``: then one of the two is removed.
    """
    has_default = attachment.kind == EXISTING and coordination.tune_pod_routes
    for route, holder in _defaults(attachment, observed):
        version = route.destination.version
        if not takes_default_route(attachment, holder):
            yield from remove_default_routes(observed.pod, attachment.ifname, version) if has_default else ()
            continue
        if holder is not None and not tables_of(observed.pod, holder):
            own = own_table(observed.pod, attachment.ifname, coordination.first_nic, path.link)
            table = own_table(observed.pod, holder, coordination.first_nic, path.link, besides=(own,))
            yield from copy_to_own_table(holder, version, path, table, observed.pod)
        if holder is not None and has_default:
            yield from remove_default_routes(observed.pod, holder, version)
        yield route


def _veth(attachment: Attachment, coordination: Coordination) -> Iterator[Step]:
    host = host_interface(attachment.container_id)
    yield veth_pair(attachment.container_id, coordination)
    yield SetSysctl("node", f"net/ipv6/conf/{host}/accept_ra", "0", required=False)
    yield strict_sources(host)
    yield SetLink("node", host)
    yield SetLink("pod", VETH)
    if coordination.veth_link_address is not None:
        yield AddAddress("pod", VETH, IPv4Interface(coordination.veth_link_address))


def _forwarding(observed: Observation, versions: tuple[int, ...]) -> Iterator[Step]:
    """Switch forwarding on. A node that forwards IPv6 ignores router advertisements unless accept_ra is 2."""
    if 4 in versions and 4 in observed.not_forwarding:
        yield SetSysctl("node", "net/ipv4/ip_forward", "1")
    if 6 in versions and 6 in observed.not_forwarding:
        for link in observed.advertised:
            yield SetSysctl("node", f"net/ipv6/conf/{link}/accept_ra", "2")
        yield SetSysctl("node", "net/ipv6/conf/all/forwarding", "1")


def _reverse_path_filter(coordination: Coordination, *links: str) -> Iterator[Step]:
    """The kernel uses the greater of ``all`` and the link's own value."""
    if coordination.pod_rp_filter is not None:
        for link in ("all", *links):
            yield SetSysctl("pod", f"net/ipv4/conf/{link}/rp_filter", str(coordination.pod_rp_filter))


def _marks(attachment: Attachment, observed: Observation, versions: tuple[int, ...]) -> Iterator[Step]:
    """The rule first and the route last: a rule shows that an ADD began to load marks, a route that it finished."""
    for version in versions:
        yield AddRule("pod", version, RULE_PRIORITY, MARK_TABLE, MARK)
    marked = any(rule.mark == MARK and rule.version in versions for rule in observed.pod.rules)
    yield LoadMarks("pod", VETH, MARK, versions, flush=marked)
    for version in versions:
        gateway = required_node_addresses(observed, version)[0]
        yield AddRoute("pod", default_destination(version), VETH, gateway, table=MARK_TABLE)


def _announcements(attachment: Attachment) -> Iterator[Step]:
    """In modes l3 and l3s an ipvlan child has neither ARP nor neighbour discovery."""
    if attachment.mode in ("l3", "l3s"):
        return
    for address in attachment.addresses:
        yield Announce("pod", attachment.ifname, address.ip)


def _without_conflicts(steps: Iterable[Step], connected: Iterable[Network]) -> Iterator[Step]:
    """Drop repeated steps, and routes to a destination that has one: earlier steps and ``connected`` subnets win."""
    routed: set[tuple[str, int, Network]] = {("pod", MAIN_TABLE, network) for network in connected}
    earlier: set[Step] = set()
    for step in steps:
        if step in earlier:
            continue
        earlier.add(step)
        if isinstance(step, AddRoute):
            key = (step.side, step.table, step.destination)
            if key in routed:
                continue
            routed.add(key)
        yield step
