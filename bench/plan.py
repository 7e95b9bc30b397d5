"""Measures `spiderpoolctl plan` for a large cluster: seconds of CPU time, from the API server's answers on."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeVar, cast

import click
import msgspec

from spiderpool.api.core_v1 import Namespace, Node, NodeCondition, NodeStatus
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import POOL_NODE_LABEL, IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition
from spiderpool.api.scheduling import ScheduledPod
from spiderpool.cli.connection import Cluster
from spiderpool.cli.plan.answer import Placement, address_plan
from spiderpool.cli.plan.case import planned_groups, read_facts
from spiderpool.cli.plan.pods import PlannedChange, PlannedPods
from spiderpool.cli.policies import AgentPolicies
from spiderpool.core.addresses import from_int
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.kube.client import Client

NAD = '{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"ipvlan","master":"eth1","ipam":{"type":"spiderpool"}}]}'
FIRST = 0x0A000001
T = TypeVar("T", bound=Object)


class Answers(Cluster):
    """A cluster whose API server has answered: the time of decoding counts, that of the way does not."""

    def __init__(self, objects: list[Object]) -> None:
        super().__init__(cast("Client", None), 1.0)
        self._texts: dict[type[Object], bytes] = {}
        for kind in {type(each) for each in objects}:
            self._texts[kind] = msgspec.json.encode([each for each in objects if type(each) is kind])

    async def list(self, kind: type[T], namespace: str | None = None, **_: Any) -> list[T] | None:
        """All objects of a kind."""
        return msgspec.json.decode(self._texts.get(kind, b"[]"), type=list[kind])  # type: ignore[valid-type]


def objects(nodes: int, addresses: int) -> list[Object]:
    """Nodes with a pool each; every second address is in use, on some nodes all, on others none."""
    size = addresses // nodes
    network = ObjectMeta(name="underlay", namespace="kube-system")
    found: list[Object] = [NetworkAttachmentDefinition(metadata=network, spec=NADSpec(config=NAD))]
    found.append(Namespace(metadata=ObjectMeta(name="default")))
    for number in range(nodes):
        name, first = f"node-{number}", FIRST + number * size
        texts = [from_int(first + place, 4) for place in range(size)]
        status = NodeStatus([NodeCondition("Ready", "True")])
        found.append(Node(metadata=ObjectMeta(name=name), status=status))
        spec = IPPoolSpec("10.0.0.0/8", 4, [f"{texts[0]}-{texts[-1]}"], default=True, nodeName=[name])
        labels = {POOL_NODE_LABEL: name}
        found.append(SpiderIPPool(metadata=ObjectMeta(name=f"{name}-eth1", labels=labels), spec=spec))
        for text in texts[: number % (size + 1)]:
            record = IPSpec(f"{text}/8", f"{name}-eth1", name, "default", f"pod-{text}", f"uid-{text}", "eth0")
            found.append(SpiderIP(metadata=ObjectMeta(name=text), spec=record))
    return found


async def measure(cluster: Answers, workloads: int, pods: int) -> str:
    """Plan so many workloads with so many pods each; a line about it."""
    policies = AgentPolicies(AttachmentPolicy("kube-system/underlay", "kube-system"), AddressPolicy())
    planned = tuple(
        PlannedPods(f"Deployment default/web{number}", ScheduledPod(metadata=_metadata(number)), pods)
        for number in range(workloads)
    )
    change, began = PlannedChange(planned), time.process_time()
    facts = await read_facts(cluster, policies, time.time())
    read = time.process_time()
    plan = address_plan(facts, facts, await planned_groups(cluster, facts, change), (), ())
    decided = time.process_time()
    refused = "/".join(str(plan.refused(each)) for each in Placement)
    return (
        f"{workloads} workloads of {pods} pods: {read - began:.1f} s to decode, {decided - read:.1f} s to decide; "
        f"refused in the best/even/worst placement: {refused}"
    )


def _metadata(number: int) -> ObjectMeta:
    return ObjectMeta(name=f"web{number}-new", namespace="default", labels={"app": f"web{number}"})


@click.command()
@click.option("--nodes", default=5_000, show_default=True)
@click.option("--addresses", default=150_000, show_default=True)
def main(nodes: int, addresses: int) -> None:
    """Measure the plan of one workload of 40 and of 10,000 pods, and of 100 workloads of 100 pods."""
    cluster = Answers(objects(nodes, addresses))
    click.echo(f"{nodes} nodes, {addresses} addresses, half of them in use")
    for workloads, pods in ((1, 40), (1, 10_000), (100, 100)):
        click.echo(asyncio.run(measure(cluster, workloads, pods)))


if __name__ == "__main__":
    main()
