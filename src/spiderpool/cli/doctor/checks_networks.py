"""Networks and pools that name each other, their MTU, and what agents report of the network of their nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Namespace, Node
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Object
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.cli.attention import is_unready
from spiderpool.cli.doctor.look import ClusterSnapshot, WebhookService
from spiderpool.cli.finding import Finding
from spiderpool.cli.printing import age, object_reference, seconds_since
from spiderpool.core.admission.warnings import ObjectName, names_in
from spiderpool.core.network.nads import attachment
from spiderpool.errors import SpiderpoolError

NODE_FAULTS = {
    event_reasons.NODE_NETWORK_FAULT.name: "",
    event_reasons.POD_ADDRESS_ON_NODE.name: "keep the server's own programs from addresses of pods",
    event_reasons.NODE_ROUTES_RESTORED.name: "keep the server's own programs from rules and routes of pods",
}
"""Reason of an agent's Event about its Node → the remedy, where its sentence names none."""
FRESH = 3600.0
"""Seconds after which a fault that an agent has not told again is not told any more."""


def network_findings(snapshot: ClusterSnapshot, now: datetime) -> Iterator[Finding]:
    """All of the checks of this file; those that need what may not be read are left out."""
    for service in snapshot.services:
        yield from _unreachable(service)
    yield from _node_faults(snapshot, now)
    yield from _empty_names(snapshot)
    yield from _attachments(snapshot)
    yield from _mtus(snapshot)


def _unreachable(service: WebhookService) -> Iterator[Finding]:
    """A Service of webhooks without a replica behind it."""
    endpoints = [each for one in service.slices for each in one.endpoints or ()]
    if service.exists and any(each.ready for each in endpoints):
        return
    where = f"Service {service.namespace}/{service.name}, by which the API server calls the webhooks,"
    evidence = f"endpoints in its EndpointSlices: {len(endpoints)}, none of them ready"
    what = "has no ready endpoint" if service.exists else "does not exist"
    yield Finding("webhook-unreachable", f"service/{service.name}", f"{where} {what}", evidence=(evidence,))


def _node_faults(snapshot: ClusterSnapshot, now: datetime) -> Iterator[Finding]:
    """What agents have said of their nodes in the last hour: lost rules and routes, kernel settings, proxies."""
    reported: set[tuple[str, str]] = set()
    for event in snapshot.installation.events or ():
        name = event.involvedObject.name or ""
        late = seconds_since(event.lastTimestamp, now)
        is_fault = event.involvedObject.kind == Node.KIND.name and event.reason in NODE_FAULTS
        if is_fault and late is not None and late < FRESH and (name, event.message) not in reported:
            reported.add((name, event.message))
            times = f"{event.count} times, last" if (event.count or 1) > 1 else "it was told"
            evidence = f"Event {event.reason} of node {name}: {times} {age(event.lastTimestamp, now)} ago"
            what = f"node {name}: {event.message}"
            hint = NODE_FAULTS[event.reason]
            yield Finding("node-network-fault", object_reference(Node, name), what, hint, (evidence,), name)


def _empty_names(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Pools for nodes, Namespaces or networks of which none exists, whose condition does not say so yet."""
    known = _names(snapshot)
    for pool in snapshot.installation.pools or ():
        by_kind: dict[type[Object], list[ObjectName]] = {}
        for each in names_in(pool, snapshot.installation.namespace):
            by_kind.setdefault(each.kind, []).append(each)
        for kind, named in by_kind.items():
            keys = {f"{each.namespace}/{each.name}" if each.namespace else each.name for each in named}
            if kind in known and keys.isdisjoint(known[kind]) and not is_unready(pool):
                what = f"pool {pool.name} is for {kind.KIND.name} {', '.join(sorted(keys))} alone, and there is none"
                reference = object_reference(SpiderIPPool, pool.name)
                yield Finding("pool-names-nothing", reference, what, evidence=tuple(map(str, named)))


def _names(snapshot: ClusterSnapshot) -> Mapping[type[Object], set[str]]:
    """The names of all objects that pools may name, by kind; without kinds that may not be read."""
    lists: dict[type[Object], Iterable[Object] | None] = {
        Node: snapshot.installation.nodes,
        Namespace: snapshot.namespaces,
        NetworkAttachmentDefinition: snapshot.networks,
    }
    return {kind: {each.key for each in found} for kind, found in lists.items() if found is not None}


def _attachments(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """NetworkAttachmentDefinitions that are missing, or are not what their SpiderMultusConfig says."""
    if snapshot.networks is None:
        return
    known = {each.key: each for each in snapshot.networks}
    for config in snapshot.installation.others:
        if isinstance(config, SpiderMultusConfig) and not is_unready(config) and not config.terminating:
            yield from _attachment(config, known)


def _attachment(config: SpiderMultusConfig, known: Mapping[str, NetworkAttachmentDefinition]) -> Iterator[Finding]:
    try:
        desired = attachment(config)
    except SpiderpoolError as error:
        reference = object_reference(SpiderMultusConfig, config.name)
        yield Finding("not-in-force", reference, f"SpiderMultusConfig {config.key} is wrong: {error.message}")
        return
    stored = known.get(desired.key)
    subject = object_reference(NetworkAttachmentDefinition, desired.name)
    if stored is None:
        what = f"NetworkAttachmentDefinition {desired.key} of SpiderMultusConfig {config.key} does not exist"
        yield Finding("network-missing", subject, what)
    elif (stored.spec.config if stored.spec else None) != (desired.spec.config if desired.spec else None):
        what = f"NetworkAttachmentDefinition {desired.key} is not what SpiderMultusConfig {config.key} says"
        yield Finding("network-differs", subject, what)


def _mtus(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Networks whose pods have another MTU on some nodes, by the accounts of the nodes."""
    found: dict[str, dict[int, set[str]]] = {}
    for account in snapshot.installation.accounts or ():
        for sandbox in account.sandboxes:
            for each in sandbox.networks or ():
                if each.mtu and each.name:
                    found.setdefault(each.name, {}).setdefault(each.mtu, set()).add(account.name)
    for network, by_mtu in found.items():
        if len(by_mtu) > 1:
            parts = [f"{mtu} on {', '.join(sorted(nodes)[:5])}" for mtu, nodes in sorted(by_mtu.items())]
            what = f"pods of network {network} have different MTUs: {'; '.join(parts)}"
            name = network.rpartition("/")[2]
            yield Finding("mtu-differs", object_reference(NetworkAttachmentDefinition, name), what)
