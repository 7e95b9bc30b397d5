"""NetworkAttachmentDefinitions: creates, repairs and renames the one of every SpiderMultusConfig.

Definitions that belong to no SpiderMultusConfig are never touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from spiderpool.api import event_reasons
from spiderpool.api.core_v1 import Node
from spiderpool.api.event_reasons import EventReason
from spiderpool.api.meta import Condition, OwnerReference
from spiderpool.api.multusconfig import MultusConfigSpec, SpiderMultusConfig
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.core.admission.multusconfig import other_owner
from spiderpool.core.admission.warnings import missing_masters
from spiderpool.core.cloud.instances import devices_of, reported_devices
from spiderpool.core.network.chains import read_network
from spiderpool.core.network.nads import attachment
from spiderpool.errors import BadConfig, NotReady, SpiderpoolError
from spiderpool.kube.client import Client, Conflict, NotFound
from spiderpool.kube.conditions import not_ready, ready, write
from spiderpool.kube.events import Recorder
from spiderpool.kube.informer import Informer
from spiderpool.kube.node_servers import NodeServers
from spiderpool.kube.workqueue import WorkQueue
from spiderpool.telemetry import logger

log = logger("networks")


@dataclass(frozen=True, slots=True)
class NetworkListers:
    """Informers to read from; their owner runs them."""

    configs: Informer[SpiderMultusConfig]
    attachments: Informer[NetworkAttachmentDefinition]
    nodes: Informer[Node]
    servers: NodeServers


class NetworkReconciler:
    """Keeps NetworkAttachmentDefinitions as their SpiderMultusConfigs describe them.

    They are applied server-side, so annotations of other tools stay. Kubernetes deletes them with their owner; only a
    definition under a former name is deleted here.
    """

    def __init__(self, client: Client, listers: NetworkListers, recorder: Recorder) -> None:
        configs, attachments, nodes = listers.configs, listers.attachments, listers.nodes
        self._client = client
        self._configs = configs
        self._attachments = attachments
        self._recorder = recorder
        self._queue = WorkQueue(self._reconcile, "networks")
        self._applied: dict[str, NetworkAttachmentDefinition] = {}  # key of a config → what was applied for it last
        self._nodes = nodes
        self._servers = listers.servers
        self._devices_by_node: dict[str, frozenset[str] | None] = {}  # None: not reported
        self._devices: frozenset[str] | None = None  # NICs of all nodes; None unless all of them report theirs
        configs.subscribe(self._on_config)
        attachments.subscribe(self._on_attachment)
        nodes.subscribe(self._on_node)
        listers.servers.subscribe(self._on_server)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run()

    def _on_config(self, old: SpiderMultusConfig | None, new: SpiderMultusConfig | None) -> None:
        if new is not None:
            self._queue.add(new.key)
        elif old is not None:
            self._applied.pop(old.key, None)

    def _on_attachment(self, old: NetworkAttachmentDefinition | None, new: NetworkAttachmentDefinition | None) -> None:
        for stored in (old, new):
            if stored is not None:
                self._queue.add(stored.key)  # the config of the same name, and those that own it under another name
                for name in _owning_configs(stored):
                    self._queue.add(f"{stored.metadata.namespace}/{name}")

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        is_heartbeat = old is not None and new is not None and old.metadata.uid == new.metadata.uid
        if not is_heartbeat and (node := new or old):
            self._on_server(node.name)

    def _on_server(self, name: str) -> None:
        """Look at all configs when the NICs have changed that the nodes report together."""
        self._devices_by_node.pop(name, None)
        if (node := self._nodes.get(name)) is not None:
            self._devices_by_node[name] = devices_of(self._servers.of(node))
        different = set(self._devices_by_node.values())  # few: most nodes of a cluster name theirs alike
        if (devices := reported_devices(different)) != self._devices:
            self._devices = devices
            for config in self._configs.items():
                self._queue.add(config.key)

    async def _reconcile(self, key: str) -> None:
        """Apply the definition of a config, and delete its definitions under former names."""
        config = self._configs.get(key)
        if config is None or config.terminating:
            return
        try:
            desired = attachment(config)
        except BadConfig as error:
            self._warn(config, event_reasons.BAD_NETWORK, error.message)
            return await self._set_condition(config, not_ready(event_reasons.BAD_NETWORK.name, error.message))
        try:
            if await self._put(config, desired):
                await self._drop_former(config, desired)
                await self._set_condition(config, readiness(config, desired, self._devices))
            else:
                await self._set_condition(
                    config,
                    not_ready(event_reasons.NAME_TAKEN.name, f"{desired.key} belongs to another SpiderMultusConfig"),
                )
        except NotReady as error:
            await self._set_condition(config, not_ready("Waiting", error.message))
            raise

    async def _set_condition(self, config: SpiderMultusConfig, condition: Condition) -> None:
        """Write the condition of a config."""
        former = config.status.conditions if config.status else None
        await write(self._client, self._configs, config, former, condition)

    async def _put(self, config: SpiderMultusConfig, desired: NetworkAttachmentDefinition) -> bool:
        """Apply ``desired`` unless it is stored; false when another config owns the stored one. Raises NotReady."""
        stored = self._attachments.get(desired.key)
        if stored is not None and stored.terminating:
            raise NotReady(f"NetworkAttachmentDefinition {desired.key} is being deleted; its successor waits")
        if stored is not None and (owner := other_owner(config, stored)):
            self._warn(config, event_reasons.NAME_TAKEN, f"{desired.key} belongs to SpiderMultusConfig {owner.name}")
            return False
        if stored is None or self._applied.get(config.key) != desired or _drifted(stored, desired):
            await self._apply(config, stored, desired)
        return True

    async def _apply(
        self,
        config: SpiderMultusConfig,
        stored: NetworkAttachmentDefinition | None,
        desired: NetworkAttachmentDefinition,
    ) -> None:
        name, namespace = desired.name, desired.metadata.namespace
        if stored is not None and (body := _repair(stored, desired)):
            await self._client.patch(NetworkAttachmentDefinition, name, body, namespace)
        await self._client.apply(NetworkAttachmentDefinition, msgspec.to_builtins(desired), name, namespace)
        self._applied[config.key] = desired
        log.info("network attachment applied", network=config.key, attachment=desired.key)

    async def _drop_former(self, config: SpiderMultusConfig, desired: NetworkAttachmentDefinition) -> None:
        """Delete the config's definitions that have another name than ``desired``."""
        for stored in self._attachments.items():
            if stored.name != desired.name and _is_owned(stored, config) and not stored.terminating:
                with suppress(NotFound, Conflict):  # deleted or changed meanwhile: its event reconciles the config
                    await self._client.delete(
                        NetworkAttachmentDefinition,
                        stored.name,
                        stored.metadata.namespace,
                        uid=stored.metadata.uid,
                        resourceVersion=stored.metadata.resourceVersion,
                    )
                log.info("former network attachment deleted", network=config.key, attachment=stored.key)

    def _warn(self, config: SpiderMultusConfig, reason: EventReason[SpiderMultusConfig], message: str) -> None:
        self._recorder.event(config, reason, message)
        log.warning("network attachment not made", network=config.key, reason=reason.name, message=message)


def readiness(
    config: SpiderMultusConfig, desired: NetworkAttachmentDefinition, devices: Collection[str] | None
) -> Condition:
    """Whether agents attach pods to the network of a definition that is stored.

    ``devices`` are the NICs of all nodes, None where they are not known.
    """
    try:
        read_network(desired.key, desired)
    except SpiderpoolError as error:
        return not_ready("Refused", f"no pod can be attached: {error.message}")
    text = f"pods may name NetworkAttachmentDefinition {desired.key}"
    # Nodes report ENIs alone: a bond or a VLAN device may be there all the same.
    missing = missing_masters(config.spec or MultusConfigSpec(), devices)
    return ready(f"{text}; but {missing}" if missing else text)


def _owning_configs(stored: NetworkAttachmentDefinition) -> Iterable[str]:
    """Names of the configs in a definition's owner references."""
    kind = SpiderMultusConfig.KIND.name
    return (owner.name for owner in stored.metadata.ownerReferences or () if owner.kind == kind)


def _is_owned(stored: NetworkAttachmentDefinition, config: SpiderMultusConfig) -> bool:
    owners = stored.metadata.ownerReferences or ()
    return stored.metadata.namespace == config.metadata.namespace and any(
        owner.uid == config.metadata.uid for owner in owners
    )


def _drifted(stored: NetworkAttachmentDefinition, desired: NetworkAttachmentDefinition) -> bool:
    """Whether another client has changed what we applied."""
    annotations = stored.metadata.annotations or {}
    missing = (desired.metadata.annotations or {}).items() - annotations.items()
    return bool(missing) or bool(_repair(stored, desired))


def _repair(stored: NetworkAttachmentDefinition, desired: NetworkAttachmentDefinition) -> dict[str, Any]:
    """The merge patch for what server-side apply cannot do: replace owner references, and empty ``spec.config``."""
    body: dict[str, Any] = {}
    config = desired.spec.config if desired.spec else None
    if config != (stored.spec.config if stored.spec else None):
        body["spec"] = {"config": config}
    if owners := _new_owners(stored, desired):
        body["metadata"] = {
            "ownerReferences": msgspec.to_builtins(owners),
            "resourceVersion": stored.metadata.resourceVersion,
        }
    return body


def _new_owners(stored: NetworkAttachmentDefinition, desired: NetworkAttachmentDefinition) -> list[OwnerReference]:
    """The owner references that make a definition ours; empty when it is ours already.

    An object may have one controlling owner only, so those of others are dropped.
    """
    ours = desired.metadata.ownerReferences or []
    owners = stored.metadata.ownerReferences or []
    if all(owner in owners for owner in ours):
        return []
    return [*(owner for owner in owners if not owner.controller), *ours]
