"""What needs attention in an installation: a sentence for each, with the object that it is about."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration
from spiderpool.api.applications import DaemonSet, Deployment, Workload
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.core_v1 import Node, Secret
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import Condition, Object
from spiderpool.api.spidernode import SpiderNode
from spiderpool.cli.installation import CONTROLLER, LEASES, Installation
from spiderpool.cli.printing import object_reference, seconds_since
from spiderpool.core.ipam.evidence import why_stopped
from spiderpool.kube.conditions import READY

LATE_RENEWALS = 3
"""Durations of a Lease after which a leader that has not renewed it is said to be gone: clocks may differ."""
SOON_DAYS = 14
"""Days before the end of a certificate from which that needs attention: it is renewed long before."""
INTENDED = frozenset({"Disabled", "Terminating", "Waiting"})
"""Reasons of objects that are not ready because somebody wants it so, or that will be in a moment."""
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that needs attention, and the object that it is about."""

    object: str
    text: str


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


def absence_problems(found: Installation) -> Iterator[Problem]:
    """Nothing is installed, also as far as an account sees that may not read Leases."""
    kind = SpiderIPPool.KIND
    if not found.served:
        yield Problem(
            f"customresourcedefinition.apiextensions.k8s.io/{kind.plural}.{kind.group}",
            f"Spiderpool is not installed: the cluster has no kinds of {kind.api_version}; install it, or name another"
            " cluster by --context",
        )
    elif found.leases is None and found.workloads == ():
        yield Problem(
            object_reference(Deployment, CONTROLLER),
            f"Namespace {found.namespace} has no daemon of Spiderpool; if it is in another one, name it by -n",
        )


def leader_problems(found: Installation, now: datetime) -> Iterator[Problem]:
    """No replica of the controller leads: nobody makes pools, counts or collects."""
    if found.leases is None:
        return
    name, lease = LEASES[CONTROLLER], lease_of(found, CONTROLLER)
    subject = object_reference(Lease, name)
    if lease is None:
        remedy = "if Spiderpool is installed in another one, name it by -n"
        yield Problem(
            subject, f"no {CONTROLLER} has ever led: Namespace {found.namespace} has no Lease {name}; {remedy}"
        )
        return
    late = seconds_since(lease.spec.renewTime, now)
    longest = LATE_RENEWALS * (lease.spec.leaseDurationSeconds or 15)
    if not lease.spec.holderIdentity:
        yield Problem(subject, f"no {CONTROLLER} leads: Lease {name} has no holder; look at its pods and their logs")
    elif late is not None and late > longest:
        holder = f"{lease.spec.holderIdentity}, which has led, has not renewed Lease {name} for {int(late)} s"
        yield Problem(subject, f"no {CONTROLLER} leads: {holder}; look at its pods and their logs")


def replica_problems(workloads: Iterable[Workload]) -> Iterator[Problem]:
    """Daemons of which some pods are not ready."""
    for each in workloads:
        ready, desired = ready_pods(each), desired_pods(each)
        if ready < desired:
            text = f"{desired - ready} of {desired} pods of {each.name} are not ready; look at their logs"
            yield Problem(object_reference(type(each), each.name), text)


def silent_nodes(found: Installation) -> Iterator[Problem]:
    """Nodes of which nobody knows what their sandboxes hold now."""
    accounts = {each.name: each for each in found.accounts or ()}
    for node in found.nodes or () if found.accounts is not None else ():
        if reason := _why_silent(node, accounts.get(node.name)):
            yield Problem(object_reference(Node, node.name), f"node {node.name}: {reason}{_state(node, accounts)}")


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


def certificate_problems(found: Installation, chain: Sequence[x509.Certificate], now: datetime) -> Iterator[Problem]:
    """Webhooks that the API server cannot call, or soon will not be able to."""
    subject = object_reference(MutatingWebhookConfiguration, CONTROLLER)
    if found.webhooks is not None and not any(each.webhooks for each in found.webhooks):
        yield Problem(subject, "no webhook is registered: manifests are not checked; look at the leader's log")
    place = f"Secret {found.namespace}/{found.certificate.secret}"
    if not chain:
        if found.certificate.is_missing and not found.certificate.is_own:
            text = f"{place} has no tls.crt, the certificate of the webhooks: whoever provides it has to make it"
            yield Problem(object_reference(Secret, found.certificate.secret), text)
        return
    remedy = "look at the leader's log" if found.certificate.is_own else f"whoever provides {place} has to renew it"
    days = (chain[0].not_valid_after_utc - now).total_seconds() / SECONDS_PER_DAY
    if days < SOON_DAYS:
        end = "has ended" if days < 0 else f"ends in {days:.0f} days"
        yield Problem(subject, f"the certificate of the webhooks {end}, and was not renewed; {remedy}")
    for each in found.webhooks or ():
        trusted = [one for hook in each.webhooks or () for one in _authorities(hook)]
        if each.webhooks and not _leads_to(chain, trusted):
            text = (
                f"{each.KIND.name} {each.name} does not trust the certificate of the webhooks, and replicas that begin "
                "with it are not ready for 150 s at most; look at the leader's log"
            )
            yield Problem(object_reference(type(each), each.name), text)


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


def object_problems(objects: Iterable[Object]) -> Iterator[Problem]:
    """Objects that are not in force, by their condition Ready."""
    for each in objects:
        condition = _ready_condition(each)
        if condition and condition.status == "False" and condition.reason not in INTENDED:
            text = f"{each.KIND.name} {each.key} is not in force: {condition.message}"
            yield Problem(object_reference(type(each), each.name), text)


def _ready_condition(obj: Any) -> Condition | None:
    conditions: Iterable[Condition] = (obj.status.conditions if obj.status else None) or ()
    return next((each for each in conditions if each.type == READY), None)
