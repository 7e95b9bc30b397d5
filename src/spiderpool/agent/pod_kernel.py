"""What attaching pods asks of the node's kernel; the functions of `agent.interfaces` answer it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from spiderpool.agent.interfaces import AttachedInterface
from spiderpool.core.network.plumbing.parents import ParentLink
from spiderpool.core.network.plumbing.probing import Detection
from spiderpool.core.network.plumbing.values import Address, Attachment, Loan


class PodKernel(Protocol):
    """A module or object with these functions; what they do and raise is written in `agent.interfaces`."""

    async def add(self, attachment: Attachment, /) -> AttachedInterface:
        """Give the pod the interface."""

    async def remove(self, container_id: str, netns: str, ifname: str, loan: Loan | None = None, /) -> None:
        """Remove the interface."""

    async def loan_of(self, device: str, /) -> Loan | None:
        """The loan of a device that a pod is about to borrow."""

    async def is_of_another(self, container_id: str, netns: str, ifname: str, others: Collection[Address], /) -> bool:
        """Whether a namespace belongs to another container by now."""

    async def has_link(self, netns: str, ifname: str, /) -> bool:
        """Whether a pod has a link of a name."""

    async def check(self, attachment: Attachment, /) -> None:
        """Compare the pod's interface with what `add` made."""

    async def probe(self, attachment: Attachment, detection: Detection, /) -> None:
        """Look for others that use the addresses, and for silent gateways."""

    async def ensure_parent(self, parent: ParentLink, /) -> str:
        """Create what is missing of a bond or VLAN."""

    async def place_default(
        self, netns: str, ifname: str, gateways: tuple[Address, ...] | None, /, *, if_free: bool = False
    ) -> frozenset[int]:
        """Give an interface of another plugin the default route."""
