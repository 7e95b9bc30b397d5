"""Servers in batches, some of which no longer exist or find no room, and what is told of refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest

from spiderpool.cloud.alibaba.clb_access_lists import AccessLists
from spiderpool.cloud.alibaba.execution import Execution, halves, send_servers
from spiderpool.cloud.provider import (
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    QuotaExceeded,
    Rejected,
    StepsRefused,
)
from spiderpool.core.cloud.loadbalancer.steps import (
    AddServers,
    BalancerStep,
    CreateListener,
    DeleteListener,
    GroupStep,
    ListenerStep,
    RemoveServers,
    ServerStep,
    SetWeights,
    Step,
    Tag,
)
from spiderpool.core.cloud.loadbalancer.values import BackendServer, Listener, ObservedLoadBalancer, ServerGroup

pytestmark = pytest.mark.unit


async def _not_asked(action: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    raise AssertionError(action)


class PretendBalancer(Execution):
    """A balancer with one group ``g``, which refuses steps as told: by their types, and servers by their number.

    ``full`` are servers that a quota keeps out in any case.
    """

    batch = 20

    def __init__(
        self, present: Sequence[BackendServer], *, room: int = 99, full: str = "", refuses: tuple[type[Step], ...] = ()
    ) -> None:
        observed = ObservedLoadBalancer("lb-1", "b", "", groups=(ServerGroup("g", {}, frozenset(present)),))
        super().__init__(observed, AccessLists(_not_asked))
        self.servers = [*present]
        self.fewest = len(self.servers)
        self.room, self.full, self.refused = room, full.split(), refuses

    def _check(self, step: type[Step]) -> None:
        if issubclass(step, self.refused):
            raise Rejected("no")

    async def change_balancer(self, step: BalancerStep) -> None:
        self._check(type(step))

    async def change_group(self, step: GroupStep) -> None:
        self._check(type(step))

    async def change_listener(self, step: ListenerStep) -> None:
        self._check(type(step))

    async def send_servers(self, kind: type[ServerStep], group: str, servers: list[BackendServer]) -> None:
        self._check(kind)
        if kind is RemoveServers:
            self.servers = [server for server in self.servers if server not in servers]
            self.fewest = min(self.fewest, len(self.servers))
        elif kind is AddServers:
            if len(self.servers) + len(servers) > self.room or any(each.identity in self.full for each in servers):
                raise QuotaExceeded("full")
            self.servers += servers

    async def exchange(self, former: Sequence[BackendServer], later: Sequence[BackendServer]) -> str:
        """Replaces servers by others; returns those that are there then."""
        with suppress(StepsRefused):
            await self.carry_out([AddServers("g", tuple(later)), RemoveServers("g", tuple(former))])
        return " ".join(server.identity for server in self.servers)


def nodes(names: str) -> list[BackendServer]:
    """Nodes as servers."""
    return [BackendServer(name, "instance", 80) for name in names.split()]


@pytest.mark.parametrize(
    ("servers", "room", "full", "after"),
    [
        (("a b", "a b", "c d"), 2, "", "c d"),
        (("a b c d", "a b c d", "e f g h"), 4, "", "e f g h"),
        (("a b", "a b", "c d"), 99, "c d", "b a"),
        (("a b c", "a b c", "d e f"), 99, "d e f", "b c a"),
        (("a", "a", "b"), 1, "", "a"),
        (("a", "a", "b"), 99, "b", "a"),
        (("a b z", "a b", "c d"), 99, "c d", "b z"),
        (("a b", "a b", "c d"), 99, "d", "b c"),
        (("a b", "a b", "c d"), 99, "", "c d"),
    ],
)
async def test_nodes_make_room_for_others_and_stay_where_that_makes_none(
    servers: tuple[str, str, str], room: int, full: str, after: str
) -> None:
    """``servers`` are those that are there, those of them that are to leave, and those that are to come."""
    present, gone, new = map(nodes, servers)
    far = PretendBalancer(present, room=room, full=full)
    assert await far.exchange(gone, new) == after
    assert far.fewest >= 1


async def test_pods_that_have_gone_leave_whether_others_find_room_or_not() -> None:
    gone, new = BackendServer("eni-1", "eni", 80, 100, "10.0.0.1"), BackendServer("eni-2", "eni", 80, 100, "10.0.0.2")
    assert await PretendBalancer([gone], room=1).exchange([gone], [new]) == "eni-2"
    assert await PretendBalancer([gone], full="eni-2").exchange([gone], [new]) == ""


async def test_the_refusal_of_the_only_step_stops_no_address_from_being_published() -> None:
    with pytest.raises(StepsRefused, match="no") as refused:
        await PretendBalancer([], refuses=(Tag,)).carry_out([Tag((("team", "x"),))])
    assert refused.value.serves


async def test_a_port_whose_listener_was_not_begun_is_not_served() -> None:
    listener = Listener(80, "tcp", "mine", "g")
    with pytest.raises(StepsRefused, match="no") as refused:
        await PretendBalancer([], refuses=(DeleteListener,)).carry_out(
            [DeleteListener(listener), CreateListener(listener)]
        )
    assert not refused.value.serves


async def test_a_quota_is_told_of_the_groups_alone_that_it_keeps_servers_out_of() -> None:
    new = AddServers("g", tuple(nodes("a")))
    with pytest.raises(StepsRefused) as refused:
        await PretendBalancer([], room=0).carry_out([new])
    assert refused.value.full == {"g"}
    for refuses in (AddServers, SetWeights):
        with pytest.raises(StepsRefused) as refused:
            await PretendBalancer(nodes("a"), refuses=(refuses,)).carry_out([new, SetWeights("g", tuple(nodes("b")))])
        assert refused.value.full == frozenset()


@pytest.mark.parametrize("kind", [CloudNotFound, Rejected])
async def test_servers_are_sent_in_batches_and_one_by_one_around_those_that_are_refused(
    kind: type[CloudError],
) -> None:
    servers = [BackendServer(f"i-{number}", "instance", 80) for number in range(5)]
    sent: list[list[str]] = []

    async def send(part: list[BackendServer]) -> None:
        sent.append([server.identity for server in part])
        if "i-3" in sent[-1]:
            raise kind("not i-3")

    errors = (await send_servers(send, servers, 2)).refusals
    assert sent == [["i-0", "i-1"], ["i-2", "i-3"], ["i-2"], ["i-3"], ["i-4"]]
    assert [error.message for error in errors] == ["not i-3"]


async def test_what_is_not_about_a_server_ends_the_step() -> None:
    sent: list[list[BackendServer]] = []

    async def send(part: list[BackendServer]) -> None:
        sent.append(part)
        raise CloudUnavailable("no answer")

    with pytest.raises(CloudUnavailable):
        await send_servers(send, [BackendServer(f"i-{number}", "instance", 80) for number in range(5)], 2)
    assert len(sent) == 1


async def test_at_a_quota_as_many_get_in_as_there_is_room_for() -> None:
    servers = [BackendServer(f"i-{number}", "instance", 80) for number in range(8)]
    present: list[str] = []

    async def send(part: list[BackendServer]) -> None:
        if len(present) + len(part) > 5:
            raise QuotaExceeded("five")
        present.extend(server.identity for server in part)

    sent = await send_servers(send, servers, 8)
    assert present == ["i-0", "i-1", "i-2", "i-3", "i-4"]
    assert [server.identity for server in sent.unplaced] == ["i-5", "i-6", "i-7"]
    assert sent.quota is not None
    assert not sent.refusals


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (2, [1, 1]), (5, [3, 1, 1])])
def test_what_makes_room_goes_by_halves(count: int, sizes: list[int]) -> None:
    assert [len(part) for part in halves([BackendServer("i", "instance", port) for port in range(count)])] == sizes
