"""What a Node says of its server, and when the server is proven gone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.api.core_v1 import Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, Taint
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import ENI, Instance
from spiderpool.core.cloud.nodes import (
    STRANGE_AFTER,
    ServerQuery,
    Strangers,
    foreign_address,
    identity_patch,
    judge,
    labels_of,
    mismatch,
    queries,
    shutdown_patch,
)
from spiderpool.core.ipam.evidence import SHUTDOWN
from spiderpool.core.ipam.new_nodes import UNINITIALIZED

pytestmark = pytest.mark.unit

STOPPED = Taint(SHUTDOWN, effect="NoSchedule")


def parse(text: str) -> tuple[str, str] | None:
    """Region and instance of a provider ID of a simple form."""
    region, _, identity = text.partition(".")
    return (region, identity) if identity else None


ETH0 = ENI(
    "eni-1",
    "00:16:3e:00:00:01",
    True,
    "172.31.199.183",
    (),
    (),
    "vsw-1",
    "172.31.192.0/20",
    None,
    None,
    None,
)
SERVER = Instance("alibaba", "cn-hangzhou", "cn-hangzhou-i", "i-1", "ecs.g7.large", (ETH0,))
FRESH = Taint(UNINITIALIZED, "true", "NoSchedule")
OTHER = Taint("team", "a", "NoExecute", "2026-01-01T00:00:00Z")


def make_node(
    name: str = "master",
    *,
    ready: str = "True",
    labels: dict[str, str] | None = None,
    **spec: object,
) -> Node:
    metadata = ObjectMeta(name=name, uid=f"uid-{name}", resourceVersion="7", labels=labels)
    status = NodeStatus(conditions=[NodeCondition("Ready", ready)])
    return Node(metadata=metadata, spec=NodeSpec(**spec), status=status)  # type: ignore[arg-type]


class TestConfirmation:
    @pytest.mark.parametrize(
        ("internal", "known", "foreign"),
        [
            ((), {"10.0.0.1"}, None),
            (("10.0.0.1",), set(), None),
            (("10.0.0.1",), {"10.0.0.1", "10.0.0.2"}, None),
            (("10.0.0.1", "fd00::1"), {"10.0.0.1"}, None),
            (("10.0.0.3",), {"10.0.0.1", "10.0.0.2"}, "10.0.0.3"),
            (("10.0.0.1", "fd00::1"), {"10.0.0.1", "fd00::2"}, "fd00::1"),
        ],
    )
    def test_the_address_of_the_node_is_one_of_its_server(
        self, internal: tuple[str, ...], known: set[str], foreign: str | None
    ) -> None:
        node = make_node()
        node.status.addresses = [NodeAddress("Hostname", "master"), *(NodeAddress("InternalIP", a) for a in internal)]
        assert foreign_address(node, known) == foreign


class TestStrangers:
    QUERY = ServerQuery("r", {"uid-1": "i-1"}, frozenset({"i-2", "never"}))

    def test_who_was_never_known_is_no_witness_any_more(self) -> None:
        strangers = Strangers()
        for _ in range(STRANGE_AFTER):
            assert "never" not in strangers
            strangers.note(self.QUERY, {"i-2"})
        assert "never" in strangers
        assert "i-2" not in strangers
        members = [member(1, "Unknown"), member(2, "True"), make_node("lie", providerID="cn-hangzhou.never")]
        (query,) = queries(members, parse, lambda _: None, strangers)
        assert "never" not in query.witnesses
        strangers.retain(["i-2"])
        assert "never" not in strangers

    def test_who_was_known_stays_a_witness(self) -> None:
        strangers = Strangers()
        strangers.note(self.QUERY, {"i-2", "never"})
        for _ in range(STRANGE_AFTER):
            strangers.note(self.QUERY, {"i-2"})
        assert "never" not in strangers

    def test_an_empty_answer_says_nothing(self) -> None:
        strangers = Strangers()
        for _ in range(STRANGE_AFTER):
            strangers.note(self.QUERY, {})
        assert "never" not in strangers


class TestIdentity:
    def test_gives_a_new_node_all_it_lacks(self) -> None:
        node = make_node(taints=[FRESH, OTHER])
        assert identity_patch(node, SERVER) == {
            "metadata": {"resourceVersion": "7", "labels": labels_of(SERVER)},
            "spec": {
                "providerID": "cn-hangzhou.i-1",
                "taints": [{"key": "team", "value": "a", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}],
            },
        }

    def test_takes_the_last_taint_away(self) -> None:
        node = make_node(taints=[FRESH], providerID="cn-hangzhou.i-1", labels=labels_of(SERVER))
        assert identity_patch(node, SERVER) == {"metadata": {"resourceVersion": "7"}, "spec": {"taints": None}}

    def test_leaves_a_node_alone_that_has_all(self) -> None:
        node = make_node(taints=[OTHER], providerID="cn-hangzhou.i-1", labels=labels_of(SERVER) | {"a": "b"})
        assert identity_patch(node, SERVER) is None

    def test_writes_no_provider_id_where_there_is_one(self) -> None:
        patch = identity_patch(make_node(providerID="cn-hangzhou.i-1"), SERVER)
        assert patch is not None
        assert "spec" not in patch

    def test_a_report_of_another_server_contradicts_the_node(self) -> None:
        assert mismatch(make_node(providerID="cn-hangzhou.i-2"), SERVER, parse)
        assert mismatch(make_node(providerID="kind://x"), SERVER, parse)
        assert not mismatch(make_node(), SERVER, parse)


def member(number: int, ready: str, region: str = "cn-hangzhou") -> Node:
    return make_node(f"n{number}", ready=ready, providerID=f"{region}.i-{number}")


class TestLoss:
    def test_nothing_is_asked_while_all_is_well(self) -> None:
        assert queries([member(1, "True"), member(2, "False")], parse, lambda _: None) == []

    def test_a_sole_silent_node_has_no_witness(self) -> None:
        assert queries([member(1, "Unknown")], parse, lambda _: None) == []
        assert queries([member(1, "Unknown"), member(2, "False")], parse, lambda _: None) == []
        assert queries([member(1, "Unknown"), member(2, "True", "cn-beijing")], parse, lambda _: None) == []

    def test_every_part_has_witnesses(self) -> None:
        found = queries([*(member(n, "Unknown") for n in range(200)), member(900, "True")], parse, lambda _: None)
        assert [len(each.suspects) for each in found] == [90, 90, 20]
        assert all(each.witnesses == {"i-900"} for each in found)

    def test_a_node_with_another_server_is_not_judged(self) -> None:
        silent = make_node("n1", ready="Unknown", providerID="cn-hangzhou.i-1")
        reported = {"n1": replace(SERVER, identity="i-9")}
        assert queries([silent, member(2, "True")], parse, lambda node: reported.get(node.name)) == []

    def test_gone_takes_two_answers_a_period_apart(self) -> None:
        query = ServerQuery("r", {"uid": "i-1"}, frozenset({"i-2"}))
        missing, gone = judge({}, query, {"i-2"}, 100.0, 60.0)
        assert (missing, gone) == ({"uid": 100.0}, [])
        assert judge(missing, query, {"i-2"}, 130.0, 60.0) == ({"uid": 100.0}, [])
        assert judge(missing, query, {"i-2"}, 160.0, 60.0) == ({"uid": 100.0}, ["uid"])

    def test_being_seen_again_begins_anew(self) -> None:
        query = ServerQuery("r", {"uid": "i-1"}, frozenset({"i-2"}))
        assert judge({"uid": 1.0}, query, {"i-1", "i-2"}, 100.0, 60.0) == ({}, [])

    @given(st.lists(st.sets(st.sampled_from(["i-1", "i-2", "i-3"])), max_size=8))
    def test_no_answer_without_all_witnesses_counts(self, answers: list[set[str]]) -> None:
        query = ServerQuery("r", {"uid": "i-1"}, frozenset({"i-2", "i-3"}))
        missing: dict[str, float] = {}
        answered = 0
        for now, answer in enumerate(answers):
            missing, gone = judge(missing, query, answer, now * 60.0, 60.0)
            if answer >= {"i-2", "i-3"}:
                answered = 0 if "i-1" in answer else answered + 1
            assert not gone or (answered >= 2 and answer >= {"i-2", "i-3"})


@pytest.mark.parametrize(
    ("taints", "stopped", "wanted"),
    [
        (None, False, None),
        (None, True, [{"key": SHUTDOWN, "effect": "NoSchedule"}]),
        ([STOPPED], True, None),
        (
            [OTHER],
            True,
            [
                {"key": "team", "value": "a", "effect": "NoExecute", "timeAdded": OTHER.timeAdded},
                {"key": SHUTDOWN, "effect": "NoSchedule"},
            ],
        ),
        ([OTHER, STOPPED], False, [{"key": "team", "value": "a", "effect": "NoExecute", "timeAdded": OTHER.timeAdded}]),
    ],
)
def test_a_node_says_that_its_server_is_stopped(
    taints: list[Taint] | None, stopped: bool, wanted: list[dict[str, str]] | None
) -> None:
    patch = shutdown_patch(make_node(taints=taints), stopped=stopped)
    assert patch == (wanted and {"metadata": {"resourceVersion": "7"}, "spec": {"taints": wanted}})


def test_the_last_taint_is_removed_with_the_list() -> None:
    patch = shutdown_patch(make_node(taints=[STOPPED]), stopped=False)
    assert patch is not None
    assert patch["spec"] == {"taints": None}
