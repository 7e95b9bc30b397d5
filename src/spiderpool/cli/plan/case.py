"""What `plan` reads of a cluster, and what each planned pod needs there on each node that may take it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from msgspec.structs import replace as changed

from spiderpool.api.address_resources import AdvertisingNode
from spiderpool.api.core_v1 import Namespace, Node
from spiderpool.api.ip import IP_OWNER_LABEL, SpiderIP
from spiderpool.api.ippool import POOL_NODE_LABEL, SpiderIPPool
from spiderpool.api.ipquota import SpiderIPQuota
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.scheduling import ScheduledPod, SchedulingSpec
from spiderpool.api.spiderserver import SpiderServer
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.connection import Cluster
from spiderpool.cli.explain.case import PodCase
from spiderpool.cli.explain.pod_plan import PodPlan, attachment_of, plan_addresses
from spiderpool.cli.plan.pods import PlannedChange, PlannedPods
from spiderpool.cli.policies import AgentPolicies
from spiderpool.core.addresses import FAMILIES, AddressSet, canonical
from spiderpool.core.ipam.allocation import address_text, released
from spiderpool.core.ipam.dry_run import AddressSnapshot
from spiderpool.core.ipam.eligible_nodes import why_not_schedulable
from spiderpool.core.ipam.owners import Controller, owner_label
from spiderpool.core.ipam.placement import Capacity, PodGroup, PodSite, QuotaRest
from spiderpool.core.ipam.pod_sites import REFUSED, pod_site
from spiderpool.core.ipam.pool_capacity import pool_capacities
from spiderpool.core.ipam.quota import application_namespace, remaining_addresses, used_addresses
from spiderpool.core.ipam.subnet_addresses import reserved_addresses
from spiderpool.core.labels import label_value
from spiderpool.core.network.attachment import PodAttachment
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.owners import OwnerReader


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """The objects of a cluster that decide about addresses, as they were read."""

    policies: AgentPolicies
    nodes: tuple[Node, ...]
    servers: Mapping[str, SpiderServer]
    namespaces: Mapping[str, Namespace]
    pools: tuple[SpiderIPPool, ...]
    subnets: tuple[SpiderSubnet, ...]
    records: tuple[SpiderIP, ...]
    reserved: Mapping[int, AddressSet]
    networks: tuple[NetworkAttachmentDefinition, ...]
    quotas: tuple[SpiderIPQuota, ...]
    now: float
    """Seconds since 1970."""
    unread: tuple[str, ...] = ()
    """Kinds that have a say, and of which something could not be read."""

    @property
    def advertised(self) -> tuple[str, ...]:
        """The resources by which nodes tell the scheduler of free addresses."""
        found = (each.status.allocatable or {} for each in self.nodes if isinstance(each, AdvertisingNode))
        return tuple(sorted({name for resources in found for name in resources}))

    def capacity(self) -> Capacity:
        """What there is to give."""
        pools = pool_capacities(self.pools, self.records, self.reserved, self.now)
        return Capacity(pools, {each.metadata.namespace or "": self._rest(each) for each in self.quotas})

    def _rest(self, quota: SpiderIPQuota) -> QuotaRest:
        """Of several quotas of a Namespace the smallest counts."""
        namespace = quota.metadata.namespace
        limits = [each.spec.addresses for each in self.quotas if each.metadata.namespace == namespace]
        of_namespace = [each for each in self.records if each.spec.namespace == namespace]
        used = used_addresses((each.spec.pool for each in of_namespace), self.application_pools(namespace or ""))
        left = remaining_addresses(limits, used) or 0
        return QuotaRest(left, sum(bool(each.spec.releasedAt) for each in of_namespace))

    def application_pools(self, namespace: str) -> Iterator[SpiderIPPool]:
        """The pools of a Namespace's applications."""
        return (pool for pool in self.pools if application_namespace(pool) == namespace)


async def read_facts(cluster: Cluster, policies: AgentPolicies, now: float) -> ClusterFacts:
    """Read all that decides about addresses. Raises Refused when nodes, pools or records may not be read."""
    reserved = await cluster.list(SpiderReservedIP) or ()
    facts = ClusterFacts(
        policies=policies,
        nodes=tuple(sorted(await cluster.needed(AdvertisingNode), key=lambda each: each.name)),
        servers={each.name: each for each in await cluster.list(SpiderServer) or ()},
        namespaces={each.name: each for each in await cluster.list(Namespace) or ()},
        pools=tuple(await cluster.needed(SpiderIPPool)),
        subnets=tuple(await cluster.list(SpiderSubnet) or ()),
        records=tuple(await cluster.needed(SpiderIP)),
        reserved={version: reserved_addresses(reserved, version) for version in FAMILIES},
        networks=tuple(await cluster.list(NetworkAttachmentDefinition) or ()),
        quotas=tuple(await cluster.list(SpiderIPQuota) or ()),
        now=now,
    )
    return replace(facts, unread=tuple(sorted(cluster.unread)))


def after_end(facts: ClusterFacts, pods: frozenset[str]) -> ClusterFacts:
    """The cluster once some pods have ended, by their UIDs: what no owner keeps is released."""
    if not pods:
        return facts
    records = (released(each, facts.now) if _goes_with(each, pods) else each for each in facts.records)
    return replace(facts, records=tuple(records))


def _goes_with(record: SpiderIP, pods: frozenset[str]) -> bool:
    """Whether a record is released when these pods end."""
    return record.spec.podUID in pods and record.spec.owner is None and record.spec.releasedAt is None


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """Planned pods with what each needs on each node that may take it."""

    planned: PlannedPods
    group: PodGroup
    case: PodCase
    """What decides about the addresses of such a pod, but for its node."""
    not_schedulable: Mapping[str, int]
    """Why other nodes may not take it, each with the number of nodes."""


async def planned_groups(cluster: Cluster, facts: ClusterFacts, change: PlannedChange) -> list[PlannedGroup]:
    """The groups of all planned pods that need addresses."""
    reader, sites = OwnerReader(cluster.client), Sites(facts)
    found = []
    for planned in change.pods:
        if planned.sample.spec.hostNetwork:
            continue
        controller, refusal = await _controller(reader, planned.sample, cluster.timeout)
        for part in sites.parts(planned):
            case = _case(facts, part.sample, controller, refusal)
            found.append(_group(facts, change, part, case, sites))
    return found


async def _controller(
    reader: OwnerReader, pod: ScheduledPod, timeout: float
) -> tuple[Controller | None, SpiderpoolError | None]:
    try:
        return await reader.top(pod, timeout=timeout), None
    except SpiderpoolError as error:
        return None, error


def _case(
    facts: ClusterFacts, pod: ScheduledPod, controller: Controller | None, refusal: SpiderpoolError | None
) -> PodCase:
    return PodCase(
        pod=pod,
        node_name="",
        policies=facts.policies,
        exists=False,
        node=None,
        server=None,
        namespace=facts.namespaces.get(pod.metadata.namespace or ""),
        pools=(),
        reserved=(),
        networks=facts.networks,
        quotas=(),
        controller=controller,
        controller_refusal=refusal,
        events=(),
    )


def _group(
    facts: ClusterFacts, change: PlannedChange, planned: PlannedPods, case: PodCase, sites: Sites
) -> PlannedGroup:
    eligible, reasons = _eligible(facts.nodes, planned.sample.spec, change.drained)
    nodes = [node for node in eligible if node.name not in planned.without]
    found = sites.of(case, nodes)
    count = len(found) if planned.one_per_node else planned.count
    namespace = planned.sample.metadata.namespace or ""
    group = PodGroup(planned.workload, namespace, count, found, one_per_node=planned.one_per_node)
    return PlannedGroup(planned, group, case, reasons)


def _eligible(
    nodes: Iterable[Node], spec: SchedulingSpec, drained: frozenset[str]
) -> tuple[list[Node], Mapping[str, int]]:
    found: list[Node] = []
    reasons: Counter[str] = Counter()
    for node in nodes:
        reason = "it is drained" if node.name in drained else why_not_schedulable(spec, node)
        if reason is None:
            found.append(node)
        else:
            reasons[reason] += 1
    return found, reasons


@dataclass(slots=True)
class Sites:
    """What pods need on nodes; pods that cannot differ in that share it."""

    facts: ClusterFacts
    nodes: Mapping[str, Node] = field(init=False)
    _own: Mapping[str, list[SpiderIPPool]] = field(init=False)
    """Pools that the agents of other nodes do not know, by the label value of their node."""
    _shared: list[SpiderIPPool] = field(init=False)
    """All other pools."""
    _by_name: Mapping[str, SpiderIPPool] = field(init=False)
    _owned: Mapping[str, list[SpiderIP]] = field(init=False)
    """Records by the label of their owner."""
    _known: dict[object, dict[str, PodSite]] = field(init=False)
    """What pods need on each node, by what they need it for."""
    _chosen: dict[object, dict[str, PodSite]] = field(init=False)
    """The same for certain nodes: one object for all pods that need the same, so that they are recognised."""
    _by_labels: bool = field(init=False)
    """Whether labels of pods have a say."""

    def __post_init__(self) -> None:
        own: dict[str, list[SpiderIPPool]] = defaultdict(list)
        self._shared = []
        for pool in self.facts.pools:
            node = (pool.metadata.labels or {}).get(POOL_NODE_LABEL)
            (self._shared if node is None else own[node]).append(pool)
        self.nodes = {node.name: node for node in self.facts.nodes}
        self._own, self._by_name = own, {pool.name: pool for pool in self.facts.pools}
        self._known, self._chosen, self._owned = {}, {}, defaultdict(list)
        for record in self.facts.records:
            if label := (record.metadata.labels or {}).get(IP_OWNER_LABEL):
                self._owned[label].append(record)
        self._by_labels = any(pool.spec.podAffinity is not None for pool in self.facts.pools)

    def parts(self, planned: PlannedPods) -> Iterator[PlannedPods]:
        """Pods whose owner has addresses for them are looked at one by one."""
        others = []
        for name in planned.names:
            sample = _named(planned.sample, name)
            if self._records_of(sample):
                yield replace(planned, sample=sample, count=1, names=(name,))
            else:
                others.append(name)
        if others:
            yield replace(planned, sample=_named(planned.sample, others[0]), count=len(others), names=tuple(others))
        elif not planned.names:
            yield planned

    def _records_of(self, pod: ScheduledPod) -> list[SpiderIP]:
        owner = self.facts.policies.addresses.sticky_owner(pod)
        return self._owned.get(owner_label(owner, pod.name), []) if owner else []

    def of(self, case: PodCase, nodes: Iterable[Node]) -> dict[str, PodSite]:
        """What a pod needs on each of these nodes."""
        key = self._key(case)
        known = self._known.setdefault(key, {})
        missing = [node for node in nodes if node.name not in known]
        if missing:
            try:
                attachment = attachment_of(case)
            except SpiderpoolError:
                known |= {node.name: REFUSED for node in missing}
            else:
                known |= {node.name: self._site(case, node, attachment) for node in missing}
        chosen = tuple(node.name for node in nodes)
        return self._chosen.setdefault((key, chosen), {name: known[name] for name in chosen})

    def _key(self, case: PodCase) -> object:
        """What decides about the addresses of a pod beside its node."""
        metadata = case.pod.metadata
        labels = frozenset((metadata.labels or {}).items()) if self._by_labels else None
        own = case.pod.name if self._records_of(_scheduled(case)) else None
        annotations = frozenset((metadata.annotations or {}).items())
        return metadata.namespace, annotations, labels, own, case.controller, str(case.controller_refusal)

    def _site(self, case: PodCase, node: Node, attachment: PodAttachment) -> PodSite:
        here = self.on_node(case, node)
        try:
            planned = plan_addresses(here, attachment)
        except SpiderpoolError:
            return REFUSED
        return REFUSED if planned.plan.unserved else pod_site(planned.plan.requests, self.snapshot(here, planned))

    def on_node(self, case: PodCase, node: Node) -> PodCase:
        """The case of a pod on a node."""
        pools = (*self._own.get(label_value(node.name), ()), *self._shared)
        server = self.facts.servers.get(node.name)
        return replace(case, node_name=node.name, node=node, server=server, pools=pools)

    def snapshot(self, case: PodCase, planned: PodPlan) -> AddressSnapshot:
        """The records of a pod's owner, and of addresses that it asks for, with their pools."""
        owned = self._records_of(_scheduled(case))
        asked = {canonical(each.address) for each in planned.plan.requests.values() if each.address}
        others = (each for each in self.facts.records if address_text(each) in asked) if asked else ()
        records = [*owned, *others]
        further = (self._by_name[name] for name in {each.spec.pool for each in owned} if name in self._by_name)
        known = {pool.name for pool in case.pools}
        return AddressSnapshot(
            node=case.node_name,
            pools=(*case.pools, *(pool for pool in further if pool.name not in known)),
            records=tuple(records),
            reserved=self.facts.reserved,
            now=self.facts.now,
            node_object=case.node,
        )


def _named(sample: ScheduledPod, name: str) -> ScheduledPod:
    return changed(sample, metadata=changed(sample.metadata, name=name))


def _scheduled(case: PodCase) -> ScheduledPod:
    assert isinstance(case.pod, ScheduledPod)
    return case.pod
