"""Tells who writes a NetworkPolicy for pods with our addresses that we do not enforce it: by an Event and a metric."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import SpiderIP
from spiderpool.api.meta import LabelSelector
from spiderpool.api.networking_v1 import NetworkPolicy
from spiderpool.core.labels import matches
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.turns import Turn
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import UNENFORCED_POLICIES, logger

DEBOUNCE = 5.0
"""Seconds from a change in a Namespace until its policies are looked at."""
MAX_POLICIES = 200
"""Policies of a Namespace that are compared with its pods at a time."""
MAX_TERMS = 100
"""Labels and values of a selector that is compared with pods; a longer one counts as one that selects some."""

MESSAGE = (
    "Spiderpool enforces no NetworkPolicy: this one selects pods with addresses of Spiderpool, and does nothing for"
    " these, unless another plugin in the chain of their network enforces it"
)

log = logger("network-policies")


class UnenforcedPolicyReporter:
    """Reports each version of a NetworkPolicy that selects pods with addresses of ours, once."""

    def __init__(self, client: Client, ips: Informer[SpiderIP], pods: Informer[Pod], recorder: Recorder) -> None:
        self._policies = Informer(client, NetworkPolicy)
        self._pods = pods
        self._recorder = recorder
        self._queue = WorkQueue(self._reconcile, "network-policies")  # of Namespaces
        self._reported: dict[str, int | None] = {}  # UID of a policy → generation that was reported
        self._by_namespace = self._policies.index(_namespaces)
        self._pod_names = ips.index(_namespaces_of_holder, lambda ip: ip.spec.pod)
        self._policies.subscribe(self._on_policy)
        ips.subscribe(self._on_ip)
        pods.subscribe(self._on_pod)

    async def run(self) -> None:
        """Watch and report until cancelled. The leader does not wait for the list: nothing else depends on it."""
        with UNENFORCED_POLICIES.computed_by(lambda: {(): float(len(self._reported))}):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._policies.run())
                group.create_task(self._queue.run())

    def _on_policy(self, old: NetworkPolicy | None, new: NetworkPolicy | None) -> None:
        if new is not None:
            self._queue.add(new.metadata.namespace or "", DEBOUNCE)
        if old is not None and (new is None or not self._is_reported(new)):
            self._reported.pop(old.metadata.uid or "", None)

    def _on_ip(self, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if new is not None and (old is None or old.spec.podUID != new.spec.podUID):
            self._touch(new.spec.namespace)

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if new is not None and (old is None or old.metadata.labels != new.metadata.labels):
            self._touch(new.metadata.namespace or "")

    def _touch(self, namespace: str) -> None:
        if namespace in self._by_namespace:
            self._queue.add(namespace, DEBOUNCE)

    async def _reconcile(self, namespace: str) -> None:
        """Report the policies of a Namespace that select a pod of ours and have not been reported."""
        open_policies = (each for each in self._by_namespace.get(namespace) if not self._is_reported(each))
        policies = [*islice(open_policies, MAX_POLICIES)]
        if not policies:
            return
        labels = [pod.metadata.labels or {} for pod in self._pods_of_ours(namespace)]
        for policy in policies:
            if await _selects_any(policy.spec.podSelector, labels):
                self._report(policy)

    def _is_reported(self, policy: NetworkPolicy) -> bool:
        uid = policy.metadata.uid or ""
        return uid in self._reported and self._reported[uid] == policy.metadata.generation

    def _pods_of_ours(self, namespace: str) -> Iterable[Pod]:
        names = dict.fromkeys(self._pod_names.get(namespace))
        found = (self._pods.get(f"{namespace}/{name}") for name in names)
        return (pod for pod in found if pod is not None)

    def _report(self, policy: NetworkPolicy) -> None:
        uid, generation = policy.metadata.uid or "", policy.metadata.generation
        self._reported[uid] = generation
        # The next leader finds the Event by its name, and writes none.
        self._recorder.event(policy, event_reasons.NOT_ENFORCED, MESSAGE, name=f"networkpolicy-{uid}-{generation}")
        log.warning("policy not enforced", policy=policy.key)


async def _selects_any(selector: LabelSelector, pods: Sequence[Mapping[str, str]]) -> bool:
    if _terms(selector) > MAX_TERMS:
        return bool(pods)
    turn = Turn()
    for labels in pods:
        if matches(selector, labels):
            return True
        if turn.is_over():
            await turn.next()
    return False


def _terms(selector: LabelSelector) -> int:
    expressions = selector.matchExpressions or ()
    return len(selector.matchLabels or ()) + sum(1 + len(each.values or ()) for each in expressions)


def _namespaces(policy: NetworkPolicy) -> list[str]:
    return [policy.metadata.namespace or ""]


def _namespaces_of_holder(ip: SpiderIP) -> list[str]:
    return [] if ip.spec.releasedAt else [ip.spec.namespace]
