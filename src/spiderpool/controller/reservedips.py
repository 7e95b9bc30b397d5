"""SpiderReservedIPs: writes whether their addresses are reserved. It reserves nothing: agents read them themselves."""

from __future__ import annotations

from spiderpool.api.meta import Condition
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.core.addresses import AddressSet
from spiderpool.kube.client import Client
from spiderpool.kube.conditions import not_ready, ready, write
from spiderpool.kube.informer import Informer
from spiderpool.kube.workqueue import WorkQueue


def readiness(reserved: SpiderReservedIP) -> Condition:
    """Whether no pod gets the addresses of an object any more."""
    ips = reserved.spec.ips or []
    if reserved.terminating:
        return not_ready("Terminating", "it is being deleted, its addresses are not reserved any more")
    try:
        addresses = AddressSet.parse(ips, reserved.spec.ipVersion or (6 if ips and ":" in ips[0] else 4))
    except ValueError as error:  # written past the admission webhook
        return not_ready("Malformed", str(error))
    return ready(f"no new pod gets its {addresses.size} addresses")


class ReservedIPReconciler:
    """Writes the condition of every SpiderReservedIP."""

    def __init__(self, client: Client, reserved: Informer[SpiderReservedIP]) -> None:
        self._client = client
        self._reserved = reserved
        self._queue = WorkQueue(self._reconcile, "reservedips")
        reserved.subscribe(self._on_change)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run()

    def _on_change(self, _: SpiderReservedIP | None, new: SpiderReservedIP | None) -> None:
        if new is not None:
            self._queue.add(new.name)

    async def _reconcile(self, name: str) -> None:
        reserved = self._reserved.get(name)
        if reserved is not None:
            former = reserved.status.conditions if reserved.status else None
            await write(self._client, self._reserved, reserved, former, readiness(reserved))
