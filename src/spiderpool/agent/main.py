"""spiderpool-agent: composition and life of the node daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from spiderpool import daemon
from spiderpool.agent.account import AccountPublisher
from spiderpool.agent.addresses import STICKY_OWNER_TIMEOUT, PodAddresses, PodPolicy
from spiderpool.agent.allocator import Allocator
from spiderpool.agent.api import AgentAPI
from spiderpool.agent.attach import Attacher, AttachmentEffects
from spiderpool.agent.attachment_store import AttachmentStore
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.containers import Containers
from spiderpool.agent.coordinator import CoordinatorPlugin
from spiderpool.agent.delegates import DelegateExecutor
from spiderpool.agent.discovery import OwnServer, discover
from spiderpool.agent.gc import NodeGC
from spiderpool.agent.hostports import HostPorts
from spiderpool.agent.install import install, uninstall
from spiderpool.agent.ipam import IPAMPlugin
from spiderpool.agent.kernel_probe import KernelProbe
from spiderpool.agent.metadata_access import MetadataAccess
from spiderpool.agent.node_network import NodeNetwork, Tuning
from spiderpool.agent.pool_cache import NodePools
from spiderpool.agent.record_store import ClusterReads
from spiderpool.agent.repair import RecordRepair
from spiderpool.agent.sandboxes import NodeSandboxes
from spiderpool.agent.server import CNIServer, Plugins, probe_sites
from spiderpool.agent.sole_agent import SoleAgent
from spiderpool.agent.takeover import TakeOvers
from spiderpool.errors import KernelFailure
from spiderpool.kernel import marks
from spiderpool.kernel.sysctl import boot_id
from spiderpool.kube.client import Client
from spiderpool.kube.events import Recorder
from spiderpool.settings import AgentSettings, agent_settings, load_source
from spiderpool.telemetry import configure, logger

FIRST_LISTS = 300.0
"""Seconds without a page of a list for which a starting agent waits; then it exits with an error and is restarted."""

ATTACHED, CHAINED, ADDRESSED = "sandboxes", "chained", "addressed"
"""Directories beside the socket with what is known of sandboxes: those that we attach, those that we only coordinate,
those that we only give addresses."""

HOST_PORTS = "hostports.json"
"""File beside the socket with the ports of the node that lead to pods."""

TUNED = "node-tuned"
"""File beside the socket that exists while the node's NICs are tuned."""

LOCK = "agent.lock"
"""File beside the socket that the working agent has locked."""

UNINSTALL = "uninstall"

PROGRAM = daemon.Program(
    "spiderpool-agent",
    "Attaches the pods of one node to underlay networks and gives them their addresses, on behalf of the CNI plugins.",
    {
        UNINSTALL: "once the agent of this node has ended, remove the network list and the executables that it has "
        "installed; pods keep their network, and the files beside the socket stay for another installation",
    },
)

log = logger("agent")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: the agent until SIGTERM or SIGINT, or the ``uninstall`` command.

    Exits 1 on errors of ours, 2 on unknown arguments.
    """
    command = {None: run, UNINSTALL: take_away}[daemon.parse_arguments(PROGRAM, arguments)]

    def begin() -> Coroutine[Any, Any, None]:
        settings = agent_settings(load_source())
        configure(settings.common.log_level)
        return command(settings)

    daemon.run(begin)


async def run(settings: AgentSettings) -> None:
    """Serve the node until this task is cancelled, once no other agent of the node does."""
    async with SoleAgent(settings.socket.parent / LOCK).held():
        await _serve(settings)


async def take_away(settings: AgentSettings) -> None:
    """Remove what `install` has put on the node, once no agent works there, which would install it again."""
    async with SoleAgent(settings.socket.parent / LOCK).held():
        uninstall(settings)


async def _serve(settings: AgentSettings) -> None:
    async with Client.load(settings.common.kubeconfig) as client, asyncio.TaskGroup() as group:
        cluster = ClusterCache(client, settings.node)
        attached, chained = (AttachmentStore(settings.socket.parent / folder) for folder in (ATTACHED, CHAINED))
        containers = Containers(settings.socket.parent / ADDRESSED)
        sandboxes = NodeSandboxes(attached, chained, containers)
        account = AccountPublisher(client, cluster, sandboxes, boot_id())
        recorder = Recorder(client, "spiderpool-agent", settings.node)
        policy = PodPolicy.of(settings)
        repair = RecordRepair(cluster, sandboxes, recorder, policy.addresses)
        take_overs = TakeOvers(
            client, settings.node, sandboxes, answer_time=settings.gc_agent_grace, by_time=settings.gc_by_time
        )
        allocator = Allocator(
            cluster.records,
            NodePools(settings.node, cluster.pools, cluster.reserved, repair.occupied, cluster.exhausted_quota),
            reads=ClusterReads(
                partial(cluster.owners.is_needed, timeout=STICKY_OWNER_TIMEOUT),
                cluster.is_held,
                take_overs.until_given_up,
                take_overs.why_not,
                take_overs.why_not_moved,
                take_overs.still_moving,
                cluster.read_pool,
                cluster.read_node,
            ),
        )
        addresses = PodAddresses(cluster, allocator, recorder, policy, account)
        ipam = IPAMPlugin(cluster, addresses, containers, account)
        api = AgentAPI(cluster, addresses, ipam, settings.add_timeout)
        delegates = DelegateExecutor((settings.cni_bin_dir,), settings.socket)
        host_ports = HostPorts(settings.socket.parent / HOST_PORTS)
        metadata = MetadataAccess(
            settings.common.cloud.provider,
            blocked=settings.block_pod_metadata,
            namespaces=settings.metadata_namespaces,
        )
        effects = AttachmentEffects(delegates, host_ports, account, recorder, metadata=metadata)
        attacher = Attacher(cluster, addresses, attached, effects)
        coordinator = CoordinatorPlugin(cluster, chained, attached, metadata)
        gc = NodeGC(cluster, addresses, attacher, coordinator, ipam)
        kernel = KernelProbe()
        plugins = Plugins(attacher, ipam, coordinator, gc, kernel)
        tuned = settings.socket.parent / TUNED
        node = NodeNetwork(cluster, attacher, coordinator, recorder, Tuning(settings.tune_node, tuned))
        server = CNIServer(cluster, plugins, api, settings.add_timeout)
        if fault := await kernel.fault():
            log.warning("no pod can be attached", fault=fault)
        await _detect_marks()
        await host_ports.read()
        metadata.restore((attached, chained))
        for work in (cluster.run(), allocator.run(), recorder.run()):
            group.create_task(work)
        if settings.common.cloud.discovers:
            group.create_task(discover(OwnServer(client, cluster.nodes, cluster.servers, settings.node), settings))
        async with server.listen(settings.socket), probe_sites(settings, api):
            await cluster.listed(FIRST_LISTS)
            group.create_task(node.run())
            group.create_task(metadata.run())
            group.create_task(gc.run())
            group.create_task(repair.run(account))
            group.create_task(host_ports.run(lambda: {each.container_id for each in attacher.sandboxes()}))
            if settings.install_cni:
                await asyncio.to_thread(install, settings)
            group.create_task(account.run())  # the first one also says that the node can be used
            api.started()
            log.info("ready", node=settings.node)
            await asyncio.Event().wait()


async def _detect_marks() -> None:
    """Find the packet filter once, not at every ADD. Without one, pods that need packet marks are refused."""
    try:
        log.info("packet marks", backend=await marks.detect())
    except KernelFailure as error:
        log.warning("no packet marks", error=str(error))


if __name__ == "__main__":
    main()
