"""What is wrong with the daemons, their nodes, their certificates, and the conditions of our objects."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration
from spiderpool.api.applications import DaemonSet, Deployment, Workload
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.core_v1 import Node, Secret
from spiderpool.api.daemon_pods import DaemonPod
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Condition, Object
from spiderpool.api.scheduling import ScheduledDaemonSet
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli.finding import Finding
from spiderpool.cli.installation import AGENT, COMPONENT_LABEL, CONTROLLER, LEASES, Installation, component_of
from spiderpool.cli.printing import object_reference, seconds_since
from spiderpool.core.ipam.eligible_nodes import as_of_daemon_set, why_not_schedulable
from spiderpool.core.ipam.evidence import why_stopped
from spiderpool.kube.conditions import READY

LATE_RENEWALS = 3
"""Durations of a Lease after which a leader that has not renewed it is said to be gone: clocks may differ."""
SOON_DAYS = 14
"""Days before the end of a certificate from which that needs attention: it is renewed long before."""
INTENDED = frozenset({"Disabled", "Terminating", "Waiting"})
"""Reasons of objects that are not ready because somebody wants it so, or that will be in a moment."""
SECONDS_PER_DAY = 86_400
LOOK, LEADER_LOG = "look at its pods and their logs", "look at the leader's log"


def lease_of(found: Installation, component: str) -> Lease | None:
    """The Lease of a daemon's leader; None where there is none, or where none may be read."""
    name = LEASES.get(component)
    at_home = (each for each in found.leases or () if each.metadata.namespace == found.namespace)
    return next((each for each in at_home if each.name == name), None)


def ready_pods(workload: Workload) -> int:
    """Pods of a workload that are ready."""
    status = workload.status
    return (status.numberReady if isinstance(workload, DaemonSet) else status.readyReplicas) or 0


def desired_pods(workload: Workload) -> int:
    """Pods that a workload is to have."""
    if isinstance(workload, DaemonSet):
        return workload.status.desiredNumberScheduled or 0
    return 1 if workload.spec.replicas is None else workload.spec.replicas


def installation_findings(
    found: Installation, now: datetime, daemon_pods: Iterable[DaemonPod] = ()
) -> Iterator[Finding]:
    """All that is wrong with what is read of an installation."""
    yield from absence_findings(found)
    yield from leader_findings(found, now)
    known_pods = list(daemon_pods)
    yield from replica_findings(found.workloads or (), known_pods)
    yield from silent_nodes(found, known_pods)
    yield from certificate_findings(found, read_chain(found.certificate.chain), now)
    yield from object_findings((*(found.pools or ()), *found.others))


def absence_findings(found: Installation) -> Iterator[Finding]:
    """Nothing is installed, also as far as an account sees that may not read Leases."""
    kind = SpiderIPPool.KIND
    if not found.served:
        yield Finding(
            "not-installed",
            f"customresourcedefinition.apiextensions.k8s.io/{kind.plural}.{kind.group}",
            f"Spiderpool is not installed: the cluster has no kinds of {kind.api_version}",
            "install it, or name another cluster by --context",
        )
    elif found.leases is None and found.workloads == ():
        yield Finding(
            "not-installed",
            object_reference(Deployment, CONTROLLER),
            f"Namespace {found.namespace} has no daemon of Spiderpool",
            "if it is in another one, name it by -n",
        )


def leader_findings(found: Installation, now: datetime) -> Iterator[Finding]:
    """No replica of the controller leads: nobody makes pools, counts or collects."""
    if found.leases is None:
        return
    name, lease = LEASES[CONTROLLER], lease_of(found, CONTROLLER)
    subject = object_reference(Lease, name)
    if lease is None:
        remedy = "if Spiderpool is installed in another one, name it by -n"
        what = f"no {CONTROLLER} has ever led: Namespace {found.namespace} has no Lease {name}"
        yield Finding("no-leader", subject, what, remedy)
        return
    late = seconds_since(lease.spec.renewTime, now)
    longest = LATE_RENEWALS * (lease.spec.leaseDurationSeconds or 15)
    if not lease.spec.holderIdentity:
        yield Finding("no-leader", subject, f"no {CONTROLLER} leads: Lease {name} has no holder", LOOK)
    elif late is not None and late > longest:
        holder = f"{lease.spec.holderIdentity}, which has led, has not renewed Lease {name} for {int(late)} s"
        yield Finding("no-leader", subject, f"no {CONTROLLER} leads: {holder}", LOOK)


def replica_findings(workloads: Iterable[Workload], pods: Iterable[DaemonPod] = ()) -> Iterator[Finding]:
    """Daemons of which some pods are not ready, and why, as far as pods were read."""
    known = list(pods)
    for each in workloads:
        ready, desired = ready_pods(each), desired_pods(each)
        if ready < desired:
            text = f"{desired - ready} of {desired} pods of {each.name} are not ready"
            evidence = tuple(_pod_states(component_of(each), known))
            subject = object_reference(type(each), each.name)
            yield Finding("daemon-not-ready", subject, text, "look at their logs", evidence)


def _pod_states(component: str | None, pods: Iterable[DaemonPod]) -> Iterator[str]:
    """Why some pods of a daemon are not ready."""
    for each in pods:
        if (each.metadata.labels or {}).get(COMPONENT_LABEL) == component and not each.ready:
            yield f"pod {each.key} on node {each.spec.nodeName or '(none yet)'}: {each.state}"


def silent_nodes(found: Installation, pods: Iterable[DaemonPod] = ()) -> Iterator[Finding]:
    """Nodes of which nobody knows what their sandboxes hold now; none that are to have no agent."""
    accounts = {each.name: each for each in found.accounts or ()}
    for node in agent_nodes(found, pods) if found.accounts is not None else ():
        if reason := _why_silent(node, accounts.get(node.name)):
            text = f"node {node.name}: {reason}{_state(node, accounts)}"
            yield Finding("node-silent", object_reference(Node, node.name), text, node=node.name)


def agent_nodes(found: Installation, pods: Iterable[DaemonPod] = ()) -> Iterator[Node]:
    """Nodes that have an agent, have had one, or are to have one."""
    known = {each.name for each in found.accounts or ()}
    known |= {each.spec.nodeName or "" for each in pods if (each.metadata.labels or {}).get(COMPONENT_LABEL) == AGENT}
    return (each for each in found.nodes or () if each.name in known or _is_for_agents(each, found))


def _is_for_agents(node: Node, found: Installation) -> bool:
    """Whether the agents' DaemonSet selects a node; also where it may not be read."""
    sets = [each for each in found.workloads or () if isinstance(each, ScheduledDaemonSet)]
    specs = [as_of_daemon_set(each.spec.template.spec) for each in sets if component_of(each) == AGENT]
    return not specs or any(why_not_schedulable(each, node) is None for each in specs)


def _why_silent(node: Node, account: SpiderNode | None) -> str | None:
    """Why nobody knows what the sandboxes of a node hold now; None when its agent has told."""
    if account is None or account.status is None:
        return "its agent has not told yet what its pods hold"
    boot = node.status.nodeInfo.bootID
    if boot and account.status.bootID and boot != account.status.bootID:
        return "its agent has told nothing since the node has booted"
    if not account.answered:
        return f"its agent has not answered the last question; its last account is of {account.status.observedAt}"
    return None


def why_past(node: Node | None, account: SpiderNode) -> str | None:
    """Why the sandboxes of an account do not run any more; None when they may, as on a node that may not be read."""
    if node is None:
        return None
    boot = account.status.bootID if account.status else None
    if boot and node.status.nodeInfo.bootID and boot != node.status.nodeInfo.bootID:
        return f"node {node.name} has booted since its agent has told what its pods hold"
    return why_stopped(node, account)


def present_accounts(accounts: Iterable[SpiderNode], nodes: Iterable[Node]) -> Iterator[SpiderNode]:
    """The accounts of nodes whose sandboxes may run: others say what was in use before the node stopped or booted."""
    known = {each.name: each for each in nodes}
    return (each for each in accounts if why_past(known.get(each.name), each) is None)


def _state(node: Node, accounts: dict[str, SpiderNode]) -> str:
    if reason := why_stopped(node, accounts.get(node.name)):
        return f"; {reason}"
    return "" if node.ready else "; the Node is not ready"


def read_chain(text: bytes | None) -> list[x509.Certificate]:
    """The certificates of a PEM text, that of the server first; none where it is no such text."""
    try:
        return x509.load_pem_x509_certificates(text) if text else []
    except ValueError:
        return []


def certificate_findings(found: Installation, chain: Sequence[x509.Certificate], now: datetime) -> Iterator[Finding]:
    """Webhooks that the API server cannot call, or soon will not be able to."""
    subject = object_reference(MutatingWebhookConfiguration, CONTROLLER)
    if found.webhooks is not None and not any(each.webhooks for each in found.webhooks):
        yield Finding("webhook-missing", subject, "no webhook is registered: manifests are not checked", LEADER_LOG)
    place = f"Secret {found.namespace}/{found.certificate.secret}"
    if chain:
        remedy = LEADER_LOG if found.certificate.is_own else f"whoever provides {place} has to renew it"
        yield from _end_findings(subject, chain[0], remedy, now)
        yield from _trust_findings(found, chain)
    elif found.certificate.is_missing and not found.certificate.is_own:
        what = f"{place} has no tls.crt, the certificate of the webhooks: whoever provides it has to make it"
        yield Finding("certificate-missing", object_reference(Secret, found.certificate.secret), what)


def _end_findings(subject: str, leaf: x509.Certificate, remedy: str, now: datetime) -> Iterator[Finding]:
    days = (leaf.not_valid_after_utc - now).total_seconds() / SECONDS_PER_DAY
    if days < SOON_DAYS:
        end = "has ended" if days < 0 else f"ends in {days:.0f} days"
        check = "certificate-ended" if days < 0 else "certificate-ends"
        evidence = f"it is valid until {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        what = f"the certificate of the webhooks {end}, and was not renewed"
        yield Finding(check, subject, what, remedy, (evidence,))


def _trust_findings(found: Installation, chain: Sequence[x509.Certificate]) -> Iterator[Finding]:
    for each in found.webhooks or ():
        trusted = [one for hook in each.webhooks or () for one in _authorities(hook)]
        if each.webhooks and not _leads_to(chain, trusted):
            what = (
                f"{each.KIND.name} {each.name} does not trust the certificate of the webhooks, and replicas that begin "
                "with it are not ready for 150 s at most"
            )
            names = ", ".join(sorted({one.subject.rfc4514_string() for one in trusted})) or "nobody"
            evidence = f"caBundle trusts {names}, and {chain[-1].issuer.rfc4514_string()} has signed it"
            yield Finding(
                "certificate-untrusted", object_reference(type(each), each.name), what, LEADER_LOG, (evidence,)
            )


def _leads_to(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> bool:
    """Whether one of some authorities has signed a certificate, or one that has signed it in turn."""
    current, *others = chain
    while not any(_has_signed(each, current) for each in authorities):
        issuer = next((each for each in others if _has_signed(each, current)), None)
        if issuer is None:
            return False
        others.remove(issuer)
        current = issuer
    return True


def _authorities(webhook: dict[str, Any]) -> list[x509.Certificate]:
    text = (webhook.get("clientConfig") or {}).get("caBundle") or ""
    try:
        return read_chain(base64.b64decode(text))
    except ValueError:
        return []


def _has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def object_findings(objects: Iterable[Object]) -> Iterator[Finding]:
    """Objects that are not in force, by their condition Ready."""
    for each in objects:
        condition = _ready_condition(each)
        if condition and condition.status == "False" and condition.reason not in INTENDED:
            text = f"{each.KIND.name} {each.key} is not in force: {condition.message}"
            evidence = f"condition Ready is False since {condition.lastTransitionTime or '?'}: {condition.reason}"
            yield Finding("not-in-force", object_reference(type(each), each.name), text, evidence=(evidence,))


def is_unready(obj: Object) -> bool:
    """Whether an object says by its condition Ready that it is not in force."""
    condition = _ready_condition(obj)
    return condition is not None and condition.status == "False"


def _ready_condition(obj: Any) -> Condition | None:
    conditions: Iterable[Condition] = (obj.status.conditions if obj.status else None) or ()
    return next((each for each in conditions if each.type == READY), None)
