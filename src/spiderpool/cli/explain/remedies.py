"""What to change so that a pod gets an address, by the rules that dropped its pools."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from spiderpool.api.ippool import SpiderIPPool
from spiderpool.core.ipam.dry_run import DryGrant, RefusalCause
from spiderpool.core.ipam.selection import ApplicationPool, Verdict, is_named, version_of

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
OTHER_SERVER = "name a pool of the pod's own node: {pool} is for an ENI of node {node}, or let the pod run on that node"
SUBNET = "see whether spiderpool-controller leads, and has addresses for the pool: kubectl describe spidersubnet"


def remedies(outcomes: Iterable[DryGrant], pools: Collection[SpiderIPPool]) -> Iterator[str]:
    """Sentences, each once; the refusals that name their own remedy need none. ``pools`` are all of the cluster."""
    yield from dict.fromkeys(text for each in outcomes if each.refusal for text in _of(each, pools))


def _of(outcome: DryGrant, pools: Collection[SpiderIPPool]) -> Iterator[str]:
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


def _remedy(outcome: DryGrant, verdict: Verdict, pools: Collection[SpiderIPPool]) -> str:
    if verdict.rule != "exists":
        return REMEDIES[verdict.rule].format(pool=verdict.subject)
    if isinstance(outcome.request.candidates, ApplicationPool):
        return SUBNET
    unseen = [pool for pool in pools if is_named(verdict.subject, pool.name)]
    if not unseen:
        return REMEDIES["exists"].format(pool=verdict.subject)
    version = outcome.request.version
    return _remedy_of_unseen(min(unseen, key=lambda pool: (version_of(pool) != version, pool.name)), version)


def _remedy_of_unseen(pool: SpiderIPPool, version: int) -> str:
    """What to change where the pool that is named is for other nodes, so that the pod's agent does not know it."""
    if version_of(pool) != version:
        return REMEDIES["family"].format(pool=pool.name)
    if pool.eni:
        return OTHER_SERVER.format(pool=pool.name, node=", ".join(pool.spec.nodeName or ()))
    return REMEDIES["node"].format(pool=pool.name)
