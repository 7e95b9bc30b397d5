"""What the kubelets of Nodes without one would do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from spiderpool.api.coordination_v1 import Lease
from spiderpool.kube.client import Client

INTERVAL = 10.0
"""Seconds, as a kubelet's."""


async def keep_ready(client: Client, *nodes: str) -> None:
    """Renew the Leases of Nodes until cancelled: else Kubernetes finds them lost after 30 s, which a test may take."""
    while True:
        for name in nodes:
            now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}
            await client.apply(Lease, {"metadata": {"name": name}, "spec": spec}, name, "kube-node-lease")
        await asyncio.sleep(INTERVAL)
