"""SpiderNode (spiderpool.spidernet.io/v2beta1): what the pod sandboxes of one node really hold.

The agent makes it from its files and the kernel, never from SpiderIPs, so that records can be judged by it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import Column, Kind, Object, ObjectMeta, Scope, field_doc, spiderpool_kind
from spiderpool.api.nad import NetworkStatusEntry


class SpiderNodeSpec(msgspec.Struct, omit_defaults=True, gc=False):
    """What the controller and administrators ask of the node."""

    accountRequest: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        field_doc(
            "Raised by the controller when it needs to know what the node holds now. The agent answers with an account "
            "taken afterwards, whose observedGeneration is that of this change."
        ),
    ] = None
    fencedBootID: Annotated[
        str | None,
        field_doc(
            "An administrator states that nothing of this boot of the node (status.nodeInfo.bootID of the Node) runs "
            "any more. It counts while the node is not ready and has this boot ID."
        ),
    ] = None


class SandboxInterface(msgspec.Struct, omit_defaults=True, gc=False, frozen=True):
    """An interface of a sandbox, as the kernel shows it."""

    name: Annotated[str, field_doc("Name in the sandbox.")]
    mac: Annotated[str | None, field_doc("MAC address.")] = None
    addresses: Annotated[list[str] | None, field_doc("IP addresses, without prefix length.")] = None


class NodeSandbox(msgspec.Struct, omit_defaults=True, gc=False, frozen=True):
    """A pod sandbox whose network namespace exists, or may exist."""

    podUID: Annotated[str, field_doc("UID by which the container runtime knows the pod.")]
    namespace: Annotated[str, field_doc("Namespace of the pod.")]
    pod: Annotated[str, field_doc("Name of the pod.")]
    containerID: Annotated[str, field_doc("ID of the sandbox.")]
    interfaces: Annotated[
        list[SandboxInterface] | None,
        field_doc(
            "Its interfaces; absent when they cannot be read or are too many, and then it may hold anything of its pod."
        ),
    ] = None
    networks: Annotated[
        list[NetworkStatusEntry] | None,
        field_doc(
            "What the ADD has made: the controller writes it to the pod as k8s.v1.cni.cncf.io/network-status. Absent "
            "where another plugin attaches the pod, and of a sandbox that has been replaced."
        ),
    ] = None

    @property
    def addresses(self) -> list[str]:
        """The addresses of all its interfaces, as they are written."""
        return [address for interface in self.interfaces or () for address in interface.addresses or ()]


class ObservedPool(msgspec.Struct, gc=False, frozen=True):
    """A pool as the node's agent knows it."""

    name: Annotated[str, field_doc("Name of the SpiderIPPool.")]
    generation: Annotated[Annotated[int, Meta(ge=0)], field_doc("Its metadata.generation.")]


class NodeAccount(msgspec.Struct, omit_defaults=True, gc=False):
    """All sandboxes of the node at one moment."""

    observedGeneration: Annotated[
        Annotated[int, Meta(ge=0)] | None, field_doc("The account was taken after this generation was seen.")
    ] = None
    observedAt: Annotated[str | None, field_doc("When it was taken, by the clock of the node (RFC 3339).")] = None
    bootID: Annotated[str | None, field_doc("Boot of the node in which it was taken.")] = None
    recordVersion: Annotated[
        str | None,
        field_doc(
            "resourceVersion of the newest SpiderIP of the node that its agent had seen before: of those that are no "
            "newer, the account has the sandbox unless it is gone."
        ),
    ] = None
    sandboxes: Annotated[list[NodeSandbox] | None, field_doc("All sandboxes of pods that have addresses.")] = None
    pools: Annotated[
        list[ObservedPool] | None,
        field_doc(
            "Pools that were made from the node's ENIs, in the generation from which its agent serves pods: an address "
            "is taken from an ENI when no pod can get it from there any more."
        ),
    ] = None


class SpiderNode(Object, kw_only=True):
    """The account of one Node, named after it and deleted with it."""

    KIND: ClassVar[Kind] = spiderpool_kind(
        "SpiderNode",
        Scope.CLUSTER,
        "snode",
        (
            Column("OBSERVED", "date", ".status.observedAt"),
            Column("FENCED", "string", ".spec.fencedBootID"),
        ),
        status=True,
    )

    spec: SpiderNodeSpec = msgspec.field(default_factory=SpiderNodeSpec)
    status: NodeAccount | None = None

    @property
    def sandboxes(self) -> list[NodeSandbox]:
        """The sandboxes of the account; none where the agent has not told yet."""
        return (self.status.sandboxes if self.status else None) or []

    @classmethod
    def of(cls, node: Node, spec: SpiderNodeSpec | None = None) -> SpiderNode:
        """A new one, for a Node."""
        metadata = ObjectMeta(name=node.name, ownerReferences=[node.as_owner()])
        return cls(metadata=metadata, spec=spec or SpiderNodeSpec())

    @property
    def answered(self) -> bool:
        """Whether the account was taken after the last request. A number that is yet to come was not written by us."""
        return self.status is not None and (self.status.observedGeneration or 0) == (self.metadata.generation or 0)
