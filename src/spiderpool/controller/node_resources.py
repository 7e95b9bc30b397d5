"""Our extended resources in the status of a Node: what is to be written there, and taken away."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from spiderpool.api.address_resources import AdvertisingNode, whole
from spiderpool.api.core_v1 import Node
from spiderpool.kube.attempts import on_all
from spiderpool.kube.client import Client, Forbidden, NotFound
from spiderpool.telemetry import logger

log = logger("advertising")


def changes(node: AdvertisingNode, desired: Mapping[str, int]) -> dict[str, Any] | None:
    """The merge patch of a Node's status; None where there is nothing to do.

    A kubelet copies capacities to what is allocatable, but only at its next report.
    """
    body: dict[str, dict[str, str | None]] = {}
    for part in ("capacity", "allocatable"):
        present: dict[str, str] = getattr(node.status, part) or {}
        wanted = {name: str(count) for name, count in desired.items() if whole(present.get(name, "-")) != count}
        gone = dict.fromkeys(present.keys() - desired.keys())
        if wanted or gone:
            body[part] = {**wanted, **gone}
    return {"status": body} if body else None


async def withdraw(client: Client) -> None:
    """Take our resources from all Nodes, as far as we may."""
    try:
        await on_all(await client.list(AdvertisingNode), partial(_withdraw_from, client), give_up=False)
    except Forbidden:  # nodes have never advertised any, or somebody else has to take them away
        log.info("what nodes advertise is left as it is: no right to change it")


async def _withdraw_from(client: Client, node: AdvertisingNode) -> None:
    if body := changes(node, {}):
        with suppress(NotFound):
            await client.patch(AdvertisingNode, node.name, body, sub="status")


def is_zeroed(old: Node, new: Node) -> bool:
    """Whether a kubelet that has started put to zero what its node had."""
    if not (isinstance(old, AdvertisingNode) and isinstance(new, AdvertisingNode)):
        return False
    before, after = old.status.allocatable or {}, new.status.allocatable or {}
    return any(after.get(name) == "0" != text for name, text in before.items())


def part_of_node(node: Node) -> object:
    """The parts of a Node that decide what it advertises, and what it advertises now."""
    resources = (node.status.capacity, node.status.allocatable) if isinstance(node, AdvertisingNode) else ()
    return node.metadata.uid, node.metadata.labels, resources
