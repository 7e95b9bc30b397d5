"""`spiderpoolctl doctor`: records against pods and sandboxes."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.ip import IPOwner
from spiderpool.cli.doctor.checks_addresses import suspects
from tests.cli.doctor.snapshots import account, diagnosed, found, pod, record, sandbox, snapshot

pytestmark = pytest.mark.unit


def test_nothing_is_wrong() -> None:
    held = pod("web", "u", "10.0.0.5"), record(5, "web", "u"), account("n1", sandbox("web", "u", "10.0.0.5"))
    assert found(*held) == []


class TestRecords:
    """Records against pods and sandboxes."""

    def test_a_record_without_its_pod_is_left_over(self) -> None:
        (one,) = diagnosed(record(5, "web", "u")).findings
        assert (one.check, one.release, one.node) == ("record-leaked", "10.0.0.5", "n1")
        assert one.what == "10.0.0.5 is kept for pod shop/web, which does not hold it any more"

    def test_a_record_whose_name_another_pod_has_is_left_over(self) -> None:
        assert found(record(5, "web", "u"), pod("web", "other", "10.0.0.6"), record(6, "web", "other"))[0][0] == (
            "record-leaked"
        )

    @pytest.mark.parametrize(
        "changes",
        [{"releasedAt": "2026-01-01T00:00:00Z"}, {"owner": IPOwner("StatefulSet", "shop", "db")}],
        ids=["cools down", "has an owner"],
    )
    def test_a_record_that_is_kept_is_not(self, changes: dict[str, Any]) -> None:
        assert found(record(5, "web", "u", **changes)) == []

    def test_a_record_whose_sandbox_still_runs_is_not(self) -> None:
        assert found(record(5, "web", "u"), account("n1", sandbox("web", "u", "10.0.0.5"))) == []

    def test_nothing_follows_from_pods_that_may_not_be_read(self) -> None:
        assert found(record(5, "web", "u"), pods=None) == []

    def test_a_pod_without_a_record_is_found_by_its_status_and_by_its_node(self) -> None:
        running, told = pod("web", "u", "10.0.0.5"), account("n1", sandbox("web", "u", "10.0.0.5"))
        said = [("address-unrecorded", "pod shop/web on node n1 uses 10.0.0.5 without a record")]
        assert found(running) == found(told) == found(running, told) == said

    def test_addresses_of_no_pool_are_not_ours(self) -> None:
        assert found(pod("web", "u", "10.1.0.5"), account("n1", sandbox("web", "u", "10.1.0.5"))) == []

    def test_pods_of_nodes_without_an_agent_are_not_ours(self) -> None:
        assert found(pod("web", "u", "10.0.0.5", "n3")) == []

    def test_a_record_may_be_malformed_and_its_pool_may_be_gone(self) -> None:
        wrong = record(5, "web", "u", address="nonsense")
        assert found(wrong) == [
            ("record-wrong", "SpiderIP 10.0.0.5 is wrong: spec.address 'nonsense' is not an address")
        ]
        orphan = record(5, "web", "u", pool="gone"), pod("web", "u", "10.0.0.5")
        what = "pool gone does not exist, and pods have addresses of it: 10.0.0.5 of pod shop/web"
        assert found(*orphan) == [("pool-missing", what)]

    def test_a_node_is_asked_about_alone(self) -> None:
        objects = record(5, "web", "u"), record(6, "web", "v", "n2")
        (one,) = diagnosed(*objects, node="n2").findings
        assert one.release == "10.0.0.6"


def test_of_another_node_no_record_looks_wrong() -> None:
    assert [*suspects(snapshot(record(5, "a", "u", "n2"), node="n1"))] == []


def test_what_looks_wrong_is_read_again() -> None:
    looked = snapshot(record(5, "a", "u"), pod("b", "v", "10.0.0.6"), pod("c", "w", "10.1.0.6"))
    assert [*suspects(looked)] == ["10.0.0.5", "10.0.0.6"]
