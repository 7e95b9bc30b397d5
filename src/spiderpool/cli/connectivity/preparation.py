"""What a connectivity test will make: on which nodes and networks, and which addresses that takes, before it begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from spiderpool.api.core_v1 import Namespace, Node
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.scheduling import ScheduledPod, SchedulingSpec, Toleration
from spiderpool.cli.connection import Cluster
from spiderpool.cli.connectivity.matrix import MOST_OF_POD, MOST_QUESTIONS, most_questions
from spiderpool.cli.connectivity.objects import DEFAULT_NETWORK, ProbeSite, network_annotations
from spiderpool.cli.manifests import NO_UID
from spiderpool.cli.plan.case import ClusterFacts, PlannedGroup, Sites, planned_groups
from spiderpool.cli.plan.pods import PlannedChange, PlannedPods
from spiderpool.cli.plan.refusals import refusal_sentence
from spiderpool.core.ipam.placement import Capacity, RollOut, roll_out
from spiderpool.core.ipam.selection import version_of
from spiderpool.core.ipam.subnet_addresses import pool_addresses
from spiderpool.core.network.pod_networks import qualified
from spiderpool.errors import Refused

ON_HOST = ""
"""Stands for the host network."""
KEPT = 5
"""Addresses that are left free in a large pool, for pods that come while a test runs."""


@dataclass(frozen=True, slots=True)
class ProbeSize:
    """Where pods are to be made, and how many."""

    nodes: tuple[str, ...]
    """Empty: all that are ready."""
    networks: tuple[str, ...]
    """Empty: all."""
    pods: int
    """Of each network on each node; each takes an address of every family."""
    outside: int = 0
    """Servers outside that each pod asks."""
    has_nodes: bool = True
    """Whether pods on the host network stand for nodes."""
    kept: int | None = None
    """Addresses that are left free in each pool. None: a tenth of it, but not more than KEPT."""


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """The pods of a test, and what they take."""

    sites: tuple[ProbeSite, ...]
    taken: dict[str, int]
    """Addresses by pool."""
    left: dict[str, int]
    """Free addresses of these pools while the test runs."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        pools = ", ".join(f"{count} of pool {pool} (leaves {self.left[pool]})" for pool, count in self.taken.items())
        nodes = {each.node for each in self.sites}
        return f"{len(self.sites)} pods on {len(nodes)} nodes take {pools or 'no address of a pool'}"


@dataclass(frozen=True, slots=True)
class _RefusedGroup:
    """Pods of a network on a node that would get no address."""

    text: str
    exhausted: bool
    """Whether there are pools for them, which have nothing left; else the network is not for that node."""


def chosen_nodes(nodes: Iterable[Node], names: Sequence[str]) -> tuple[list[Node], list[str]]:
    """The nodes that take part, and why others do not. Raises Refused for one that does not exist."""
    known = {each.name: each for each in nodes}
    if missing := [name for name in names if name not in known]:
        raise Refused(f"node {missing[0]} does not exist; see `kubectl get nodes`")
    found = [known[name] for name in names or sorted(known)]
    problems = [f"node {each.name} is not ready, and was left out" for each in found if not each.ready]
    if len(problems) == len(found):
        raise Refused(f"none of {len(found)} nodes is ready, so no pod would start; see `spiderpoolctl status`")
    return [each for each in found if each.ready], problems


def chosen_networks(facts: ClusterFacts, names: Sequence[str]) -> tuple[str, ...]:
    """The networks by name; by default all that there are, and a pod with the first two of them.

    Raises Refused for one that does not exist.
    """
    home, known = facts.policies.networks.namespace, sorted(each.key for each in facts.networks)
    if not names:
        return (*known, "+".join(known[:2])) if len(known) > 1 else tuple(known) or (DEFAULT_NETWORK,)
    found = tuple("+".join(_qualified(part, home) for part in name.split("+")) for name in names)
    for part in (part for each in found for part in each.split("+")):
        if part not in (*known, DEFAULT_NETWORK):
            raise Refused(f"network {part} does not exist; there are {', '.join(known) or 'none'}")
    return found


def _qualified(name: str, namespace: str) -> str:
    return name if name == DEFAULT_NETWORK else qualified(name, namespace)


async def plan_test(cluster: Cluster, facts: ClusterFacts, size: ProbeSize, namespace: str) -> ProbePlan:
    """Which pods are made. Raises Refused where a pool would be filled, or a chosen network gives no address."""
    nodes, problems = chosen_nodes(facts.nodes, size.nodes)
    networks = chosen_networks(facts, size.networks)
    check_questions(size, len(nodes), networks)
    then = replace(facts, namespaces={**facts.namespaces, namespace: Namespace(metadata=ObjectMeta(name=namespace))})
    chosen = [(_planned(network, node, namespace, size.pods), network) for network in networks for node in nodes]
    network_of = {planned.workload: network for planned, network in chosen}
    groups = await planned_groups(cluster, then, PlannedChange(tuple(planned for planned, _ in chosen)))
    capacity = then.capacity()
    served, refused, out = _served(then, capacity, groups)
    if size.networks and refused:
        raise Refused(f"{refused[0].text}; leave it out by --networks or --nodes")
    sites = [site for group in served for site in _sites(group, network_of[group.planned.workload])]
    hosts = [ProbeSite("host", each.name, ON_HOST) for each in nodes]
    numbers: Counter[str] = Counter()
    named = [_named(site, numbers) for site in (*sites, *(hosts if size.has_nodes else ()))]
    taken, left = _balance(capacity, out)
    _check(taken, left, kept_free(then, taken, size.kept))
    notes = tuple(each.text for each in refused if not each.exhausted)
    return ProbePlan(tuple(named), taken, left, notes, (*problems, *(each.text for each in refused if each.exhausted)))


def check_questions(size: ProbeSize, nodes: int, networks: Sequence[str]) -> None:
    """Raises Refused where pods would put more questions than a test can have, and says what makes them fewer."""
    pods = nodes * (size.has_nodes + sum(_count(network, size.pods) for network in networks))
    together, of_pod = most_questions(pods, size.outside)
    if of_pod > MOST_OF_POD:
        raise Refused(
            f"each pod would put {of_pod} questions, of at most {MOST_OF_POD}: name fewer by --egress and"
            " --load-balancer"
        )
    if together > MOST_QUESTIONS:
        options = {"--nodes": nodes, "--networks": len(networks), "--addresses-per-network": size.pods}
        largest = max(options, key=lambda each: options[each])
        raise Refused(
            f"about {together} questions would be put by {pods} pods, of at most {MOST_QUESTIONS}: take fewer by"
            f" {largest}, which is {options[largest]} now"
        )


def _count(network: str, pods: int) -> int:
    """One is enough of those with two networks, which take two addresses each."""
    return 1 if "+" in network else pods


def _planned(network: str, node: Node, namespace: str, count: int) -> PlannedPods:
    """The pods of a network on a node."""
    metadata = ObjectMeta(name="pod", namespace=namespace, uid=NO_UID, annotations=network_annotations(network))
    spec = SchedulingSpec(nodeName=node.name, tolerations=[Toleration(operator="Exists")])
    pod = ScheduledPod(metadata=metadata, spec=spec)
    return PlannedPods(f"{network} on {node.name}", pod, _count(network, count))


def _served(
    facts: ClusterFacts, capacity: Capacity, groups: Sequence[PlannedGroup]
) -> tuple[list[PlannedGroup], list[_RefusedGroup], RollOut]:
    """The groups of which all pods get their addresses, the others, and what the served ones leave."""
    out, sites = _rolled_out(capacity, groups), Sites(facts)
    by_group = {id(each.group): each for each in groups}
    failing = {id(each.group): each for each in out.refused}
    refused = [
        _RefusedGroup(
            f"no pod of network {by_group[key].planned.workload}: {refusal_sentence(sites, by_group[key], pods)}",
            pods.need is not None,
        )
        for key, pods in failing.items()
    ]
    served = [each for each in groups if id(each.group) not in failing]
    # of a group that lacks an address for one pod, no other pod is made either
    return served, refused, _rolled_out(capacity, served) if refused else out


def _rolled_out(capacity: Capacity, groups: Iterable[PlannedGroup]) -> RollOut:
    """Each pod is bound to its node."""
    pods = [(each.group, node) for each in groups for node in each.group.sites for _ in range(each.group.count)]
    return roll_out(capacity, pods)


def _balance(capacity: Capacity, out: RollOut) -> tuple[dict[str, int], dict[str, int]]:
    """What the pods take of each pool, and what is left there."""
    before = {name: each.free + each.cooling for name, each in capacity.pools.items()}
    taken = {pool: before[pool] - out.free[pool] for pool in sorted(before) if before[pool] != out.free[pool]}
    return taken, {pool: out.free[pool] for pool in taken}


def kept_free(facts: ClusterFacts, pools: Iterable[str], kept: int | None) -> dict[str, int]:
    """How many addresses of each pool are left free."""
    sizes = {
        each.name: (pool_addresses(each, version_of(each)) - facts.reserved[version_of(each)]).size
        for each in facts.pools
    }
    return {pool: min(KEPT, -(-sizes[pool] // 10)) if kept is None else kept for pool in pools}


def _check(taken: dict[str, int], left: dict[str, int], kept: dict[str, int]) -> None:
    full = [pool for pool in taken if left[pool] < kept[pool]]
    if full:
        named = ", ".join(
            f"{pool} ({taken[pool] + left[pool]} free, {taken[pool]} needed, {kept[pool]} kept)" for pool in full
        )
        raise Refused(
            f"the test would take addresses that are kept free for other pods, of {SpiderIPPool.KIND.name} {named}:"
            " make it smaller by --addresses-per-network 1, --networks or --nodes, or keep fewer by --keep-free"
        )


def _sites(group: PlannedGroup, network: str) -> list[ProbeSite]:
    return [ProbeSite("pod", node, network) for node in group.group.sites for _ in range(group.group.count)]


def _named(site: ProbeSite, numbers: Counter[str]) -> ProbeSite:
    numbers[site.name] += 1
    return replace(site, name=f"{site.name}-{numbers[site.name]}")
