"""SpiderIPQuotas: counts what each Namespace holds, and marks the quotas of which nothing is left.

Agents refuse new addresses in the Namespaces of marked quotas. Pools of applications are cut by what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from spiderpool.api import event_reasons
from spiderpool.api.ip import SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.ipquota import EXHAUSTED_LABEL, IPQuotaStatus, SpiderIPQuota
from spiderpool.core.ipam.quota import application_namespace, is_exhausted, remaining_addresses, used_addresses
from spiderpool.kube import conditions
from spiderpool.kube.client import Client, NotFound
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

DEBOUNCE = 0.5
"""Seconds from a change in a Namespace until its addresses are counted."""

log = logger("quotas")


class NamespaceQuotas:
    """What Namespaces hold, and how much more they may, by the caches."""

    def __init__(self, quotas: Informer[SpiderIPQuota], ips: Informer[SpiderIP], pools: Informer[SpiderIPPool]) -> None:
        self.quotas = quotas
        self.ips = ips
        self.pools = pools
        self.by_namespace = quotas.index(_namespaces)
        self._pools_of_records = ips.index(_namespaces_of_holder, lambda ip: ip.spec.pool)
        self._application_pools = pools.index(_namespaces_of_application)

    def used(self, namespace: str) -> int:
        """Addresses that a Namespace holds."""
        return used_addresses(self._pools_of_records.get(namespace), self._application_pools.get(namespace))

    def remaining(self, namespace: str) -> int | None:
        """Addresses that a Namespace may hold beside those that it holds; None without a quota."""
        limits = [quota.spec.addresses for quota in self.by_namespace.get(namespace)]
        return remaining_addresses(limits, self.used(namespace))

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Call ``changed(namespace)`` whenever a quota, or what counts for it, may have changed."""

        def on_ip(old: SpiderIP | None, new: SpiderIP | None) -> None:
            if old is None or new is None or (old.spec.namespace, old.spec.pool) != (new.spec.namespace, new.spec.pool):
                self._notify(changed, *(_namespaces_of_holder(ip) for ip in (old, new) if ip is not None))

        def on_pool(old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
            if old is None or new is None or old.spec != new.spec:
                self._notify(changed, *(_namespaces_of_application(pool) for pool in (old, new) if pool is not None))

        def on_quota(old: SpiderIPQuota | None, new: SpiderIPQuota | None) -> None:
            for quota in (old, new):
                if quota is not None:
                    changed(quota.metadata.namespace or "")

        self.quotas.subscribe(on_quota)
        self.ips.subscribe(on_ip)
        self.pools.subscribe(on_pool)

    def _notify(self, changed: Callable[[str], None], *namespaces: list[str]) -> None:
        for namespace in {each for found in namespaces for each in found}:
            if namespace in self.by_namespace:
                changed(namespace)


class QuotaReconciler:
    """Writes status and mark of every SpiderIPQuota."""

    def __init__(self, client: Client, namespaces: NamespaceQuotas, recorder: Recorder) -> None:
        self._client = client
        self._namespaces = namespaces
        self._recorder = recorder
        self._queue = WorkQueue(self._reconcile, "quotas")  # of Namespaces
        namespaces.subscribe(lambda namespace: self._queue.add(namespace, DEBOUNCE))

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run()

    async def _reconcile(self, namespace: str) -> None:
        used = self._namespaces.used(namespace)
        for quota in self._namespaces.by_namespace.get(namespace):
            try:
                await self._write(await self._mark(quota, used), used)
            except NotFound:  # it is gone
                continue

    async def _mark(self, quota: SpiderIPQuota, used: int) -> SpiderIPQuota:
        """Set or remove the label by which agents know it, first: the status is for people."""
        exhausted = is_exhausted(quota.spec.addresses, used)
        if exhausted == quota.exhausted:
            return quota
        body = {"metadata": {"labels": {EXHAUSTED_LABEL: "true" if exhausted else None}}}
        marked = await self._client.patch(SpiderIPQuota, quota.name, body, quota.metadata.namespace)
        self._namespaces.quotas.note(marked)
        log.info("quota", quota=quota.key, exhausted=exhausted, used=used, limit=quota.spec.addresses)
        if exhausted:
            text = f"the Namespace holds {used} of {quota.spec.addresses} addresses: its pods get no more"
            self._recorder.event(quota, event_reasons.QUOTA_EXHAUSTED, text)
        return marked

    async def _write(self, quota: SpiderIPQuota, used: int) -> None:
        former = quota.status or IPQuotaStatus()
        found = conditions.ready("pods of the Namespace get no addresses beyond it")
        dated = conditions.dated([found], quota, former.conditions, datetime.now(UTC))
        if (former.used, former.conditions) == (used, dated):
            return
        body = {"status": {"used": used, "conditions": msgspec.to_builtins(dated)}}
        written = await self._client.patch(SpiderIPQuota, quota.name, body, quota.metadata.namespace, sub="status")
        self._namespaces.quotas.note(written)


def _namespaces(quota: SpiderIPQuota) -> list[str]:
    return [quota.metadata.namespace or ""]


def _namespaces_of_holder(ip: SpiderIP) -> list[str]:
    return [ip.spec.namespace]


def _namespaces_of_application(pool: SpiderIPPool) -> list[str]:
    namespace = application_namespace(pool)
    return [namespace] if namespace else []
