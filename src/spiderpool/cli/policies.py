"""The settings of the agents that decide about a pod, as the cluster has them: from their DaemonSet and ConfigMap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import msgspec

from spiderpool.api.applications import DaemonSet
from spiderpool.api.core_v1 import ConfigMap
from spiderpool.api.meta import Kind, Object
from spiderpool.cli.connection import Cluster
from spiderpool.cli.files import text_at
from spiderpool.cli.installation import AGENT, COMPONENT_LABEL, DEFAULT_NAMESPACE
from spiderpool.cloud.loadbalancers import configuration_of
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.errors import BadConfig
from spiderpool.policies import address_policy, attachment_policy
from spiderpool.settings import AgentSettings, SettingsSource, agent_settings, cloud_settings, table, text_source

CONFIG = "spiderpool-conf"
"""Name of the ConfigMap with conf.yml."""
FILE = "conf.yml"
DEFAULT_NETWORK, NAMESPACE, NODE = "MULTUS_CLUSTER_NETWORK", "SPIDERPOOL_POD_NAMESPACE", "SPIDERPOOL_NODE_NAME"


class KeyReference(msgspec.Struct):
    """core/v1 ConfigMapKeySelector, in part."""

    name: str
    key: str


class VariableSource(msgspec.Struct):
    """core/v1 EnvVarSource, in part."""

    configMapKeyRef: KeyReference | None = None  # noqa: N815 - the API's spelling


class Variable(msgspec.Struct):
    """core/v1 EnvVar."""

    name: str
    value: str | None = None
    valueFrom: VariableSource | None = None  # noqa: N815


class AgentContainer(msgspec.Struct):
    """core/v1 Container, in part."""

    image: str | None = None
    env: list[Variable] | None = None


class AgentPodSpec(msgspec.Struct):
    """core/v1 PodSpec, in part."""

    containers: list[AgentContainer] = msgspec.field(default_factory=list)


class AgentTemplate(msgspec.Struct):
    """core/v1 PodTemplateSpec, in part."""

    spec: AgentPodSpec = msgspec.field(default_factory=AgentPodSpec)


class AgentSetSpec(msgspec.Struct):
    """apps/v1 DaemonSetSpec, in part."""

    template: AgentTemplate = msgspec.field(default_factory=AgentTemplate)


class AgentSet(Object, kw_only=True):
    """apps/v1 DaemonSet, with images and environment of its containers."""

    KIND: ClassVar[Kind] = DaemonSet.KIND

    spec: AgentSetSpec = msgspec.field(default_factory=AgentSetSpec)

    @property
    def image(self) -> str | None:
        """The image of its first container; None where it has none."""
        containers = self.spec.template.spec.containers
        return containers[0].image if containers else None


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """What the settings say about nodes, and about what leaves them."""

    provider: str = ""
    """The cloud; empty: none."""
    block_metadata: bool = True
    """Whether pods are kept from the cloud's metadata service."""
    metadata_namespaces: tuple[str, ...] = ()
    """Namespaces whose pods reach it all the same."""
    tune_node: bool = False
    """Whether each NIC of a node answers for itself."""
    balancers: BalancerConfiguration = field(default_factory=BalancerConfiguration)
    """What spiderpool-cloud does for Services that do not say so themselves."""


@dataclass(frozen=True, slots=True)
class AgentPolicies:
    """What the agents' settings say about pods."""

    networks: AttachmentPolicy
    addresses: AddressPolicy
    notes: tuple[str, ...] = ()
    """Where settings are not those of the cluster, as they could not be read."""
    network_note: str | None = None
    """The same about the network of pods that name none."""
    spare: int = 1
    """Spare addresses of an automatic pool that names no number."""
    nodes: NodePolicy = field(default_factory=NodePolicy)


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What the user says about the agents' settings; None: as the cluster has them."""

    namespace: str
    values: Path | None = None
    default_network: str | None = None


@contextmanager
def read_as_conf(values: Path | None, namespace: str = DEFAULT_NAMESPACE) -> Iterator[None]:
    """Have an error about the file of --values say what it should be: values of Helm have other keys."""
    try:
        yield
    except BadConfig as error:
        if values is None:
            raise
        command = f"kubectl --namespace {namespace} get configmap {CONFIG} -o jsonpath='{{.data.conf\\.yml}}'"
        raise BadConfig(
            f"{error.message}. --values takes {FILE} of the daemons; where {values} has values of Helm, give what these"
            f" become: `{command}` prints that of the cluster"
        ) from error


async def read_policies(cluster: Cluster, options: PolicyOptions) -> AgentPolicies:
    """The settings of the cluster's agents. Raises BadConfig."""
    config = await cluster.find(ConfigMap, CONFIG, options.namespace)
    sets = await cluster.list(AgentSet, options.namespace, labels=f"{COMPONENT_LABEL}={AGENT}")
    environ = _environment(sets or (), config)
    if options.default_network:
        environ[DEFAULT_NETWORK] = options.default_network
    known = DEFAULT_NETWORK in environ
    environ |= {NAMESPACE: options.namespace, NODE: "any"}
    with read_as_conf(options.values, options.namespace):
        source = text_source(*_text(options.values, config), environ)
        settings, spare = agent_settings(source), source.read(table.REDUNDANT_IPS)
    missing = options.values is None and (config is None or FILE not in (config.data or {}))
    assumed = f"ConfigMap {options.namespace}/{CONFIG} is not there: the defaults of its settings are assumed"
    unknown = f"no {DEFAULT_NETWORK} of the agents is known: if they have one, name it by --default-network"
    return AgentPolicies(
        attachment_policy(settings),
        address_policy(settings),
        notes=(assumed,) if missing else (),
        network_note=None if known else unknown,
        spare=spare,
        nodes=_node_policy(settings, source),
    )


def _node_policy(settings: AgentSettings, source: SettingsSource) -> NodePolicy:
    try:
        balancers = configuration_of(cloud_settings(source))
    except BadConfig:  # of spiderpool-cloud, which says so itself; agents go on
        balancers = BalancerConfiguration()
    return NodePolicy(
        provider=settings.common.cloud.provider,
        block_metadata=settings.block_pod_metadata,
        metadata_namespaces=settings.metadata_namespaces,
        tune_node=settings.tune_node,
        balancers=balancers,
    )


def _text(values: Path | None, config: ConfigMap | None) -> tuple[str, str]:
    """conf.yml, and where it is from. Raises BadConfig."""
    if values is None:
        return ((config.data if config else None) or {}).get(FILE, ""), f"ConfigMap {CONFIG}"
    return text_at(values), str(values)


def _environment(sets: Iterable[AgentSet], config: ConfigMap | None) -> dict[str, str]:
    """The variables of the agents, as far as they are written or come from the ConfigMap."""
    found: dict[str, str] = {}
    variables = (
        each for one in sets for container in one.spec.template.spec.containers for each in container.env or ()
    )
    for each in variables:
        reference = each.valueFrom.configMapKeyRef if each.valueFrom else None
        referred = (config.data or {}).get(reference.key) if config and reference and reference.name == CONFIG else None
        if (value := each.value if each.value is not None else referred) is not None:
            found[each.name] = value
    return found
