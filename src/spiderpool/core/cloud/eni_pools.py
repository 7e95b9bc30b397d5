"""The pools and networks of discovered ENIs: one pool per ENI and family, one network per Linux name of an ENI.

A label ties a pool to its ENI, not to its Node object: a Node that is deleted and created again must find its pools,
with the addresses of its pods. Pools without our label belong to the user and stay as they are.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from spiderpool.api.coordinator import CoordinatorSpec
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import POOL_ENI_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import IpvlanConfig, MultusConfigSpec, SpiderMultusConfig
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.spiderserver import ENI, Instance
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.allocation import address_of, address_text, usable
from spiderpool.core.labels import label_value
from spiderpool.errors import BadConfig

DEVICE_LABEL = "cloud.spidernet.io/device"
"""On a network that was made for the ENIs of a Linux name: that name."""
NODE_LABEL = "cloud.spidernet.io/node"
"""The node of whose report a network was made; a long name is replaced by its digest."""
MOST_NETWORKS = 64
"""Networks that are made of one node's reports, which stay; more Linux names than any server has NICs."""
UNREGISTERED_ANNOTATION = "cloud.spidernet.io/unregistered"
"""On a pool: addresses, separated by commas, that pods have although they are not registered on the ENI in the cloud.

Not a condition, because the pool's status is computed from its SpiderIPs alone.
"""
RELEASING_ANNOTATION = "cloud.spidernet.io/releasing"
"""On a pool: addresses, separated by commas, that will be returned to the cloud; no new pod gets them."""
MOST_RELEASING = 4096
"""Addresses in this annotation at most; an ENI has some hundred."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """The addresses of an ENI that other nodes report, too, on other ENIs."""

    lost: frozenset[str] = frozenset()
    """Those that were registered for the other node: they count as not registered."""
    open: frozenset[str] = frozenset()
    """Those of which nobody can tell whose they are: they stay in a pool, but get into none anew."""
    nodes: frozenset[str] = frozenset()
    """The other nodes."""


@dataclass(frozen=True, slots=True)
class ENIClaim:
    """A Node whose server reports an ENI."""

    node: str
    instance: Instance
    eni: ENI
    ready: bool
    """Whether the Node is ready: after an ENI was moved, two Nodes may claim it, and the ready one is right."""
    confirmed: bool = False
    """Whether spiderpool-cloud has registered addresses on the ENI for this Node, so the cloud has said whose it is."""
    dispute: Dispute = Dispute()


class ENIAbsence(enum.Enum):
    """Why no Node claims the ENI of a pool."""

    UNKNOWN = enum.auto()
    """The Node exists, without a readable report."""
    ENI = enum.auto()
    """The Node's server reports no such ENI."""
    NODE = enum.auto()
    """The Node object does not exist."""


@dataclass(frozen=True, slots=True)
class PoolUpdate:
    """The desired fields of a pool's spec, and the SpiderIPs whose addresses are not registered on the ENI."""

    ips: list[str] | None
    exclude: list[str] | None
    node: list[str] | None
    network: list[str] | None
    unregistered: tuple[SpiderIP, ...]

    @property
    def annotation(self) -> str | None:
        """Value of the annotation with the unregistered addresses; None when there are none."""
        named = {address_text(record) for record in self.unregistered}
        return ",".join(sorted(named, key=lambda each: int(ip_address(each)))) or None


def choose_claim(claims: Iterable[ENIClaim], pool: SpiderIPPool | None) -> ENIClaim | None:
    """Returns the Node to which an ENI belongs, of several the one for which spiderpool-cloud has confirmed it.

    An ENI with a pool belongs to a ready Node first, else to the one that its pool names already. One without is
    nobody's while it is not known who of several is right: a node could take it by a lie.
    """
    order = sorted(claims, key=lambda claim: claim.node)
    if pool is not None:
        named = pool.spec.nodeName or []
        return max(order, key=lambda claim: (claim.ready, claim.confirmed, claim.node in named), default=None)
    right = order if len(order) == 1 else [claim for claim in order if claim.confirmed]
    return right[0] if len(right) == 1 else None


def by_precedence(pools: Iterable[SpiderIPPool]) -> list[SpiderIPPool]:
    """Returns the pools of an ENI and family, first the one that gives its addresses: the oldest one that stays.

    There is a second one where a create that was not answered was carried out late, under a name that was free since.
    """
    return sorted(pools, key=lambda pool: (pool.terminating, pool.metadata.creationTimestamp or "", pool.name))


def absence(pool: SpiderIPPool, nodes: Mapping[str, Instance | None]) -> ENIAbsence:
    """Returns why no Node claims the ENI of a pool; ``nodes`` are all Nodes, with the reports of their servers."""
    names = pool.spec.nodeName or []
    if len(names) != 1:
        return ENIAbsence.UNKNOWN
    if names[0] not in nodes:
        return ENIAbsence.NODE
    return ENIAbsence.UNKNOWN if nodes[names[0]] is None else ENIAbsence.ENI


def registered(eni: ENI | None, version: int) -> AddressSet:
    """Returns the addresses of a family that are registered on an ENI, without the server's own."""
    return _set_of(eni.addresses_of(version) if eni else (), version)


def _known(claim: ENIClaim | None, version: int) -> tuple[AddressSet, AddressSet]:
    """Returns the addresses of a family that are registered on a claimed ENI, and the disputed ones among them."""
    if claim is None:
        return AddressSet(version), AddressSet(version)
    reported = claim.eni.addresses_of(version)
    known = [each for each in reported if each not in claim.dispute.lost]
    return _set_of(known, version), _set_of((each for each in known if each in claim.dispute.open), version)


def _set_of(addresses: Iterable[str], version: int) -> AddressSet:
    return AddressSet.of_addresses((int(ip_address(each)) for each in addresses), version)


def plan_update(
    pool: SpiderIPPool,
    claim: ENIClaim | None,
    holders: Iterable[SpiderIP],
    others: Iterable[SpiderIPPool],
    namespace: str,
) -> PoolUpdate:
    """Returns the update of a pool; without a claim its ENI is gone.

    An address that is not registered leaves the pool, but one that a pod has stays in ``ips`` and is excluded: the pod
    keeps it, and no other pod gets it. ``others`` are the other pools of the cluster: an address that one of them has
    is not added to this one, nor is a disputed one.
    """
    version = subnet_version(pool)
    known, disputed = _known(claim, version)
    present = _usable(pool, version)
    added = known - present - (disputed - _listed(pool, version))
    given = (known & present) | _untaken(added, pool.spec.subnet, others, pool.eni)
    return _update_of(pool, claim, holders, given, namespace)


def plan_dissolution(
    pool: SpiderIPPool, claim: ENIClaim | None, holders: Iterable[SpiderIP], namespace: str
) -> PoolUpdate:
    """Returns the update of a surplus pool, which gives nothing: another one is the ENI's.

    It keeps what pods have, and what is about to be returned to the cloud: the other one must not give that meanwhile.
    """
    version = subnet_version(pool)
    known, _ = _known(claim, version)
    given = known & _listed(pool, version) & releasing(pool)
    return _update_of(pool, claim, holders, given, namespace)


def _update_of(
    pool: SpiderIPPool, claim: ENIClaim | None, holders: Iterable[SpiderIP], given: AddressSet, namespace: str
) -> PoolUpdate:
    """Returns the update of a pool that is to have some addresses besides those of its holders."""
    version = subnet_version(pool)
    known, _ = _known(claim, version)
    held = [holder for holder in holders if holder.spec.releasedAt is None]
    fenced = AddressSet.of_addresses(map(address_of, held), version) - given
    excluded = fenced | (releasing(pool) & given)
    return PoolUpdate(
        ips=(given | fenced).ranges() or None,
        exclude=excluded.ranges() or None,
        node=[claim.node] if claim else pool.spec.nodeName,
        network=_network_of(claim, namespace) or pool.spec.multusName,
        unregistered=tuple(
            sorted((each for each in held if not _is_registered(each, known, claim)), key=lambda each: each.name)
        ),
    )


def _is_registered(record: SpiderIP, known: AddressSet, claim: ENIClaim | None) -> bool:
    return claim is not None and address_of(record) in known and record.spec.node == claim.node


def _network_of(claim: ENIClaim | None, namespace: str) -> list[str] | None:
    return [f"{namespace}/{network_name(claim.eni.device)}"] if claim and claim.eni.device else None


def subnet_version(pool: SpiderIPPool) -> int:
    """Returns the address family of a pool's subnet, 4 or 6, whatever its field ``ipVersion`` says."""
    return 6 if ":" in pool.spec.subnet else 4


def _usable(pool: SpiderIPPool, version: int) -> AddressSet:
    try:
        return usable(pool)
    except ValueError:  # written past the admission webhook, so it may be malformed; no agent uses it either
        return AddressSet(version)


def _listed(pool: SpiderIPPool, version: int) -> AddressSet:
    try:
        return AddressSet.parse(pool.spec.ips or (), version)
    except ValueError:
        return AddressSet(version)


def _untaken(addresses: AddressSet, subnet: str, others: Iterable[SpiderIPPool], eni: str | None = None) -> AddressSet:
    """Returns the addresses that no other pool with an overlapping subnet has; reads no pool when there are none.

    Another pool of the same ENI also has what it excludes: a pod has that, or it is about to be returned to the cloud.
    """
    if not addresses:
        return addresses
    block, version = ip_network(subnet), addresses.version
    for other in others:
        with suppress(ValueError):  # a malformed pool has no addresses
            if ip_network(other.spec.subnet).overlaps(block):
                addresses -= _usable(other, version)
                if eni and other.eni == eni:
                    addresses -= _listed(other, version) | releasing(other)
    return addresses


def releasing(pool: SpiderIPPool) -> AddressSet:
    """Returns the addresses of a pool that will be returned to the cloud; skips words that are no addresses of it."""
    version, readable = subnet_version(pool), []
    for word in releasing_words(pool):
        with suppress(ValueError):
            AddressSet.parse([word], version)
            readable.append(word)
    return AddressSet.parse(readable, version)


def releasing_words(pool: SpiderIPPool) -> list[str]:
    """The words of the annotation; whoever writes more than an ENI can have addresses, is not heard to the end."""
    text = (pool.metadata.annotations or {}).get(RELEASING_ANNOTATION, "")
    return [word.strip() for word in text.split(",", MOST_RELEASING)[:MOST_RELEASING]]


def is_known_to_agent(eni: str, pools: Iterable[SpiderIPPool], account: SpiderNode | None) -> bool:
    """Whether the agent of an ENI's node serves pods from the present generation of the ENI's pools."""
    present, known = _generations(eni, pools).items(), _observed(account).items()
    return bool(present) and present <= known


def not_observed_text(eni: str, pools: Iterable[SpiderIPPool], account: SpiderNode | None) -> str:
    """Returns what keeps :func:`is_known_to_agent` from being so."""
    if account is None:
        return "the agent of the node has made no SpiderNode of its name"
    known = _observed(account)
    if not known:
        return f"status.pools of SpiderNode {account.name} is empty, which an agent of an earlier version leaves so"
    for name, generation in sorted(_generations(eni, pools).items()):
        if known.get(name) != generation:
            said = f"generation {known[name]}" if name in known else "none"
            return f"status.pools of SpiderNode {account.name} names {said} of pool {name}, not generation {generation}"
    return "the ENI has no pool"


def _generations(eni: str, pools: Iterable[SpiderIPPool]) -> dict[str, int]:
    """The present generation of each pool of an ENI."""
    of_eni = (pool for pool in pools if pool.eni == eni)
    return {pool.name: pool.metadata.generation or 0 for pool in of_eni}


def _observed(account: SpiderNode | None) -> dict[str, int]:
    """The generation of each pool from which a node's agent says that it serves pods."""
    observed = account.status.pools if account and account.status else None
    return {each.name: each.generation for each in observed or ()}


def patch_of(pool: SpiderIPPool, update: PoolUpdate) -> dict[str, Any] | None:
    """Returns the merge patch for an update, valid for this resourceVersion only; None when nothing changes."""
    spec: dict[str, Any] = {
        "ips": update.ips,
        "excludeIPs": update.exclude,
        "nodeName": update.node,
        "multusName": update.network,
    }
    changed = {name: value for name, value in spec.items() if value != (getattr(pool.spec, name) or None)}
    annotations = {UNREGISTERED_ANNOTATION: update.annotation}
    present = (pool.metadata.annotations or {}).get(UNREGISTERED_ANNOTATION)
    if not changed and present == update.annotation:
        return None
    return {
        "metadata": {"resourceVersion": pool.metadata.resourceVersion, "annotations": annotations},
        "spec": changed,
    }


def new_pool(
    name: str, claim: ENIClaim, version: int, others: Iterable[SpiderIPPool], namespace: str
) -> SpiderIPPool | None:
    """Returns the pool of an ENI and family; None while the ENI has no Linux name or no address for pods."""
    eni, subnet = claim.eni, claim.eni.subnet_of(version)
    if subnet is None or eni.device is None:
        return None
    known, disputed = _known(claim, version)
    addresses = _untaken(known - disputed, subnet, others)
    if not addresses:
        return None
    spec = IPPoolSpec(
        subnet=subnet,
        ipVersion=version,
        ips=addresses.ranges(),
        gateway=_gateway(eni, version, addresses),
        nodeName=[claim.node],
        multusName=_network_of(claim, namespace),
        default=True,
    )
    return SpiderIPPool(metadata=ObjectMeta(name=name, labels={POOL_ENI_LABEL: eni.identity}), spec=spec)


def _gateway(eni: ENI, version: int, addresses: AddressSet) -> str | None:
    gateway = eni.gateway_of(version)
    return gateway if gateway and int(ip_address(gateway)) not in addresses else None


def pool_name(claim: ENIClaim, version: int, pool: Callable[[str], SpiderIPPool | None]) -> str:
    """Returns ``node-device-v4``, with the ENI's identity for the device where another ENI's pool has that name.

    Raises BadConfig when a user's pool has that name.
    """
    name = _name_of(f"{claim.node}-{claim.eni.device}-v{version}")
    present = pool(name)
    if present is None:
        return name
    if present.eni is not None:
        return _name_of(f"{claim.node}-{claim.eni.identity}-v{version}")
    raise BadConfig(
        f"pool {name} was not made from an ENI and stays as it is; ENI {claim.eni.identity} gets no pool: "
        f"delete the pool, or give it the label {POOL_ENI_LABEL}={claim.eni.identity}"
    )


def network_name(device: str) -> str:
    """Returns the name of the network for the ENIs of a Linux name."""
    return _name_of(f"ipvlan-{device}")


def _name_of(text: str) -> str:
    """Returns a text as the name of an object: Linux allows more characters in the name of a link."""
    return re.sub(r"[^a-z0-9.-]", "-", text.lower()).strip("-.")


def new_network(device: str, namespace: str, node: str, made: Sequence[SpiderMultusConfig] = ()) -> SpiderMultusConfig:
    """Returns the network for the ENIs of a Linux name: IPvlan, since clouds drop frames with other MAC addresses.

    Raises BadConfig where too many networks were ``made`` of what its node reports.
    """
    if len(made) >= MOST_NETWORKS:
        raise BadConfig(
            f"network {network_name(device)} is not made: node {node} has reported {len(made)} names of NICs that got a"
            f" network, more than a server has; delete the SpiderMultusConfigs that no pod needs among those labelled"
            f" {NODE_LABEL}={label_value(node)}"
        )
    coordinator = CoordinatorSpec(mode="underlay", tunePodRoutes=True, podCIDRType="cluster")
    return SpiderMultusConfig(
        metadata=ObjectMeta(
            name=network_name(device),
            namespace=namespace,
            labels={DEVICE_LABEL: _name_of(device), NODE_LABEL: label_value(node)},
        ),
        spec=MultusConfigSpec(
            cniType="ipvlan",
            enableCoordinator=True,
            coordinator=coordinator,
            ipvlan=IpvlanConfig(master=[device]),
        ),
    )


def network_fault(network: SpiderMultusConfig, device: str) -> str | None:
    """Returns why an existing network cannot serve the ENIs of a Linux name; None when it can."""
    block = network.spec.ipvlan if network.spec else None
    if block is not None and block.master == [device]:
        return None
    if network.spec is None or (network.spec.cniType in ("custom", None) and not network.spec.customCNI):
        return (
            f"SpiderMultusConfig {network.key} is empty, as the chart makes it where networks are written by hand;"
            f" delete it, and the network of {device} is made"
        )
    return f"SpiderMultusConfig {network.key} is no ipvlan network of {device}; pods that name it miss the ENI's pools"


def unregistered_text(record: SpiderIP, claim: ENIClaim | None, eni: str) -> str:
    """Returns the message about an address that a pod has and that is not registered on the ENI."""
    where = f"ENI {eni} of node {record.spec.node}"
    moved = claim is not None and claim.node != record.spec.node
    known = f"{where}: that ENI now belongs to node {claim.node}" if moved and claim else where
    return (
        f"{address_text(record)} ({record.spec.interface} of pod {record.spec.namespace}/{record.spec.pod}) is not "
        f"registered on {known}; the cloud drops its packets. Register the address there, or delete the pod"
    )
