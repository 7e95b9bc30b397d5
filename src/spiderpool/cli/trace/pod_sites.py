"""A pod as its agent makes it: interfaces, rules and routes, by the functions with which the agent plans them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.cli.explain.case import PodCase
from spiderpool.cli.explain.pod_plan import attachment_of, plan_addresses
from spiderpool.cli.trace.case import ClusterObjects
from spiderpool.cli.trace.node_sites import TracedNode
from spiderpool.cli.trace.values import Hop
from spiderpool.core.addresses import Address
from spiderpool.core.annotations import custom_routes
from spiderpool.core.ipam import allocation
from spiderpool.core.ipam.allocation import Grant
from spiderpool.core.ipam.gc import pod_uids
from spiderpool.core.network.attachment import InterfacePlan, PodAttachment, SandboxTarget, kernel_attachment
from spiderpool.core.network.chains import Chain
from spiderpool.core.network.plumbing.expected import after
from spiderpool.core.network.plumbing.lookup import RoutingState, look_up_unbound
from spiderpool.core.network.plumbing.naming import VETH, host_interface, veth_mac
from spiderpool.core.network.plumbing.planning import full_plan
from spiderpool.core.network.plumbing.steps import AddRoute, AddRule, Step
from spiderpool.core.network.plumbing.values import Attachment, Link, Observation, PodState
from spiderpool.errors import SpiderpoolError

UNKNOWN_CONTAINER = "…"
"""Stands in the names of links for the ID of a sandbox that no account of a node has."""


@dataclass(frozen=True, slots=True)
class TracedPod:
    """A pod with its interfaces as its agent makes them."""

    pod: Pod
    node: str
    routing: RoutingState = field(default_factory=RoutingState)
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    """By interface, the first one first."""
    pools: Mapping[Address, str] = field(default_factory=dict)
    """Address → its pool."""
    on_node: tuple[Step, ...] = ()
    """Rules and routes of its node that lead to it."""
    unknown: str = ""
    """Why its interfaces are not known; empty: they are."""

    @property
    def place(self) -> str:
        """How it is called."""
        return f"pod {self.pod.key}"

    def hop(self, does: str, interface: str = "") -> Hop:
        """What becomes of a packet in it."""
        return Hop(self.place, does, interface, pod=self.pod.key)

    @property
    def stopped(self) -> str:
        """Why nothing runs in it; empty: it runs."""
        phase = self.pod.status.phase or "Pending"
        return "" if phase == "Running" else f"it is not running ({phase})"

    def interface_with(self, address: Address) -> Attachment | None:
        """The interface that has an address."""
        return next((each for each in self.attachments.values() if address in each.of(address.version)), None)


def pod_site(pod: Pod, node: TracedNode | None, objects: ClusterObjects, records: Sequence[SpiderIP]) -> TracedPod:
    """A pod with the addresses that it holds by ``records``. ``node`` is None where it is on none."""
    site = TracedPod(pod, pod.spec.nodeName or "")
    if node is None:
        return replace(site, unknown=_without_node(site))
    if pod.spec.hostNetwork:
        return site
    if not records:
        return replace(site, unknown=f"pod {pod.key} has no SpiderIP: another plugin attaches it, if it is attached")
    for each in records:
        if each.spec.pool not in objects.pools:
            why = f"pool {each.spec.pool}, of which pod {pod.key} has {each.spec.address}, is gone or not understood"
            return replace(site, unknown=f"{why}: its gateway and routes are not known")
    case = _case(pod, objects, records)
    try:
        attachment = attachment_of(case)
        return _attached(site, node, objects, _Interfaces(case, attachment, records))
    except SpiderpoolError as error:
        return replace(site, unknown=f"the interfaces of pod {pod.key} cannot be worked out: {error.message}")


def _without_node(site: TracedPod) -> str:
    if not site.node:
        return f"pod {site.pod.key} is on no node yet"
    return f"node {site.node} of pod {site.pod.key} does not exist (any more), so its interfaces are not known"


@dataclass(frozen=True, slots=True)
class _Interfaces:
    """What the interfaces of a pod are made from."""

    case: PodCase
    attachment: PodAttachment
    records: Sequence[SpiderIP]


def _case(pod: Pod, objects: ClusterObjects, records: Sequence[SpiderIP]) -> PodCase:
    name = pod.spec.nodeName or ""
    return PodCase(
        pod=pod,
        node_name=name,
        policies=objects.policies,
        exists=True,
        node=objects.nodes.get(name),
        server=objects.servers.get(name),
        namespace=objects.namespaces.get(pod.metadata.namespace or ""),
        pools=tuple(objects.pools.values()),
        reserved=(),
        networks=tuple(objects.networks.values()),
        quotas=(),
        controller=None,
        controller_refusal=None,
        events=(),
        records=tuple(records),
    )


def _attached(site: TracedPod, node: TracedNode, objects: ClusterObjects, of: _Interfaces) -> TracedPod:
    target = SandboxTarget(_container(site.pod, objects), "")
    granted = _grants(of, objects)
    state, steps, attachments = PodState((Link("lo", 1),)), list[Step](), dict[str, Attachment]()
    for plan in of.attachment.interfaces:
        if not isinstance(plan.chain, Chain):
            why = f"{plan.interface} of pod {site.pod.key} is made by the plugins of network {plan.request.network}"
            return replace(site, unknown=f"{why}: its routes are not readable from here")
        made = kernel_attachment(target, of.attachment, plan, granted.get(plan.interface, ()), objects.coordinator)
        planned = full_plan(made, _observation(made, plan, node, state))
        state, attachments[plan.interface] = after(state, planned), made
        steps += planned
    return replace(
        site,
        routing=RoutingState(state.rules, state.routes, state.addresses),
        attachments=attachments,
        pools={ip_interface(each.spec.address).ip: each.spec.pool for each in of.records},
        on_node=tuple(step for step in steps if step.side == "node" and isinstance(step, AddRule | AddRoute)),
    )


def _observation(attachment: Attachment, plan: InterfacePlan, node: TracedNode, state: PodState) -> Observation:
    """What the agent sees of the node when it adds the interface: its NIC, its addresses, the end of the pod's path."""
    container = attachment.container_id
    host = Link(host_interface(container), 0, "veth", mac=veth_mac(container, "node")) if state.link(VETH) else None
    assert isinstance(plan.chain, Chain)
    return Observation(
        master=Link(plan.chain.master, 1, mtu=attachment.mtu or 1500),
        addresses=node.addresses,
        sources=tuple(_sources(attachment, node, state)),
        host_end=host,
        pod=state,
    )


def _sources(attachment: Attachment, node: TracedNode, state: PodState) -> Iterator[Address]:
    """As `kernel.observing`: gateways of an earlier interface, else by the node's routes to the pod."""
    own = {held.address for held in node.addresses}
    chosen = dict.fromkeys(route.gateway for route in state.routes if route.gateway in own)
    yield from (gateway for gateway in chosen if gateway is not None)
    families = {gateway.version for gateway in chosen if gateway is not None}
    for address in attachment.addresses:
        found = look_up_unbound(address.ip, node.routing) if address.version not in families else None
        if found and found[1]:
            yield found[1]


def _container(pod: Pod, objects: ClusterObjects) -> str:
    """The ID of its sandbox, by its node's account."""
    account = objects.accounts.get(pod.spec.nodeName or "")
    sandboxes = account.sandboxes if account else ()
    uids = pod_uids(pod)
    return next((each.containerID for each in sandboxes if each.podUID in uids), UNKNOWN_CONTAINER)


def _grants(of: _Interfaces, objects: ClusterObjects) -> dict[str, tuple[Grant, ...]]:
    """By interface, what the records give with the gateways and routes of their pools, IPv4 first."""
    pools = objects.pools
    held = {(each.spec.interface, allocation.family(each)): each for each in of.records}
    try:
        plan = plan_addresses(of.case, of.attachment).plan
        known = {key: record for key, record in held.items() if record.spec.pool in pools}
        found = {name: plan.grants(name, known, pools) for name, _ in known}
    except SpiderpoolError:  # of addresses that are to come: those that it holds have their gateways in any case
        found = {}
    routes = custom_routes(of.case.pod.metadata.annotations or {})
    plain: dict[str, tuple[Grant, ...]] = {}
    for (name, _), record in sorted(held.items()):
        grant = allocation.grant(record, pools.get(record.spec.pool), routes=routes)
        plain[name] = (*plain.get(name, ()), grant)
    return {name: found.get(name) or grants for name, grants in plain.items()}


def with_pods(node: RoutingState, pods: Iterable[TracedPod]) -> RoutingState:
    """The routing of a node with the rules and routes that lead to some of its pods."""
    steps = [step for pod in pods for step in pod.on_node]
    rules = tuple(dict.fromkeys(step for step in steps if isinstance(step, AddRule)))
    routes = tuple(step for step in steps if isinstance(step, AddRoute))
    return RoutingState((*node.rules, *rules), (*node.routes, *routes), node.addresses)
