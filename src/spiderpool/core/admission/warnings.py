"""Warnings about objects that are accepted although a part of them has no effect, or not yet: kubectl prints them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from spiderpool.api.coordinator import CoordinatorSpec, SpiderCoordinator
from spiderpool.api.core_v1 import Namespace, Node
from spiderpool.api.ippool import POOL_MOVING_ANNOTATION, SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.multusconfig import (
    IpoibConfig,
    MacvlanConfig,
    MultusConfigSpec,
    NetworkPools,
    SpiderMultusConfig,
    VlanConfig,
)
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.core.addresses import AddressSet, Network
from spiderpool.core.admission.faults import parse_prefix, shown
from spiderpool.core.admission.ranges import subnet_or_none
from spiderpool.core.ipam.allocation import usable
from spiderpool.core.ipam.inheritance import why_moving_unreadable
from spiderpool.core.network.multusconfig import BLOCK_FIELDS, Block, interface_block
from spiderpool.core.network.plumbing.foreign import NEVER
from spiderpool.core.network.plumbing.values import DISABLED
from spiderpool.core.network.pod_networks import qualified

MOST_CIDRS = 100
"""Subnets of a list that are looked at: each takes some time, and nobody writes so many by hand."""
NOT_SERVED = "is not served, pods of this network will not start"


@dataclass(frozen=True, slots=True)
class ObjectName:
    """An object that a field names."""

    path: str
    kind: type[Object]
    name: str
    namespace: str | None = None

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.path}: there is no {self.kind.KIND.name} {where} yet"


def ippool_warnings(pool: SpiderIPPool) -> Iterator[str]:
    """What of a valid pool has no effect."""
    subnet = subnet_or_none(pool.spec.subnet)
    if subnet is None:
        return
    yield from _unassignable_warnings(pool.spec.ips, pool.spec.excludeIPs, subnet)
    if why := why_moving_unreadable(pool):
        yield f"metadata.annotations[{POOL_MOVING_ANNOTATION}]: has no effect: {why}"
    if not usable(pool):
        yield "spec.ips: the pool has no address that a pod could get"


def names_in(pool: SpiderIPPool, namespace: str) -> Iterator[ObjectName]:
    """The objects that a pool is for; ``namespace`` is that of networks which it names without one."""
    spec = pool.spec
    for index, name in enumerate(spec.nodeName or ()):
        yield ObjectName(f"spec.nodeName[{index}]", Node, name)
    for index, name in enumerate(spec.namespaceName or ()):
        yield ObjectName(f"spec.namespaceName[{index}]", Namespace, name)
    for index, text in enumerate(spec.multusName or ()):
        home, _, name = qualified(text, namespace).rpartition("/")
        yield ObjectName(f"spec.multusName[{index}]", NetworkAttachmentDefinition, name, home)


def subnet_warnings(subnet: SpiderSubnet) -> Iterator[str]:
    """What of a valid subnet has no effect."""
    if network := subnet_or_none(subnet.spec.subnet):
        yield from _unassignable_warnings(subnet.spec.ips, subnet.spec.excludeIPs, network)


def multusconfig_warnings(
    config: SpiderMultusConfig, pools: Collection[str], devices: Collection[str] | None
) -> Iterator[str]:
    """What of a valid network has no effect: pools that do not exist, NICs that no node has.

    ``devices`` are the NICs of all nodes, None where they are not known.
    """
    spec = config.spec or MultusConfigSpec()
    yield from _network_coordinator_warnings(spec)
    block, path = interface_block(spec), f"spec.{BLOCK_FIELDS.get(spec.cniType or '')}"
    if block is None:
        return
    yield from _pool_warnings(block.ippools or NetworkPools(), pools, f"{path}.ippools")
    if isinstance(block, VlanConfig) and block.vlanMode == "auto":
        yield f"{path}.vlanMode: auto {NOT_SERVED}; write manual, and vlanID"
    if block.ippools and block.ippools.matchMasterSubnet:
        yield f"{path}.ippools.matchMasterSubnet: {NOT_SERVED}; remove it"
    if missing := missing_masters(spec, devices):
        yield f"{path}.{missing}"


def removed_coordinator_warnings(config: SpiderMultusConfig) -> Iterator[str]:
    """What the defaults of a network take away."""
    spec = config.spec or MultusConfigSpec()
    if spec.cniType in ("custom", None) and spec.coordinator is not None:
        yield (
            "spec.coordinator: is removed, since it has no effect with cniType custom; "
            "write the plugin coordinator into spec.customCNI"
        )


def coordinator_warnings(coordinator: SpiderCoordinator, others: Iterable[str]) -> Iterator[str]:
    """What of valid settings has no effect; ``others`` are the names of all SpiderCoordinators."""
    if coordinator.name > (first := min(others, default=coordinator.name)):
        yield f"spec: has no effect while there is SpiderCoordinator {first}, since nodes follow the first by name"
    yield from _ipam_cidr_warnings(coordinator.spec or CoordinatorSpec(), "spec.ipamCIDR")


def _network_coordinator_warnings(spec: MultusConfigSpec) -> Iterator[str]:
    """What of a network's own settings of the coordinator has no effect."""
    settings, path = spec.coordinator, "spec.coordinator.ipamCIDR"
    if settings is None or not settings.ipamCIDR:
        return
    if spec.enableCoordinator is False:
        yield f"{path}: has no effect with enableCoordinator: false"
    elif settings.mode in DISABLED:
        yield f"{path}: has no effect with mode: {settings.mode}"
    elif not spec.chainCNIJsonData:
        given = "gives no addresses" if spec.disableIPAM else "has Spiderpool's IPAM, whose addresses are always routed"
        yield f"{path}: has no effect, since this network {given}; it is for other IPAM plugins"
    else:
        yield from _ipam_cidr_warnings(settings, path)


def _ipam_cidr_warnings(settings: CoordinatorSpec, path: str) -> Iterator[str]:
    if never := [text for text in (settings.ipamCIDR or ())[:MOST_CIDRS] if _is_never_a_pods(text)]:
        yield f"{path}: {shown(never)} has no effect, since no pod may have an address of that kind"


def _is_never_a_pods(text: str) -> bool:
    """Whether no address of a CIDR is routed to a pod, whatever the settings say."""
    prefix = parse_prefix(text)
    if prefix is None:
        return False
    first, last = prefix.network[0], prefix.network[-1]
    return any(first in network and last in network for network in NEVER)


def missing_masters(spec: MultusConfigSpec, devices: Collection[str] | None) -> str:
    """Says which NICs of a network no node has; empty when none is missing, or that is not known."""
    block = interface_block(spec)
    missing = [master for master in _masters(block) if devices is not None and master not in devices] if block else ()
    if not missing:
        return ""
    return f"master: no node reports a NIC {', '.join(missing)}; reported are {shown(sorted(devices or ()))}"


def _pool_warnings(named: NetworkPools, pools: Collection[str], path: str) -> Iterator[str]:
    for field, patterns in (("ipv4", named.ipv4), ("ipv6", named.ipv6)):
        for index, pattern in enumerate(patterns or ()):
            if not any(fnmatchcase(name, pattern) for name in pools):
                yield f"{path}.{field}[{index}]: there is no SpiderIPPool {pattern} yet"


def _masters(block: Block) -> Sequence[str]:
    """The NICs of the node that a block names."""
    match block:
        case MacvlanConfig():
            return block.master
        case IpoibConfig():
            return [block.master]
        case _:
            return ()


def _unassignable_warnings(ips: Iterable[str] | None, exclude: Iterable[str] | None, subnet: Network) -> Iterator[str]:
    listed = AddressSet.parse(ips or (), subnet.version) - AddressSet.parse(exclude or (), subnet.version)
    if left_out := (listed & AddressSet.unassignable(subnet)).ranges():
        yield f"spec.ips: no pod gets {shown(left_out)}, as network or broadcast address of {subnet}"
