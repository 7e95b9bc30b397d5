"""What to change so that a pod gets an address, by the rules that dropped its pools."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from spiderpool.core.ipam.dry_run import DryGrant, RefusalCause
from spiderpool.core.ipam.selection import ApplicationPool, Verdict

REMEDIES = {
    "exhausted": "add addresses to spec.ips of pool {pool} (and register them on the ENI), or delete pods that use it",
    "disable": "set spec.disable of pool {pool} to false",
    "terminating": "name another pool than {pool}, or make it anew once it is gone",
    "eni": "delete pool {pool} if its server is gone; the node's own pools come with the report of its agent",
    "family": "name pools of both families in the right place: {pool} is of the other one",
    "node": "add the node to spec.nodeName of pool {pool}, or correct the labels that its nodeAffinity selects",
    "namespace": "add the pod's Namespace to spec.namespaceName of pool {pool}, or correct its namespaceAffinity",
    "pod": "give the pod the labels that spec.podAffinity of pool {pool} selects",
    "network": "add the pod's network to spec.multusName of pool {pool}, or let the pod use that network",
    "application": "name another pool than {pool}, which is that of one application",
    "exists": "make pool {pool} for this node, or correct its name where it is written",
    "address": "ask for another address than that which pool {pool} cannot give, or for none",
    "ranges": "correct spec.ips and spec.excludeIPs of pool {pool}",
}
"""By the rule of a verdict."""
NO_DEFAULT = "set spec.default of a pool to true, or name pools in the network's ipam or the pod's annotation"
QUOTA = "delete pods of the Namespace, or have spec.addresses of its SpiderIPQuota raised"
SUBNET = "see whether spiderpool-controller leads, and has addresses for the pool: kubectl describe spidersubnet"


def remedies(outcomes: Iterable[DryGrant], pools: Collection[str]) -> Iterator[str]:
    """Sentences, each once; the refusals that name their own remedy need none. ``pools`` are all of the cluster."""
    yield from dict.fromkeys(text for each in outcomes if each.refusal for text in _of(each, pools))


def _of(outcome: DryGrant, pools: Collection[str]) -> Iterator[str]:
    """What would serve one request: any one of them is enough."""
    match outcome.cause:
        case RefusalCause.QUOTA:
            yield QUOTA
        case RefusalCause.POOLS:
            last = {verdict.subject: verdict for verdict in outcome.trace}
            full_first = sorted(last.values(), key=lambda verdict: verdict.rule != "exhausted")
            yield from (_remedy(outcome, verdict, pools) for verdict in full_first)
            if not last:
                yield NO_DEFAULT


def _remedy(outcome: DryGrant, verdict: Verdict, pools: Collection[str]) -> str:
    rule = verdict.rule
    if rule == "exists" and isinstance(outcome.request.candidates, ApplicationPool):
        return SUBNET
    if rule == "exists" and verdict.subject in pools:
        rule = "node"  # an agent does not see the pools of other nodes
    return REMEDIES[rule].format(pool=verdict.subject)
