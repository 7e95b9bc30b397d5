"""SpiderLoadBalancerGrants: what applies to a Namespace, and their condition, which says that we go by them."""

from __future__ import annotations

from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec, SpiderLoadBalancerGrant
from spiderpool.errors import BadConfig
from spiderpool.kube.client import Client
from spiderpool.kube.conditions import not_ready, ready, write
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue


class NotGranted(BadConfig):
    """A Service asks for what no administrator has granted to its Namespace."""


class GrantReconciler:
    """Answers what is granted to a Namespace, and writes the condition of every grant."""

    def __init__(self, client: Client, grants: Informer[SpiderLoadBalancerGrant]) -> None:
        self._client = client
        self._grants = grants
        self._queue = WorkQueue(self._reconcile, "loadbalancergrants")
        grants.subscribe(self._on_change)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run()

    def of(self, namespace: str) -> list[LoadBalancerGrantSpec]:
        """Returns what applies to the Services of a Namespace."""
        return [each.spec for each in self._grants.items() if not each.terminating and each.spec.applies_to(namespace)]

    def _on_change(self, _: SpiderLoadBalancerGrant | None, new: SpiderLoadBalancerGrant | None) -> None:
        if new is not None:
            self._queue.add(new.name)

    async def _reconcile(self, name: str) -> None:
        grant = self._grants.get(name)
        if grant is None:
            return
        condition = ready(f"Services of {', '.join(grant.spec.namespaces)} may name what it lists")
        if grant.terminating:
            condition = not_ready("Terminating", "it is being deleted, and grants nothing any more")
        former = grant.status.conditions if grant.status else None
        await write(self._client, self._grants, grant, former, condition)
