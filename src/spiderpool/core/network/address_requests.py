"""Which addresses a pod needs of the node that it is sent to, as extended resources that the scheduler counts.

A resource stands for one address of each family on one network. Interfaces that get their addresses from the same pools
on every node share a resource: those whose network, or the cluster's default pools, decide have that of the network,
others one for the pools that annotations name, since a request knows no "or".
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from spiderpool.api.address_resources import DOMAIN
from spiderpool.api.core_v1 import Namespace, Pod
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.annotations import FIRST_INTERFACE
from spiderpool.core.ipam.candidates import PoolSource, allocation_plan
from spiderpool.core.ipam.pod_context import (
    AddressPolicy,
    InterfaceNetworks,
    InterfaceRequest,
    PodContext,
    PodSurroundings,
    pod_context,
)
from spiderpool.core.ipam.selection import DEFAULT_SOURCE, AllocationRequest, NamedPools
from spiderpool.core.labels import label_value
from spiderpool.core.network.attachment import AttachmentPolicy, plan_pod
from spiderpool.core.network.chains import Chain, read_network
from spiderpool.errors import SpiderpoolError

Definitions = Callable[[str], NetworkAttachmentDefinition | None]
"""Looks up a NetworkAttachmentDefinition by ``namespace/name``."""

DIGEST = 32
"""Characters that stand for a list of pools: 128 bits."""


@dataclass(frozen=True, slots=True)
class AddressRequirement:
    """What an interface needs: an address of each family, on a network."""

    network: str | None
    """``namespace/name``; None where it is not known."""
    pools: tuple[tuple[int, tuple[str, ...]], ...] = ()
    """Pools by family that annotations name; empty: those that the network names, else the cluster's default pools."""

    @property
    def resource(self) -> str:
        """The name of the extended resource. That of a network has a dot, a digest has none."""
        if not self.pools and self.network:
            return f"{DOMAIN}/{label_value(self.network.replace('/', '.'))}"
        digest = hashlib.sha256(msgspec.json.encode((self.network, self.pools))).hexdigest()
        return f"{DOMAIN}/pools-{digest[:DIGEST]}"


@dataclass(frozen=True, slots=True)
class RequirementRules:
    """What decides beside the pod itself: the settings of agents, and the networks."""

    networks: AttachmentPolicy
    addresses: AddressPolicy
    definition: Definitions


def address_requests(pod: Pod, namespace: Namespace | None, rules: RequirementRules) -> Mapping[str, int]:
    """How many of each resource a new pod requests.

    None for pods that have a node already, which no scheduler looks at, and for those whose owner keeps addresses:
    what is kept for them is not free, and with a request they would wait for another one.
    """
    if pod.spec.nodeName or rules.addresses.sticky_owner(pod) is not None:
        return {}
    return Counter(requirement.resource for requirement in requirements(pod, namespace, rules).values())


def requirements(pod: Pod, namespace: Namespace | None, rules: RequirementRules) -> Mapping[str, AddressRequirement]:
    """What each interface of a pod needs of its node.

    Nothing for interfaces that others attach, that ask for one very address, or that get it from a pool of the pod's
    application; nor for a pod that would be refused on every node: the refusal says more than the scheduler could.
    """
    if pod.spec.hostNetwork:
        return {}
    try:
        attachment = plan_pod(pod, FIRST_INTERFACE, rules.networks, rules.definition)
        needing = [each for each in attachment.address_requests if not each.ips]
        around = PodSurroundings("", None, namespace, (), pod.metadata.uid or "")
        context = pod_context(pod, attachment.networks, around, rules.addresses)
        plan = allocation_plan(context, needing, rules.addresses, ())
    except SpiderpoolError:
        return {}
    configured = {each.interface: each for each in needing}
    found: dict[str, AddressRequirement] = {}
    for source in plan.sources:
        if source.interface in found:  # an interface has many sources, and the first decides
            continue
        requirement = _requirement(source, context, configured.get(source.interface), rules.addresses)
        if requirement is not None:
            found[source.interface] = requirement
    return found


def requests_of(
    requirement: AddressRequirement, rules: RequirementRules, pools: Sequence[SpiderIPPool]
) -> tuple[AllocationRequest, ...]:
    """One request for each family of a requirement, of an unknown pod and node. ``pools`` are the cluster's.

    None where the network does not exist or gets no addresses from us, or where there is no default pool.
    """
    if requirement.pools:
        return tuple(_request(requirement, version, NamedPools(names), rules) for version, names in requirement.pools)
    try:
        network = requirement.network or ""
        chain = read_network(network, rules.definition(network))
        if not isinstance(chain, Chain) or chain.ipam is None:
            return ()
        pod = PodContext("", "", "", "", InterfaceNetworks(((FIRST_INTERFACE, requirement.network),)))
        plan = allocation_plan(pod, [InterfaceRequest(FIRST_INTERFACE, chain.ipam)], rules.addresses, pools)
    except SpiderpoolError:
        return ()
    return tuple(plan.requests.values())


def _requirement(
    source: PoolSource, pod: PodContext, configured: InterfaceRequest | None, policy: AddressPolicy
) -> AddressRequirement | None:
    network = pod.networks.network(source.interface)
    if source.name == DEFAULT_SOURCE:
        return AddressRequirement(network)
    named = {version: each.names for version, each in source.candidates.items() if isinstance(each, NamedPools)}
    if not named or len(named) < len(source.candidates):
        return None
    of_network = configured.pools if configured else {}
    if named == {version: tuple(names) for version, names in of_network.items() if version in policy.families}:
        return AddressRequirement(network)
    return AddressRequirement(network, tuple(sorted(named.items())))


def _request(
    requirement: AddressRequirement, version: int, candidates: NamedPools, rules: RequirementRules
) -> AllocationRequest:
    return AllocationRequest(
        namespace="",
        pod="",
        pod_uid="",
        interface=FIRST_INTERFACE,
        node="",
        network=requirement.network,
        version=version,
        candidates=candidates,
        our_namespace=rules.addresses.namespace,
    )
