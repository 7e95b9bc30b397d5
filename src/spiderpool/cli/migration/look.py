"""What is read of a cluster that is taken over from Spiderpool's own release, in Go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import msgspec
import yaml

from spiderpool.api.applications import DaemonSet, Deployment, StatefulSet
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import ConfigMap, Node, Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.api.meta import Kind, Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.files import as_json
from spiderpool.cli.installation import AGENT, CONTROLLER, DEFAULT_NAMESPACE
from spiderpool.core.ipam.migration import GoState, sticky_owner_of
from spiderpool.core.ipam.migration_groups import LABEL, Group, Side, groups, holders, serving
from spiderpool.core.ipam.owners import MACHINE_INSTANCE
from spiderpool.core.labels import Labels
from spiderpool.errors import Refused
from spiderpool.kube.client import Client, NotFound

T = TypeVar("T", bound=Object)


class _Named(msgspec.Struct):
    name: str = ""


class _Volume(msgspec.Struct):
    configMap: _Named | None = None  # noqa: N815 - the API's spelling


class _PodTemplateSpec(msgspec.Struct):
    nodeSelector: dict[str, str] | None = None  # noqa: N815 - the API's spelling
    affinity: dict[str, Any] | None = None
    volumes: list[_Volume] | None = None


class _PodTemplate(msgspec.Struct):
    spec: _PodTemplateSpec = msgspec.field(default_factory=_PodTemplateSpec)


class _Selector(msgspec.Struct):
    matchLabels: dict[str, str] | None = None  # noqa: N815 - the API's spelling


class _Spec(msgspec.Struct):
    selector: _Selector = msgspec.field(default_factory=_Selector)
    template: _PodTemplate = msgspec.field(default_factory=_PodTemplate)


class _Status(msgspec.Struct):
    observedGeneration: int = 0  # noqa: N815 - the API's spelling


class AgentDaemonSet(Object, kw_only=True):
    """A DaemonSet of agents: which nodes it is for. Never written back whole."""

    KIND: ClassVar[Kind] = DaemonSet.KIND

    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def pod_labels(self) -> str:
        """The selector of its pods."""
        return ",".join(f"{key}={value}" for key, value in sorted((self.spec.selector.matchLabels or {}).items()))

    @property
    def affinity(self) -> dict[str, Any] | None:
        """That of its pods."""
        return self.spec.template.spec.affinity

    def reads(self, config: str) -> bool:
        """Whether a ConfigMap of this name is mounted in its pods."""
        volumes = self.spec.template.spec.volumes or ()
        return any(each.configMap is not None and each.configMap.name == config for each in volumes)

    @property
    def is_for_new_nodes(self) -> bool:
        """Whether it is for nodes alone that have moved."""
        return (self.spec.template.spec.nodeSelector or {}).get(LABEL) == Side.NEW

    @property
    def release(self) -> str:
        """The release of helm that it belongs to."""
        return (self.metadata.annotations or {}).get("meta.helm.sh/release-name", "spiderpool")


@dataclass(frozen=True, slots=True)
class Places:
    """Where both releases are."""

    namespace: str
    """Of ours."""
    former: tuple[str, str]
    """Namespace and name of the other one's DaemonSet."""
    config: str
    """Name of its ConfigMap."""
    removed: bool = False
    """Whether a person says that it is removed; then our own ConfigMap says whose addresses are fixed."""


DEFAULT_PLACES = Places("spiderpool", (DEFAULT_NAMESPACE, AGENT), "spiderpool-conf")


@dataclass(frozen=True)
class MigrationState:
    """A cluster as it was read: records first, then pods, since a pod exists before its record."""

    places: Places
    old: AgentDaemonSet | None
    ours: AgentDaemonSet | None
    has_controller: bool
    """Whether our controller runs, which would write what the other release lives by."""
    served: bool
    """Whether the cluster has SpiderIPs."""
    nodes: tuple[Node, ...]
    go: GoState
    settings: Mapping[str, Any] | None
    """The other release's ``conf.yml``; None where it has none."""
    default_network: str | None
    subnets: tuple[SpiderSubnet, ...]
    reserved: tuple[SpiderReservedIP, ...]
    networks: tuple[SpiderMultusConfig, ...]
    coordinators: tuple[SpiderCoordinator, ...]

    @cached_property
    def labels(self) -> dict[str, Labels]:
        """The labels of each node."""
        return {node.name: node.metadata.labels or {} for node in self.nodes}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The nodes that change hands together."""
        return groups(self.go.pools, self.labels, holders(self.go.endpoints))

    def side(self, group: Group) -> str:
        """Whose nodes a group is of: a Side, both, none of the two, or incomplete where a node of ours has joined."""
        if self.old is None and self.has_controller and not self.begun and not self.places.removed:
            return Side.NEW  # the other release is gone, and the label taken from the nodes
        sides = group.sides(self.labels)
        if {Side.OLD, Side.NEW} <= sides:
            return "both"
        if Side.MOVING in sides:
            return Side.MOVING
        if Side.NEW in sides:
            return Side.NEW if sides == {Side.NEW} else "incomplete"
        return Side.OLD if Side.OLD in sides or not self.begun else "none"

    @cached_property
    def new_nodes(self) -> frozenset[str]:
        """Nodes that have moved."""
        return frozenset(name for name, labels in self.labels.items() if labels.get(LABEL) == Side.NEW)

    @cached_property
    def moved_pools(self) -> set[str]:
        """Pools whose records are taken over: those of nodes that have moved; a node moves after all of its pools."""
        held = holders(self.go.endpoints)
        if self.finished:
            return {pool.name for pool in self.go.pools}
        return {
            pool.name
            for pool in self.go.pools
            if self.new_nodes & (serving(pool, self.labels) | held.get(pool.name, set()))
        }

    @cached_property
    def finished(self) -> bool:
        """Whether all nodes have moved."""
        return all(self.side(group) == Side.NEW for group in self.groups)

    @cached_property
    def begun(self) -> bool:
        """Whether any node has the label."""
        return any(LABEL in labels for labels in self.labels.values())

    @cached_property
    def homeless(self) -> set[str]:
        """Pools that serve no node."""
        return {pool.name for pool in self.go.pools} - {name for group in self.groups for name in group.pools}


async def read_state(client: Client, places: Places) -> MigrationState:
    """Read a cluster. Raises errors of the API, and Refused for settings that cannot be read."""
    old = await client.find(AgentDaemonSet, places.former[1], places.former[0])
    ours = await client.find(AgentDaemonSet, AGENT, places.namespace)
    controller = await client.find(Deployment, CONTROLLER, places.namespace)
    config = await client.find(ConfigMap, places.config, places.namespace if places.removed else places.former[0])
    settings = _settings(config)
    records = await _all(client, SpiderIP)
    pools, endpoints = await _all(client, SpiderIPPool), await _all(client, SpiderEndpoint)
    pods, nodes = await _all(client, Pod), await _all(client, Node)
    owned = _without_pod(endpoints or (), pods or ())
    statefulsets = {each.key: each for each in await _all(client, StatefulSet) or ()}
    instances, machines = await _machines(client, owned)
    subnets, reserved, networks, coordinators = await asyncio.gather(
        _all(client, SpiderSubnet),
        _all(client, SpiderReservedIP),
        _all(client, SpiderMultusConfig),
        _all(client, SpiderCoordinator),
    )
    return MigrationState(
        places=places,
        old=old,
        ours=ours,
        has_controller=controller is not None,
        served=records is not None,
        nodes=tuple(nodes or ()),
        go=GoState(
            tuple(pools or ()),
            tuple(endpoints or ()),
            tuple(pods or ()),
            statefulsets,
            instances,
            machines,
            tuple(records or ()),
            keeps_statefulsets=bool((settings or {}).get("enableStatefulSet")),
            keeps_machines=bool((settings or {}).get("enableKubevirtStaticIP")),
        ),
        settings=settings,
        default_network=((config.data or {}).get("clusterNetwork") or None) if config else None,
        subnets=tuple(subnets or ()),
        reserved=tuple(reserved or ()),
        networks=tuple(networks or ()),
        coordinators=tuple(coordinators or ()),
    )


async def _all(client: Client, kind: type[T]) -> list[T] | None:
    """All objects of a kind; None where the cluster does not have it."""
    try:
        return await client.list(kind)
    except NotFound:
        return None


def _settings(config: ConfigMap | None) -> dict[str, Any] | None:
    if config is None:
        return None
    try:
        found = yaml.safe_load((config.data or {}).get("conf.yml", ""))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Refused(f"conf.yml of ConfigMap {config.key} is no YAML: {error}") from error
    if not isinstance(found, dict):
        raise Refused(f"conf.yml of ConfigMap {config.key} holds no keys")
    return as_json(found, f"conf.yml of ConfigMap {config.key}")


def _without_pod(endpoints: Iterable[SpiderEndpoint], pods: Iterable[Pod]) -> set[tuple[str, str]]:
    """Virtual machines, by Namespace and name, that SpiderEndpoints name whose pod is gone."""
    uids = {pod.metadata.uid for pod in pods}
    owners = [sticky_owner_of(each) for each in endpoints if each.status and each.status.current.uid not in uids]
    return {(each.namespace, each.name) for each in owners if each is not None and each.kind == MACHINE_INSTANCE}


async def _machines(
    client: Client, owned: Iterable[tuple[str, str]]
) -> tuple[dict[str, VirtualMachineInstance], dict[str, VirtualMachine]]:
    instances, machines = {}, {}
    for namespace, name in sorted(owned):
        if instance := await client.find(VirtualMachineInstance, name, namespace):
            instances[instance.key] = instance
        if machine := await client.find(VirtualMachine, name, namespace):
            machines[machine.key] = machine
    return instances, machines
