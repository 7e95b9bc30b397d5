"""Subnets and records of the tests of subnets and of applications, and how they go."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from spiderpool.api.core_v1 import Pod
from spiderpool.api.ip import IP_NODE_LABEL, IP_POOL_LABEL, IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.subnet import SpiderSubnet, SubnetSpec
from spiderpool.core.addresses import object_name
from spiderpool.kube.client import Client, NotFound

LABEL = "ipam.spidernet.io/"
PATIENCE = 15.0
"""Seconds; the machine may be busy with other tests."""


async def has_account(client: Client, namespace: str) -> bool:
    try:
        await client.get_raw(f"api/v1/namespaces/{namespace}/serviceaccounts/default")
    except NotFound:
        return False
    return True


async def emptied(client: Client) -> bool:
    """Whether no subnet and no pool is left; deletes what it finds."""
    subnets, pools = await client.list(SpiderSubnet), await client.list(SpiderIPPool)
    for each in (*subnets, *pools):
        if not each.terminating:
            with suppress(NotFound):
                await client.delete(type(each), each.name)
    return not subnets and not pools


async def make_subnet(client: Client, name: str, cidr: str, *ips: str, **spec: Any) -> SpiderSubnet:
    made = SpiderSubnet(metadata=ObjectMeta(name=name), spec=SubnetSpec(cidr, ips=list(ips), **spec))
    return await client.create(made)


async def hold(client: Client, pool: SpiderIPPool, address: str, namespace: str) -> SpiderIP:
    """A record as an agent would make it, of a pod that stays alive."""
    name = f"pod-{object_name(address)}".replace(".", "-")
    body = {"spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]}}
    pod = await client.apply(Pod, {"metadata": {"name": name, "namespace": namespace}, **body}, name, namespace)
    spec = IPSpec(f"{address}/16", pool.name, "n1", namespace, name, pod.metadata.uid or "", "eth0")
    labels = {IP_POOL_LABEL: pool.name, IP_NODE_LABEL: "n1"}
    return await client.create(SpiderIP(metadata=ObjectMeta(name=object_name(address), labels=labels), spec=spec))
