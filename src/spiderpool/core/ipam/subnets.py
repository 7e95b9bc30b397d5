"""A SpiderSubnet and the pools of its CIDR: the status that the pools give it, and the pools that it adopts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import INT64_MAX, OwnerReference
from spiderpool.api.subnet import OWNER_SUBNET_LABEL, SpiderSubnet, SubnetStatus
from spiderpool.core.addresses import AddressSet
from spiderpool.core.ipam.applications import pool_application
from spiderpool.core.ipam.owners import Controller, is_automatic
from spiderpool.core.ipam.subnet_addresses import pool_addresses, subnet_addresses
from spiderpool.core.labels import label_value


class _ControlledPool(msgspec.Struct, omit_defaults=True):
    """An entry of ``status.controlledIPPools``."""

    ips: list[str]
    application: str | None = None


def is_cut_from(pool: SpiderIPPool, subnet: SpiderSubnet) -> bool:
    """Whether a pool belongs to a subnet: both have the same CIDR."""
    return pool.spec.subnet == subnet.spec.subnet


def owned_by_subnet(subnets: Iterable[SpiderSubnet], pools: Iterable[SpiderIPPool]) -> dict[str, list[SpiderIPPool]]:
    """The pools of each subnet, by its name: those with its label, as the subnet writes it when it adopts them."""
    by_label: dict[str, list[SpiderIPPool]] = {}
    for pool in pools:
        by_label.setdefault((pool.metadata.labels or {}).get(OWNER_SUBNET_LABEL, ""), []).append(pool)
    return {each.name: by_label.get(label_value(each.name), []) for each in subnets}


def owner_reference(subnet: SpiderSubnet) -> OwnerReference:
    """The reference by which a pool names the subnet as its controller."""
    return subnet.as_owner(controller=True)


def subnet_status(subnet: SpiderSubnet, pools: Iterable[SpiderIPPool]) -> SubnetStatus:
    """The status of a subnet, computed from all pools of its CIDR. A subnet that cannot be read has no addresses."""
    whole = subnet_addresses(subnet, 6 if ":" in subnet.spec.subnet else 4)
    held = {pool.name: (pool, pool_addresses(pool, whole.version) & whole) for pool in pools}
    entries = {
        name: _controlled_pool(pool, addresses)
        for name, (pool, addresses) in sorted(held.items())
        if addresses or is_automatic(pool)
    }
    return SubnetStatus(
        controlledIPPools=msgspec.json.encode(entries).decode() if entries else None,
        totalIPCount=min(whole.size, INT64_MAX),
        allocatedIPCount=min(sum(addresses.size for _, addresses in held.values()), INT64_MAX),
    )


def _controlled_pool(pool: SpiderIPPool, addresses: AddressSet) -> _ControlledPool:
    application = pool_application(pool)
    return _ControlledPool(addresses.ranges(), _application_text(application) if application else None)


def _application_text(application: Controller) -> str:
    """``group_version_Kind_namespace_name``, without the group for the core group."""
    parts = (application.group, application.version, application.kind, application.namespace, application.name)
    return "_".join(part for part in parts if part)


def adopted_pool(pool: SpiderIPPool, subnet: SpiderSubnet) -> SpiderIPPool | None:
    """The pool with the subnet as its controller; None when it has that already, or another kind of controller.

    A pool inherits gateway and routes when the subnet adopts it; later changes of the subnet do not reach the pool.
    A pool of an earlier subnet of the same name is adopted too: Kubernetes would delete it, as its owner is gone.
    """
    references = pool.metadata.ownerReferences or []
    ours, controller = owner_reference(subnet), pool.controller
    labels = pool.metadata.labels or {}
    label = {OWNER_SUBNET_LABEL: label_value(subnet.name)}
    if controller is not None and (controller.kind, controller.name) != (ours.kind, ours.name):
        return None
    is_owned = controller is not None and controller.uid == ours.uid
    if is_owned and label.items() <= labels.items():
        return None
    others = [reference for reference in references if reference is not controller]
    metadata = replace(pool.metadata, labels=labels | label, ownerReferences=[*others, ours])
    return replace(pool, metadata=metadata, spec=pool.spec if is_owned else _inherit(pool.spec, subnet))


def _inherit(spec: IPPoolSpec, subnet: SpiderSubnet) -> IPPoolSpec:
    return replace(
        spec,
        gateway=subnet.spec.gateway if spec.gateway is None else spec.gateway,
        routes=subnet.spec.routes if spec.routes is None else spec.routes,
    )
