"""Detects the pod and Service CIDRs of the cluster: from its objects, and from CNI configurations of our node.

It writes nothing, and does not decide who needs the CIDRs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import yaml

from spiderpool.api.core_v1 import ConfigMap, Pod
from spiderpool.api.decoding import decode
from spiderpool.api.meta import Kind, Object, Scope
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import Client, NotFound
from spiderpool.telemetry import logger

SYSTEM_NAMESPACE = "kube-system"
KUBEADM_CONFIG = "kubeadm-config"
"""Name of kubeadm's ConfigMap."""
CONTROLLER_MANAGER = "component=kube-controller-manager"
"""Label selector of the Pods of kube-controller-manager."""

OUR_NETWORK = "spiderpool"
"""Name of the CNI configuration that our agents install."""

BY_HAND = "set spec.podCIDRType to none and list the pod and Service CIDRs in spec.hijackCIDR"

LONGEST_CONFIGURATION, MOST_BRACKETS = 1 << 14, 64
"""Characters, and lists and mappings on one line, of kubeadm's configuration, which has 2,000 and none."""

T = TypeVar("T", bound=Object)

log = logger("coordinator")


class CIDRsUnknown(SpiderpoolError):
    """The CIDRs cannot be detected; the message says what to set by hand."""


class CNIPlugin(msgspec.Struct):
    """An entry of ``plugins``, in part."""

    type: str = ""


class CNIFile(msgspec.Struct):
    """A CNI network configuration (list), in part (CNI specification 1.1.0, section 1)."""

    name: str = ""
    type: str = ""
    plugins: list[CNIPlugin] = []


class ManagerContainer(msgspec.Struct):
    """core/v1 Container, in part."""

    command: list[str] | None = None
    args: list[str] | None = None


class ContainersSpec(msgspec.Struct):
    """core/v1 PodSpec, in part."""

    containers: list[ManagerContainer]


class ControllerManager(Object, kw_only=True):
    """A core/v1 Pod, in part: its command lines."""

    KIND: ClassVar[Kind] = Pod.KIND

    spec: ContainersSpec


class CalicoPoolSpec(msgspec.Struct):
    """crd.projectcalico.org/v1 IPPool spec, in part.

    ``disabled`` is not read: it stops new addresses, and the pods that have one must still be reached.
    """

    cidr: str


class CalicoPool(Object, kw_only=True):
    """crd.projectcalico.org/v1 IPPool."""

    KIND: ClassVar[Kind] = Kind("crd.projectcalico.org", "v1", "IPPool", "ippools", Scope.CLUSTER)

    spec: CalicoPoolSpec


class CiliumCIDRs(msgspec.Struct):
    """The addresses of one family of a CiliumPodIPPool."""

    cidrs: list[str] | None = None


class CiliumPoolSpec(msgspec.Struct):
    """cilium.io/v2alpha1 CiliumPodIPPool spec, in part."""

    ipv4: CiliumCIDRs = msgspec.field(default_factory=CiliumCIDRs)
    ipv6: CiliumCIDRs = msgspec.field(default_factory=CiliumCIDRs)


class CiliumPool(Object, kw_only=True):
    """cilium.io/v2alpha1 CiliumPodIPPool."""

    KIND: ClassVar[Kind] = Kind("cilium.io", "v2alpha1", "CiliumPodIPPool", "ciliumpodippools", Scope.CLUSTER)

    spec: CiliumPoolSpec = msgspec.field(default_factory=CiliumPoolSpec)


class ServiceCIDRSpec(msgspec.Struct):
    """networking.k8s.io/v1 ServiceCIDR spec, in part."""

    cidrs: list[str] | None = None


class ServiceCIDR(Object, kw_only=True):
    """networking.k8s.io/v1 ServiceCIDR: Kubernetes 1.33 and later."""

    KIND: ClassVar[Kind] = Kind("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", Scope.CLUSTER)

    spec: ServiceCIDRSpec = msgspec.field(default_factory=ServiceCIDRSpec)


class ServiceCIDRBeta(ServiceCIDR, kw_only=True):
    """networking.k8s.io/v1beta1 ServiceCIDR: Kubernetes 1.31 and 1.32."""

    KIND: ClassVar[Kind] = Kind("networking.k8s.io", "v1beta1", "ServiceCIDR", "servicecidrs", Scope.CLUSTER)


SERVICE_CIDRS = (ServiceCIDR, ServiceCIDRBeta)


@dataclass(frozen=True, slots=True)
class ClusterCIDRs:
    """CIDRs of a cluster according to one source; empty where the source does not say."""

    pods: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    def or_else(self, other: ClusterCIDRs) -> ClusterCIDRs:
        """These CIDRs, with those of ``other`` where there are none."""
        return ClusterCIDRs(self.pods or other.pods, self.services or other.services)


def kubeadm_networks(configuration: str) -> ClusterCIDRs:
    """CIDRs in the YAML text of a kubeadm ClusterConfiguration; none when it is malformed, or long beyond measure."""
    if (
        len(configuration) > LONGEST_CONFIGURATION
        or configuration.count("[") + configuration.count("{") > MOST_BRACKETS
    ):
        return ClusterCIDRs()
    try:
        document = yaml.load(configuration, yaml.BaseLoader)  # noqa: S506 - it makes texts, lists and mappings alone
    except (yaml.YAMLError, RecursionError):
        return ClusterCIDRs()
    networking = document.get("networking") if isinstance(document, dict) else None
    found = networking if isinstance(networking, dict) else {}
    return ClusterCIDRs(cidrs([found.get("podSubnet")]), cidrs([found.get("serviceSubnet")]))


def flag_networks(command: Iterable[str]) -> ClusterCIDRs:
    """CIDRs on the command line of kube-controller-manager: ``--flag=value``, or the value as the next word."""
    words = [part for word in command for part in word.split("=", 1)]
    flags = dict(pairwise(words))
    return ClusterCIDRs(cidrs([flags.get("--cluster-cidr")]), cidrs([flags.get("--service-cluster-ip-range")]))


def cidrs(texts: Iterable[Any]) -> tuple[str, ...]:
    """The CIDRs in texts that list them separated by commas or spaces; other words are left out."""
    words = (word for text in texts if isinstance(text, str) for word in text.replace(",", " ").split())
    return tuple(word for word in words if _is_cidr(word))


def _is_cidr(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


NETWORKS = {
    "calico": "calico",
    "k8s-pod-network": "calico",
    "cilium": "cilium",
    "flannel": "cluster",
    "cbr0": "cluster",
}
"""podCIDRType by the name of a CNI configuration; cbr0 is what flannel's own manifest calls it."""
PLUGINS = {"calico": "calico", "cilium-cni": "cilium", "flannel": "cluster"}
"""podCIDRType by the type of a plugin in the configuration, for names that are not in NETWORKS."""


def detected_type(directory: Path) -> str | None:
    """Return the podCIDRType by the first CNI configuration in a directory; None when the directory cannot be read.

    Skips configurations of meta plugins: ours and Multus. Raises CIDRsUnknown for a malformed configuration.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix in (".conf", ".conflist"))
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("CNI configurations not read", directory=str(directory), error=str(error))
        return None
    for path in (path for path in paths if "00-multus" not in path.name):
        file = _read_cni(path)
        if file.name != OUR_NETWORK:
            return network_type(file)
    return "none"


def _read_cni(path: Path) -> CNIFile:
    try:
        return decode(path.read_bytes(), CNIFile)
    except (OSError, msgspec.DecodeError) as error:
        named = next((network for network in NETWORKS if network in path.stem), None)
        if isinstance(error, PermissionError) and named:  # only root may read what Calico writes; we need not be root
            return CNIFile(name=named)
        raise CIDRsUnknown(f"CNI configuration {path} cannot be read ({error}); correct it, or {BY_HAND}") from error


def network_type(file: CNIFile) -> str:
    """Return the podCIDRType of the network that a CNI configuration belongs to."""
    types = [file.type, *(plugin.type for plugin in file.plugins)]
    return NETWORKS.get(file.name) or next((PLUGINS[plugin] for plugin in types if plugin in PLUGINS), "none")


@dataclass(frozen=True, slots=True)
class CIDRSources:
    """Where CIDRs are detected from, beside the cluster's objects."""

    cni_dir: Path
    """CNI configurations of the node that we run on; need not exist."""
    cilium_config: str
    """``namespace/name`` of the ConfigMap of cilium."""


class CIDRDetector:
    """Reads the cluster's pod and Service CIDRs. Every read is a fresh one, since most sources are not watched."""

    def __init__(self, client: Client, sources: CIDRSources) -> None:
        self._client = client
        self._cni_dir = sources.cni_dir
        self._cilium_config = sources.cilium_config

    async def detect(self, kind: str) -> ClusterCIDRs:
        """Pod CIDRs of the overlay network of a podCIDRType, and Service CIDRs. Raises CIDRsUnknown."""
        cluster = ClusterCIDRs(services=await self._service_cidrs()).or_else(await self._cluster())
        if kind == "auto":
            kind = detected_type(self._cni_dir) or kind
        if kind == "none":
            return ClusterCIDRs((), cluster.services)
        pods = await self._pod_cidrs(kind, cluster.pods)
        if not pods or not cluster.services:
            what = "Service" if pods else "pod"
            raise CIDRsUnknown(
                f"the {what} CIDRs are neither in ConfigMap {SYSTEM_NAMESPACE}/{KUBEADM_CONFIG} nor in the flags "
                f"of a kube-controller-manager Pod; {BY_HAND}"
            )
        return ClusterCIDRs(pods, cluster.services)

    async def _pod_cidrs(self, kind: str, cluster: tuple[str, ...]) -> tuple[str, ...]:
        """Pod CIDRs by podCIDRType; ``cluster`` are those of kubeadm or kube-controller-manager."""
        match kind:
            case "calico":
                return await self._calico() or _unknown("calico has no IPPool")
            case "cilium":
                return await self._cilium(cluster) or _unknown(f"{self._cilium_config} names no pod CIDR")
            case "auto":
                return await self._calico() or await self._cilium(cluster) or cluster
            case _:
                return cluster

    async def _cluster(self) -> ClusterCIDRs:
        """CIDRs by kubeadm's ConfigMap, and where it has none, by the flags of kube-controller-manager."""
        config = await self._config_map(SYSTEM_NAMESPACE, KUBEADM_CONFIG)
        networks = kubeadm_networks(config.get("ClusterConfiguration", ""))
        if networks.pods and networks.services:
            return networks
        for pod in await self._client.list(ControllerManager, SYSTEM_NAMESPACE, labels=CONTROLLER_MANAGER):
            for container in pod.spec.containers:
                networks = networks.or_else(flag_networks([*(container.command or ()), *(container.args or ())]))
        return networks

    async def _calico(self) -> tuple[str, ...]:
        """CIDRs of calico's IPPools, also of disabled ones; none when calico is not installed."""
        return cidrs(pool.spec.cidr for pool in await self._served(CalicoPool))

    async def _cilium(self, cluster: tuple[str, ...]) -> tuple[str, ...]:
        """Pod CIDRs of cilium, by its IPAM mode; none when cilium is not installed. Raises CIDRsUnknown."""
        namespace, _, name = self._cilium_config.rpartition("/")
        config = await self._config_map(namespace or SYSTEM_NAMESPACE, name)
        match config.get("ipam"):
            case "cluster-pool" | "cluster-pool-v2beta":
                return cidrs([config.get("cluster-pool-ipv4-cidr"), config.get("cluster-pool-ipv6-cidr")])
            case "multi-pool":
                pools = await self._served(CiliumPool)
                families = ([pool.spec.ipv4 for pool in pools], [pool.spec.ipv6 for pool in pools])
                return cidrs(text for family in families for pool in family for text in pool.cidrs or ())
            case "kubernetes":
                return cluster
            case None:
                return ()
            case mode:
                return _unknown(f"cilium's IPAM mode {mode} does not tell its pod CIDRs")

    async def _service_cidrs(self) -> tuple[str, ...]:
        """CIDRs of the cluster's ServiceCIDRs, in the newest version that has any; none before Kubernetes 1.31."""
        for kind in SERVICE_CIDRS:
            if ranges := await self._served(kind):
                return cidrs(text for service_cidr in ranges for text in service_cidr.spec.cidrs or ())
        return ()

    async def _served(self, kind: type[T]) -> list[T]:
        """Objects of a kind, by age; none when the API server does not serve it.

        Also those that are being deleted: finalizers hold them while pods or Services still have their addresses.
        """
        try:
            return _by_age(await self._client.list(kind))
        except NotFound:
            return []

    async def _config_map(self, namespace: str, name: str) -> dict[str, str]:
        """Data of a ConfigMap; empty when it does not exist."""
        config_map = await self._client.find(ConfigMap, name, namespace)
        return (config_map and config_map.data) or {}


def _unknown(what: str) -> tuple[str, ...]:
    raise CIDRsUnknown(f"{what}; {BY_HAND}")


def _by_age(objects: list[T]) -> list[T]:
    """Oldest first, so that a CIDR that is added later does not change the order."""
    return sorted(objects, key=lambda obj: obj.metadata.creationTimestamp or "")
