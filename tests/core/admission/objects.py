"""Objects as an admission webhook gets them, and their faults in short form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.core.admission.faults import FieldError

NET = "10.6.0.0/24"
NET6 = {"subnet": "fd00::/64"}
LEAVING: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def pool(spec: dict[str, Any], name: str = "p", **metadata: Any) -> SpiderIPPool:
    """A pool; its subnet is NET unless ``spec`` has one."""
    return msgspec.convert({"metadata": {"name": name, **metadata}, "spec": {"subnet": NET, **spec}}, SpiderIPPool)


def subnet(spec: dict[str, Any], name: str = "s", **metadata: Any) -> SpiderSubnet:
    """A SpiderSubnet; its subnet is NET unless ``spec`` has one."""
    document = {"metadata": {"name": name, "uid": f"uid-{name}", **metadata}, "spec": {"subnet": NET, **spec}}
    return msgspec.convert(document, SpiderSubnet)


def holder(address: str, pod: str = "web", released: str | None = None) -> SpiderIP:
    """The record of an address of pool p."""
    spec = IPSpec(f"{address}/24", "p", "n", "ns", pod, f"uid-{pod}", "eth0", releasedAt=released)
    return SpiderIP(metadata=ObjectMeta(name=address), spec=spec)


def paths(faults: Iterable[FieldError]) -> list[str]:
    """The path of each fault."""
    return [fault.path for fault in faults]


def found(faults: Iterable[FieldError]) -> list[tuple[str, str]]:
    """The kind and path of each fault."""
    return [(fault.kind.name, fault.path) for fault in faults]
