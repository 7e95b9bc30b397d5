"""Of Pods and Nodes only our resources are kept, and quantities are read as the API server writes them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.api.address_resources import MOST_NAMES, OTHERS, AdvertisingNode, RequestingPod, is_ours, whole

pytestmark = pytest.mark.unit

OURS, OTHER = "addresses.spidernet.io/kube-system.a", "addresses.spidernet.io/pools-0a"


def pod(
    containers: list[dict[str, str]], first: list[dict[str, str]] | None = None, sidecars: tuple[int, ...] = ()
) -> RequestingPod:
    def made(requests: list[dict[str, str]]) -> list[dict[str, Any]]:
        return [{"name": "x", "resources": {"requests": each, "limits": each}} for each in requests]

    spec: dict[str, Any] = {
        "nodeName": "n",
        "containers": [*made(containers), {"name": "none"}],
        "initContainers": made(first or []),
    }
    for index in sidecars:
        spec["initContainers"][index]["restartPolicy"] = "Always"
    return msgspec.json.decode(msgspec.json.encode({"metadata": {"name": "p"}, "spec": spec}), type=RequestingPod)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0), ("7", 7), ("5k", 5_000), ("100k", 100_000), ("1M", 10**6), ("2E", 2 * 10**18),
        ("1e3", 1000), ("2E+2", 200), ("500e-2", 5), ("1Ki", 1024), ("1.5Ki", 1536), ("3Gi", 3 * 2**30), ("+4", 4),
        ("2000m", 2), ("500m", 1), ("1.5", 2), (".5k", 500), ("9" * 30, 2**63 - 1), ("1e99", 2**63 - 1),
        ("8Ei", 2**63 - 1), ("9" * 5000, 2**63 - 1),
    ],
)  # fmt: skip
def test_a_quantity_is_read(text: str, count: int) -> None:
    assert whole(text) == count


@pytest.mark.parametrize("text", ["", "k", "-1", ".", "1e", "1e9999", "1kk", "²", "٣"])
def test_what_no_extended_resource_has_counts_as_nothing(text: str) -> None:
    assert whole(text) == 0


def test_our_resources_have_our_domain() -> None:
    assert is_ours(OURS)
    assert not is_ours("addresses.spidernet.io.evil/x")
    assert not is_ours("cpu")


def test_requests_of_all_containers_are_added() -> None:
    found = pod([{"cpu": "1", OURS: "2"}, {OURS: "1", OTHER: "1k"}, {"cpu": "1"}])
    assert found.address_requests == {OURS: 3, OTHER: 1000}
    assert found.spec.nodeName == "n"
    assert [each.resources.requests for each in found.spec.containers or ()] == [{OURS: "2"}, {OURS: "1", OTHER: "1k"}]


def test_containers_that_end_first_need_no_more_than_the_largest_of_them() -> None:
    assert pod([{OURS: "1"}], first=[{OURS: "3"}, {OURS: "2", OTHER: "1"}]).address_requests == {OURS: 3, OTHER: 1}


def test_sidecars_go_on_beside_the_others() -> None:
    """As the scheduler counts them."""
    assert pod([{OURS: "1"}], first=[{OURS: "2"}], sidecars=(0,)).address_requests == {OURS: 3}
    one_ends = pod([{OURS: "1"}], first=[{OURS: "2"}, {OURS: "5"}, {OURS: "1"}], sidecars=(0, 2))
    assert one_ends.address_requests == {OURS: 7}, "the second beside the first"
    assert pod([{OURS: "9"}], first=[{OURS: "2"}, {OURS: "5"}], sidecars=(0,)).address_requests == {OURS: 11}


def test_a_pod_has_so_many_names_and_the_sum_of_the_others() -> None:
    named = [{f"addresses.spidernet.io/x{number}": "2" for number in range(40)}, {OURS: "5"}]
    found = pod(named, first=[{OURS: "7"}]).address_requests
    assert len(found) == MOST_NAMES + 1
    assert found[OTHERS] == 2 * 6 + 5
    assert OURS not in found


def test_a_pod_without_requests_keeps_no_container() -> None:
    found = pod([{"cpu": "1"}], first=[{"memory": "1Gi"}])
    assert (found.spec.containers, found.spec.initContainers) == (None, None)
    assert not found.address_requests
    assert not RequestingPod().address_requests


def test_a_node_keeps_our_resources_alone() -> None:
    status = {"capacity": {"cpu": "4", OURS: "5"}, "allocatable": {"cpu": "4"}, "nodeInfo": {"bootID": "b"}}
    found = msgspec.convert({"metadata": {"name": "n"}, "status": status}, AdvertisingNode)
    assert (found.status.capacity, found.status.allocatable) == ({OURS: "5"}, None)
    assert found.status.nodeInfo.bootID == "b"
