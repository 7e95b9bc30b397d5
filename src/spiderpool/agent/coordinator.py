"""The plugin ``coordinator`` by itself, at the end of a chain of plugins that others execute.

The interface is there and has its addresses; only the pod's path to its node is made, and its routes are put in
order. A container has records of its own for this, and a lock of its own: a chain that the agent executes comes back
here while the agent still holds the container.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from spiderpool.agent import interfaces
from spiderpool.agent.attachment_store import AttachmentStore, InterfaceRecord, SandboxRecord
from spiderpool.agent.cluster import ClusterCache
from spiderpool.agent.locks import KeyedLock
from spiderpool.api.cni import CNICall, CoordinatorConfig, parse_args
from spiderpool.core.annotations import FIRST_INTERFACE
from spiderpool.core.network.coordinator import coordination, wished_default_route
from spiderpool.core.network.plumbing.values import PRESENT, Attachment
from spiderpool.core.network.pod_networks import default_route_of, further_networks
from spiderpool.errors import BadConfig, BadNamespace, SpiderpoolError
from spiderpool.telemetry import logger

log = logger("coordinator")


class CoordinatorPlugin:
    """ADD, DEL, CHECK and GC of the coordinator's part. ``attached`` are sandboxes that the agent attaches itself."""

    def __init__(self, cluster: ClusterCache, chained: AttachmentStore, attached: AttachmentStore) -> None:
        self._cluster = cluster
        self._chained = chained
        self._attached = attached
        self._containers = KeyedLock()

    async def add(self, call: CNICall, config: CoordinatorConfig) -> None:
        """Give the pod's interface its path to the node. May be repeated; a failure takes back what was made."""
        attachment = await self._attachment(call, config)
        if attachment is None:
            return
        async with self._containers.held(call.container_id):
            self._chained.save(self._with(call, config))
            attached = await interfaces.add(attachment)
        log.info("coordinated", interface=call.ifname, host_interface=attached.host_interface)

    async def delete(self, call: CNICall) -> None:
        """Take the path away, with the last interface the pod's veth pair; needs neither pod object nor namespace."""
        async with self._containers.held(call.container_id):
            await self._delete(call.container_id, call.netns, call.ifname)

    async def check(self, call: CNICall, config: CoordinatorConfig) -> None:
        """Raises Drift when veth pair, rule, route or neighbour is not as ADD left it."""
        attachment = await self._attachment(call, config)
        if attachment is not None:
            await interfaces.check(attachment)

    async def refresh(self) -> None:
        """Tell pods their node's present addresses, but for those that the agent itself attaches."""
        theirs = {sandbox.container_id for sandbox in self._attached.all()}
        await refresh((each for each in self._chained.all() if each.container_id not in theirs), self._containers)

    async def collect(self, network: str, valid: Collection[tuple[str, str]]) -> list[SpiderpoolError]:
        """Take away the network's paths that are not among ``valid``, by container and interface; what failed."""
        failures: list[SpiderpoolError] = []
        for sandbox in list(self._chained.all()):
            for each in sandbox.interfaces:
                if each.chain != network or (sandbox.container_id, each.name) in valid:
                    continue
                try:
                    async with self._containers.held(sandbox.container_id):
                        await self._delete(sandbox.container_id, sandbox.netns, each.name)
                except SpiderpoolError as error:
                    failures.append(error)
        return failures

    def containers(self) -> Iterator[str]:
        """Containers that have a path of ours and a namespace in which they may use it."""
        return (each.container_id for each in self._chained.all() if _exists(Path(each.netns)))

    async def _delete(self, container_id: str, netns: str, ifname: str) -> None:
        await interfaces.remove(container_id, netns, ifname, keep_link=True)
        known = self._chained.load(container_id)
        others = tuple(each for each in known.interfaces if each.name != ifname) if known else ()
        if known and others:
            self._chained.save(SandboxRecord(container_id, known.netns, known.cni_args, others))
        else:
            self._chained.forget(container_id)

    async def _attachment(self, call: CNICall, config: CoordinatorConfig) -> Attachment | None:
        """What there is to coordinate; None where the coordinator is switched off."""
        args = parse_args(call.environment.get("CNI_ARGS", ""))
        pod = await self._cluster.pod(args.namespace, args.name, args.uid)
        annotations = pod.metadata.annotations or {}
        chosen = default_route_of(further_networks(annotations, args.namespace))
        settings = coordination(
            config,
            self._cluster.coordinator(),
            default_route_nic=chosen.interface if chosen else wished_default_route(annotations),
        )
        if settings is None:
            return None
        return Attachment(call.container_id, call.netns, call.ifname, PRESENT, "", coordination=settings)

    def _with(self, call: CNICall, config: CoordinatorConfig) -> SandboxRecord:
        known = self._chained.load(call.container_id)
        others = tuple(each for each in known.interfaces if each.name != call.ifname) if known else ()
        first = config.podDefaultCniNic or FIRST_INTERFACE
        one = InterfaceRecord(call.ifname, "", coordinated=True, first_nic=first, chain=config.name)
        return SandboxRecord(call.container_id, call.netns, call.environment.get("CNI_ARGS", ""), (*others, one))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a path that cannot be is not there
        return False


def previous_result(config: CoordinatorConfig) -> dict[str, object]:
    """The result of the plugin before. Raises BadConfig where there was none."""
    if config.prevResult is None:
        raise BadConfig("coordinator needs a prevResult: put it behind the plugin that makes the interface")
    return config.prevResult


async def refresh(sandboxes: Iterator[SandboxRecord], containers: KeyedLock) -> None:
    """Tell pods the addresses that their node has now; one where that fails is passed over."""
    for sandbox in sandboxes:
        if not any(each.coordinated for each in sandbox.interfaces):
            continue
        try:
            async with containers.held(sandbox.container_id):
                one = sandbox.interfaces[0]
                first = one.first_nic or one.name
                steps = await interfaces.refresh(sandbox.container_id, sandbox.netns, first_nic=first)
        except BadNamespace:
            continue  # the pod is gone, its DEL is to come
        except SpiderpoolError as error:
            log.warning("pod not told of its node's addresses", netns=sandbox.netns, error=str(error))
            continue
        if steps:
            log.info("pod told of its node's addresses", netns=sandbox.netns, steps=len(steps))
