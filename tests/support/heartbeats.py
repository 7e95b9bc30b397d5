"""What the kubelets of Nodes without one would do."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

from spiderpool.api.coordination_v1 import Lease
from spiderpool.kube.client import Client, NotFound

NAMESPACE = "kube-node-lease"
INTERVAL = 10.0
"""Seconds, as a kubelet's."""


async def keep_ready(client: Client, *nodes: str) -> None:
    """Renew the Leases of Nodes until cancelled: else Kubernetes finds them lost after 30 s, which a test may take."""
    try:
        while True:
            for name in nodes:
                now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
                spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}
                await client.apply(Lease, {"metadata": {"name": name}, "spec": spec}, name, NAMESPACE)
            await asyncio.sleep(INTERVAL)
    finally:
        for name in nodes:
            with suppress(NotFound):
                await client.delete(Lease, name, NAMESPACE)
