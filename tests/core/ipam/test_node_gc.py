"""Which records of a node no pod holds."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from spiderpool.api.core_v1 import Pod, PodIP, PodStatus
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from spiderpool.core.ipam.gc import STATIC_POD_ANNOTATION
from spiderpool.core.ipam.node_gc import addresses_in_use, is_holder, orphans

pytestmark = pytest.mark.unit


def record(address: str = "10.0.0.1", pod: str = "p", uid: str = "u", released: str | None = None) -> SpiderIP:
    spec = IPSpec(
        address=f"{address}/24",
        pool="x",
        node="n",
        namespace="ns",
        pod=pod,
        podUID=uid,
        interface="eth0",
        releasedAt=released,
    )
    return SpiderIP(metadata=ObjectMeta(name=address), spec=spec)


def pod(name: str = "p", uid: str = "u", phase: str = "Running", *ips: str, ending: bool = False) -> Pod:
    meta = ObjectMeta(name=name, namespace="ns", uid=uid, deletionTimestamp="2026-01-01T00:00:00Z" if ending else None)
    return Pod(
        metadata=meta,
        status=PodStatus(phase=phase, podIPs=[PodIP(ip) for ip in ips]),
    )


@pytest.mark.parametrize(
    ("holder", "expected"),
    [
        (None, False),
        (pod(), True),
        (pod(ending=True), True),
        (pod(uid="another"), False),
        (pod("p", "another", "Running", "10.0.0.1"), True),
        (pod(phase="Failed"), False),
    ],
)
def test_whether_a_pod_holds_a_record(holder: Pod | None, expected: bool) -> None:
    assert is_holder(holder, record()) is expected


def test_a_record_may_name_the_uid_of_the_static_pod_that_a_pod_mirrors() -> None:
    static = pod(uid="mirror")
    static.metadata.annotations = {STATIC_POD_ANNOTATION: "u"}
    assert is_holder(static, record())


def test_orphans_are_records_without_pod_sandbox_cooldown_or_report() -> None:
    gone, held, released = record("10.0.0.1"), record("10.0.0.2", "q", "v"), record("10.0.0.3", "r", "w", "2026-01-01")
    records = [gone, held, released]
    assert orphans(records, [pod("q", "v")], []) == [gone]
    assert orphans(records, [pod("q", "v")], ["u"]) == []
    assert orphans(records, [pod("q", "v", "Running", "10.0.0.1")], []) == []
    in_use = set(addresses_in_use(records, [pod("q", "v", "Running", "10.0.0.9")], []))
    assert in_use == {ip_address(text) for text in ("10.0.0.2", "10.0.0.3", "10.0.0.9")}
