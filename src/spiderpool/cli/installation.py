"""What is read of an installation of Spiderpool, and where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import msgspec

from spiderpool.api.admissionregistration_v1 import (
    MutatingWebhookConfiguration,
    ValidatingWebhookConfiguration,
    WebhookConfiguration,
)
from spiderpool.api.applications import Deployment, Workload
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Event, Node, Secret
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.mounts import MountingDeployment
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.scheduling import ScheduledDaemonSet
from spiderpool.api.spidernode import SpiderNode
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli.connection import Cluster
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.discovery import find_kind
from spiderpool.settings.table import CERTIFICATE_FOLDER

AGENT, CONTROLLER, CLOUD = COMPONENTS = ("spiderpool-agent", "spiderpool-controller", "spiderpool-cloud")
"""The daemons: names of their workloads, values of the label below, and sources of their Events."""
COMPONENT_LABEL, VERSION_LABEL = "app.kubernetes.io/component", "app.kubernetes.io/version"
LEASES = {CONTROLLER: "spiderpool-controller-leases", CLOUD: "spiderpool-cloud-leases"}
CERTIFICATES = "spiderpool-webhook-certs"
"""The Secret with the certificates of the webhooks, where the controller makes them."""
DEFAULT_NAMESPACE = "kube-system"
SECOND_LOOK = 2.0
"""Seconds after which nodes are looked at again that were asked something and had not answered yet."""


class ServerVersion(msgspec.Struct):
    """The answer of ``/version``, in part."""

    gitVersion: str = ""  # noqa: N815 - the API's spelling


@dataclass(frozen=True, slots=True)
class WebhookCertificate:
    """Where the certificate of the webhooks is, and what is there."""

    secret: str
    is_own: bool
    """Whether the controller makes it; else cert-manager or the administrator does."""
    chain: bytes | None
    """The certificate and those between it and its authority, as PEM; None where it is not known, or not there."""
    is_missing: bool


@dataclass(frozen=True, slots=True)
class Installation:
    """The objects that tell how an installation is; None stands for what may not be read."""

    namespace: str
    kubernetes: str | None
    served: bool
    """Whether the cluster has our kinds, as far as that is known; everybody may ask it."""
    workloads: tuple[Workload, ...] | None
    leases: tuple[Lease, ...] | None
    nodes: tuple[Node, ...] | None
    accounts: tuple[SpiderNode, ...] | None
    pools: tuple[SpiderIPPool, ...] | None
    reserved: tuple[SpiderReservedIP, ...]
    others: tuple[Object, ...]
    """Further objects with a condition Ready."""
    webhooks: tuple[WebhookConfiguration, ...] | None
    certificate: WebhookCertificate
    events: tuple[Event, ...] | None
    """Warnings of our daemons."""


async def look(cluster: Cluster, namespace: str | None) -> Installation:
    """Read an installation; without a Namespace where its leader's Lease is. Raises ApiUnavailable."""
    leases = await cluster.list(Lease, namespace, fields=f"metadata.name={LEASES[CONTROLLER]}")
    home = namespace or next((each.metadata.namespace for each in leases or ()), None) or DEFAULT_NAMESPACE
    cloud = await cluster.list(Lease, home, fields=f"metadata.name={LEASES[CLOUD]}")
    nodes, accounts, pools, reserved = await asyncio.gather(
        cluster.list(Node), cluster.list(SpiderNode), cluster.list(SpiderIPPool), cluster.list(SpiderReservedIP)
    )
    version, served, workloads, others, events = await asyncio.gather(
        _server_version(cluster), _is_served(cluster), _workloads(cluster, home), _others(cluster), warnings(cluster)
    )
    webhooks, certificate = await asyncio.gather(_webhooks(cluster), _certificate(cluster, home, workloads or ()))
    found = Installation(
        namespace=home,
        kubernetes=version,
        served=served,
        workloads=workloads,
        leases=None if leases is None else (*leases, *(cloud or ())),
        nodes=_known(nodes),
        accounts=_known(accounts),
        pools=_known(pools),
        reserved=tuple(reserved or ()),
        others=others,
        webhooks=webhooks,
        certificate=certificate,
        events=events,
    )
    return await _second_look(cluster, found)


async def _second_look(cluster: Cluster, found: Installation) -> Installation:
    """The installation with later accounts, where a node was just asked something: an answer takes a moment."""
    if all(each.answered for each in found.accounts or ()):
        return found
    await asyncio.sleep(SECOND_LOOK)
    later = _known(await cluster.list(SpiderNode))
    return found if later is None else replace(found, accounts=later)


async def _server_version(cluster: Cluster) -> str | None:
    try:
        answer = await cluster.client.get_raw("version", timeout=cluster.timeout)
        return msgspec.json.decode(answer, type=ServerVersion).gitVersion or None
    except (SpiderpoolError, msgspec.DecodeError):
        return None


async def _is_served(cluster: Cluster) -> bool:
    kind = SpiderIPPool.KIND
    try:
        return await find_kind(cluster.client, kind.api_version, kind.name) is not None
    except SpiderpoolError:
        return True


async def _workloads(cluster: Cluster, namespace: str) -> tuple[Workload, ...] | None:
    deployments, sets = await cluster.list(Deployment, namespace), await cluster.list(ScheduledDaemonSet, namespace)
    if deployments is None and sets is None:
        return None
    return tuple(each for each in chain(deployments or (), sets or ()) if component_of(each) is not None)


def component_of(workload: Workload) -> str | None:
    """The daemon that a workload runs: by its label, or by its name; None for one that is not ours."""
    label = (workload.metadata.labels or {}).get(COMPONENT_LABEL, workload.name)
    return label if label in COMPONENTS else None


async def _others(cluster: Cluster) -> tuple[Object, ...]:
    subnets, configs, coordinators = await asyncio.gather(
        cluster.list(SpiderSubnet), cluster.list(SpiderMultusConfig), cluster.list(SpiderCoordinator)
    )
    return (*(subnets or ()), *(configs or ()), *(coordinators or ()))


async def _webhooks(cluster: Cluster) -> tuple[WebhookConfiguration, ...] | None:
    found = (
        await cluster.find(MutatingWebhookConfiguration, CONTROLLER),
        await cluster.find(ValidatingWebhookConfiguration, CONTROLLER),
    )
    known = tuple(each for each in found if each is not None)
    kinds = {MutatingWebhookConfiguration, ValidatingWebhookConfiguration}
    return known if known or cluster.unseen.isdisjoint(kinds) else None


async def _certificate(cluster: Cluster, namespace: str, workloads: Iterable[Workload]) -> WebhookCertificate:
    """That of the Secret which the controller's pods mount; where they mount none, that of the controller's own."""
    name = await _mounted_secret(cluster, namespace, workloads)
    secret = await cluster.find(Secret, name or CERTIFICATES, namespace)
    chain = (secret.data or {}).get("tls.crt") if secret else None
    return WebhookCertificate(name or CERTIFICATES, name is None, chain, not chain and Secret not in cluster.unseen)


async def _mounted_secret(cluster: Cluster, namespace: str, workloads: Iterable[Workload]) -> str | None:
    for each in workloads:
        if isinstance(each, Deployment) and component_of(each) == CONTROLLER:
            found = await cluster.find(MountingDeployment, each.name, namespace)
            return found.spec.template.spec.secret_in(CERTIFICATE_FOLDER.variables[0]) if found else None
    return None


async def warnings(cluster: Cluster, fields: str = "") -> tuple[Event, ...] | None:
    """Warnings of our daemons, the last one first; ``fields`` selects some. None where they may not be read."""
    events: list[Event] = []
    for component in COMPONENTS:
        selector = ",".join(filter(None, ("type=Warning", f"source={component}", fields)))
        found = await cluster.list(Event, fields=selector)
        if found is None:
            return None
        events += found
    return tuple(sorted(events, key=lambda each: each.lastTimestamp or "", reverse=True))


def _known(objects: Iterable[Object] | None) -> tuple[Any, ...] | None:
    return None if objects is None else tuple(objects)
