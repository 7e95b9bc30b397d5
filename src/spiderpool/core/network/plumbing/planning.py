"""ADD: the steps that give a pod one interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Interface, ip_network

from spiderpool.core.network.plumbing.adopting import as_in_main, without_default
from spiderpool.core.network.plumbing.checks import check
from spiderpool.core.network.plumbing.leftovers import clear, held, lending, veth_pair
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
    from_address,
    from_node,
    holder_of_default,
    keep_apart,
    node_path,
    orphans,
    own_routes,
    own_table,
    required_node_addresses,
    role_of,
    routes_by,
    served,
    source_rules,
    tables_of,
    takes_default,
    to_node,
)
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
    MODES,
    PRESENT,
    Address,
    Attachment,
    Coordination,
    Network,
    Observation,
    PodState,
    everything,
)


def plan(attachment: Attachment, seen: Observation) -> tuple[Step, ...]:
    """The steps that give the pod its interface, in order; leftovers of an ADD that was cut short are removed first.

    Raises:
        BadConfig: the attachment cannot work on this node, or does not fit the pod's other interfaces.
        KernelFailure: the NIC does not exist, or the name in the pod is taken by a link that is not ours.
        NotReady: the node has no address yet through which its pods could reach it.
    """
    steps = wanted(attachment, seen)
    kept = held(attachment, seen)
    return (*clear(attachment, seen), *(step for step in steps if step not in kept))


def wanted(attachment: Attachment, seen: Observation) -> tuple[Step, ...]:
    """As `plan`, for a pod that holds nothing of this interface yet: what `drift` compares with."""
    check(attachment, seen)
    role = role_of(attachment, seen)
    steps: list[Step] = [*_interface(attachment, seen)]
    coordination = attachment.coordination
    if role == "alone" or coordination is None:
        steps += _plain_routes(attachment, seen)
    elif role == "first":
        steps += _first(attachment, coordination, seen)
    else:
        steps += _further(attachment, coordination, seen, role)
    steps += _announcements(attachment)
    return tuple(_first_wins(steps, (address.network for address in attachment.addresses)))


def _interface(attachment: Attachment, seen: Observation) -> Iterator[Step]:
    name, coordination = attachment.ifname, attachment.coordination
    if 6 in attachment.versions():
        yield from _prepare_ipv6()
    queue = coordination.tx_queue_len if coordination else 0
    mac = _mac(attachment)
    if attachment.kind == PRESENT:
        yield SetLink("pod", name, queue, mac=mac)
        return
    if attachment.kind == "host-device":
        yield lending(attachment)
        yield SetLink("pod", name, queue, attachment.mtu, mac)
    else:
        yield _child(attachment, seen, mac)
        yield SetLink("pod", name, queue)
    for address in attachment.addresses:
        yield AddAddress("pod", name, address)


def _prepare_ipv6() -> Iterator[Step]:
    """No duplicate address detection: an address would be unusable for the second that it takes."""
    yield SetSysctl("pod", "net/ipv6/conf/all/disable_ipv6", "0")
    for scope in ("all", "default"):
        yield SetSysctl("pod", f"net/ipv6/conf/{scope}/accept_dad", "0")


def _child(attachment: Attachment, seen: Observation, mac: str) -> CreateLink:
    assert seen.master is not None  # or check would have refused
    return CreateLink(
        "pod",
        attachment.ifname,
        attachment.kind,
        attachment.mode or MODES[attachment.kind][0],
        attachment.master,
        attachment.mtu or seen.master.mtu,
        temporary_name(attachment.container_id, attachment.ifname) if seen.taken else "",
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


def _plain_routes(attachment: Attachment, seen: Observation) -> Iterator[Step]:
    yield from _in_main(attachment, attachment.routes)
    yield from (route for route, holder in _defaults(attachment, seen) if holder is None)


def _in_main(attachment: Attachment, routes: tuple[tuple[Network, Address], ...]) -> Iterator[Step]:
    for version in (4, 6):
        yield from routes_by(attachment.ifname, routes, version)


def _defaults(attachment: Attachment, seen: Observation) -> Iterator[tuple[AddRoute, str | None]]:
    """The default routes that the interface could have in ``main``, and which link has that one now."""
    for gateway in attachment.gateways:
        route = AddRoute("pod", everything(gateway.version), attachment.ifname, gateway)
        yield route, holder_of_default(seen.pod, gateway.version, attachment.ifname)


def _first(attachment: Attachment, coordination: Coordination, seen: Observation) -> Iterator[Step]:
    """The interface that makes the veth pair; its routes are in ``main`` unless another owns the default route."""
    path = node_path("first", attachment, coordination, seen)
    versions = attachment.versions()
    yield from _in_main(attachment, (*attachment.routes, *coordination.policy_routes))
    yield from _place_defaults(attachment, coordination, seen, path)
    yield from _veth(attachment, coordination)
    yield from _node_path_steps(attachment, coordination, seen, path, versions)
    if coordination.tune_pod_routes:
        yield from _own_table(attachment, coordination, seen, path, _kept_apart(attachment, seen.pod))
    yield from _forwarding(seen, versions)
    yield from _reverse_path_filter(coordination, attachment.ifname, VETH)
    yield from _marks(attachment, seen, versions)


def _kept_apart(attachment: Attachment, pod: PodState) -> tuple[int, ...]:
    """Families for which this interface needs a table of its own: another has one, or holds the default route."""
    theirs = {rule.version for rule in source_rules(pod) if rule not in orphans(pod, attachment.ifname)}
    holders = {version: holder_of_default(pod, version, attachment.ifname) for version in attachment.versions()}
    theirs |= {version for version, holder in holders.items() if not takes_default(attachment, holder)}
    return tuple(version for version in attachment.versions() if version in theirs)


def _further(attachment: Attachment, coordination: Coordination, seen: Observation, role: Role) -> Iterator[Step]:
    """An interface beside others: complete in a table of its own, and in ``main`` as far as it is to be there."""
    path = node_path(role, attachment, coordination, seen)
    versions = attachment.versions()
    new = tuple(version for version in versions if version not in served(seen.pod, path))
    yield from _in_main(attachment, attachment.routes)
    yield from _own_table(attachment, coordination, seen, path, versions)
    if coordination.tune_pod_routes:
        for version in versions:
            yield from _first_kept(coordination, path, required_node_addresses(seen, version), version, seen.pod)
    yield from _place_defaults(attachment, coordination, seen, path)
    yield from _missing_in_main(_node_path_steps(attachment, coordination, seen, path, new), role, seen.pod)
    for version in versions:
        yield from from_node(path, attachment.of(version), coordination.host_rule_table)
    yield from _forwarding(seen, versions)
    yield from _reverse_path_filter(coordination, attachment.ifname, path.link)
    if role == "later" and new:
        yield from _marks(attachment, seen, new)


def _own_table(
    attachment: Attachment, coordination: Coordination, seen: Observation, path: NodePath, versions: tuple[int, ...]
) -> Iterator[Step]:
    table = own_table(seen.pod, attachment.ifname, coordination.first_nic, path.link)
    for version in versions:
        addresses = attachment.of(version)
        if attachment.kind == PRESENT:
            yield from as_in_main(attachment.ifname, version, table, seen.pod)
        yield from own_routes(attachment, version, table)
        yield from to_node(path, required_node_addresses(seen, version), coordination, addresses[0], table)
        if coordination.tune_pod_routes:
            yield from (from_address(address, table) for address in addresses)


def _first_kept(
    coordination: Coordination, path: NodePath, node: tuple[Address, ...], version: int, pod: PodState
) -> Iterator[Step]:
    """Keep the first interface's own traffic on it, also towards the subnet of the new one.

    Where another CNI plugin made it, without the routes that are ours: they may come and go.
    """
    ours = {*coordination.overlay_cidrs, *coordination.service_cidrs, *coordination.hijack_cidrs}
    ours |= {ip_network(address) for address in node}
    table = own_table(pod, coordination.first_nic, coordination.first_nic, path.link)
    for step in keep_apart(coordination.first_nic, version, path, table, pod):
        if not (path.link != VETH and isinstance(step, AddRoute) and step.destination in ours):
            yield step


def _node_path_steps(
    attachment: Attachment,
    coordination: Coordination,
    seen: Observation,
    path: NodePath,
    versions: tuple[int, ...],
) -> Iterator[Step]:
    for version in versions:
        addresses = attachment.of(version)
        node = required_node_addresses(seen, version)
        yield from to_node(path, node, coordination, addresses[0])
        yield from from_node(path, addresses, coordination.host_rule_table)


def _missing_in_main(steps: Iterable[Step], role: Role, pod: PodState) -> Iterator[Step]:
    """Routes of another CNI plugin to the same destinations stay as they are."""
    theirs = {route.destination for route in pod.routes if route.table == MAIN_TABLE}
    for step in steps:
        if role == "overlay" and isinstance(step, AddRoute) and step.where == "pod" and step.destination in theirs:
            continue
        yield step


def _place_defaults(
    attachment: Attachment, coordination: Coordination, seen: Observation, path: NodePath
) -> Iterator[Step]:
    """Let the interface have the default route if it is to; whoever had it goes on in a table of its own.

    Another plugin's interface brings its default route along: then one of the two has to leave ``main``.
    """
    brought = attachment.kind == PRESENT and coordination.tune_pod_routes
    for route, holder in _defaults(attachment, seen):
        version = route.destination.version
        if not takes_default(attachment, holder):
            yield from without_default(seen.pod, attachment.ifname, version) if brought else ()
            continue
        if holder is not None and not tables_of(seen.pod, holder):
            mine = own_table(seen.pod, attachment.ifname, coordination.first_nic, path.link)
            table = own_table(seen.pod, holder, coordination.first_nic, path.link, besides=(mine,))
            yield from keep_apart(holder, version, path, table, seen.pod)
        if holder is not None and brought:
            yield from without_default(seen.pod, holder, version)
        yield route


def _veth(attachment: Attachment, coordination: Coordination) -> Iterator[Step]:
    host = host_interface(attachment.container_id)
    yield veth_pair(attachment.container_id, coordination)
    yield SetSysctl("node", f"net/ipv6/conf/{host}/accept_ra", "0", required=False)
    yield SetLink("node", host)
    yield SetLink("pod", VETH)
    if coordination.veth_link_address is not None:
        yield AddAddress("pod", VETH, IPv4Interface(coordination.veth_link_address))


def _forwarding(seen: Observation, versions: tuple[int, ...]) -> Iterator[Step]:
    """A node that begins to forward IPv6 stops to follow router advertisements, unless told to go on (accept_ra 2)."""
    if 4 in versions and 4 in seen.not_forwarding:
        yield SetSysctl("node", "net/ipv4/ip_forward", "1")
    if 6 in versions and 6 in seen.not_forwarding:
        for link in seen.advertised:
            yield SetSysctl("node", f"net/ipv6/conf/{link}/accept_ra", "2")
        yield SetSysctl("node", "net/ipv6/conf/all/forwarding", "1")


def _reverse_path_filter(coordination: Coordination, *links: str) -> Iterator[Step]:
    """The kernel uses the greater of ``all`` and the link's own value."""
    if coordination.pod_rp_filter is not None:
        for link in ("all", *links):
            yield SetSysctl("pod", f"net/ipv4/conf/{link}/rp_filter", str(coordination.pod_rp_filter))


def _marks(attachment: Attachment, seen: Observation, versions: tuple[int, ...]) -> Iterator[Step]:
    """The rule first and the route last: a rule tells that marks may be loaded, a route that all is done."""
    for version in versions:
        yield AddRule("pod", version, RULE_PRIORITY, MARK_TABLE, MARK)
    marked = any(rule.mark == MARK and rule.version in versions for rule in seen.pod.rules)
    yield LoadMarks("pod", VETH, MARK, versions, afresh=marked)
    for version in versions:
        gateway = required_node_addresses(seen, version)[0]
        yield AddRoute("pod", everything(version), VETH, gateway, table=MARK_TABLE)


def _announcements(attachment: Attachment) -> Iterator[Step]:
    """In modes l3 and l3s an ipvlan child has neither ARP nor neighbour discovery."""
    if attachment.mode in ("l3", "l3s"):
        return
    for address in attachment.addresses:
        yield Announce("pod", attachment.ifname, address.ip)


def _first_wins(steps: Iterable[Step], connected: Iterable[Network]) -> Iterator[Step]:
    """Drop repetitions, and routes to a destination that has one: subnets first, then networks', then coordinators'."""
    taken: set[tuple[str, int, Network]] = {("pod", MAIN_TABLE, network) for network in connected}
    done: set[Step] = set()
    for step in steps:
        if step in done:
            continue
        done.add(step)
        if isinstance(step, AddRoute):
            key = (step.where, step.table, step.destination)
            if key in taken:
                continue
            taken.add(key)
        yield step
