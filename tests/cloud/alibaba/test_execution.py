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
    GroupStep,
    ListenerStep,
    RemoveServers,
    ServerStep,
    SetWeights,
    Step,
)
from spiderpool.core.cloud.loadbalancer.values import (
    BackendServer,
    ObservedLoadBalancer,
    ServerGroup,
    ServerType,
)

pytestmark = pytest.mark.unit


async def _not_asked(action: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    raise AssertionError(action)


class PretendBalancer(Execution):
    """A balancer with one group ``g``, which refuses steps as told: by their types, and servers by their number.

    ``full`` are servers that a quota keeps out in any case, and ``lost`` those that exist no longer.
    """

    batch = 20

    def __init__(
        self,
        present: Sequence[BackendServer],
        *,
        room: int = 99,
        full: str = "",
        lost: str = "",
        refuses: tuple[type[Step], ...] = (),
    ) -> None:
        observed = ObservedLoadBalancer("lb-1", "b", "", groups=(ServerGroup("g", {}, frozenset(present)),))
        super().__init__(observed, AccessLists(_not_asked))
        self.servers = [*present]
        self.fewest = len(self.servers)
        self.room, self.full, self.lost, self.refused = room, full.split(), lost.split(), refuses

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
            if any(each.identity in self.lost for each in servers):
                raise CloudNotFound("no such server")
            self.servers += servers

    async def exchange(
        self, former: Sequence[BackendServer], later: Sequence[BackendServer], *, have_gone: bool = False
    ) -> str:
        """Replaces servers by others; returns those that are there then."""
        removal = RemoveServers("g", tuple(former), have_gone=have_gone)
        with suppress(StepsRefused):
            await self.carry_out([AddServers("g", tuple(later)), removal])
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
        (("a b z", "a b", "c d"), 99, "c d", "b z a"),
        (("a b", "a b", "c d"), 99, "d", "b c a"),
        (("z", "z", "c d e"), 99, "c", "d e z"),
        (("a b", "a b", "c d e"), 99, "c d", "b e a"),
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


def pods(names: str, kind: ServerType) -> list[BackendServer]:
    """Pods as servers, by ENIs or by their addresses."""
    return [BackendServer(name, kind, 80, 100, name) for name in names.split()]


@pytest.mark.parametrize("kind", ["eni", "address"])
async def test_what_may_still_answer_comes_back_where_it_makes_no_room(kind: ServerType) -> None:
    present, new = pods("a b c", kind), pods("d e f", kind)
    far = PretendBalancer(present, full="d e f")
    assert (await far.exchange(present, new), far.fewest) == ("b c a", 2)
    far = PretendBalancer(present, full="e f")
    assert (await far.exchange(present, new), far.fewest) == ("b c d a", 3)
    assert await PretendBalancer(present, room=3).exchange(present, new) == "d e f"
    assert await PretendBalancer(present[:1], room=1).exchange(present[:1], new) == "a"


async def test_a_pod_that_has_gone_does_not_come_back_and_the_others_stay() -> None:
    far = PretendBalancer(pods("a b c", "eni"), full="d", lost="a")
    with pytest.raises(StepsRefused) as refused:
        await far.carry_out([AddServers("g", tuple(pods("d", "eni"))), RemoveServers("g", tuple(pods("a b c", "eni")))])
    assert [server.identity for server in far.servers] == ["b", "c"]
    assert [error.message for error in refused.value.refusals] == ["full"]
    assert refused.value.stuck == {"g"}


async def test_pods_make_room_before_nodes() -> None:
    pod, node = pods("a", "eni"), nodes("n")
    assert await PretendBalancer([*node, *pod], room=2).exchange([*node, *pod], pods("b", "eni")) == "b"
    far = PretendBalancer([*node, *pod], full="b")
    assert await far.exchange([*node, *pod], pods("b", "eni")) == "n a"


async def test_what_has_gone_leaves_whether_others_find_room_or_not() -> None:
    gone, new = pods("a b", "eni"), pods("c d", "eni")
    assert await PretendBalancer(gone, room=2).exchange(gone, new, have_gone=True) == "c d"
    assert await PretendBalancer(gone, full="c d").exchange(gone, new, have_gone=True) == ""


@pytest.mark.parametrize(("full", "is_stuck"), [("c d e", True), ("c", False), ("", False)])
async def test_it_is_told_where_nobody_gets_in_for_another(full: str, is_stuck: bool) -> None:
    far = PretendBalancer(nodes("a b"), room=2, full=full)
    with pytest.raises(StepsRefused) as refused:
        await far.carry_out([AddServers("g", tuple(nodes("c d e"))), RemoveServers("g", tuple(nodes("a b")))])
    assert refused.value.full == {"g"}
    assert refused.value.stuck == ({"g"} if is_stuck else frozenset())


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


@pytest.mark.parametrize(
    ("crowded", "placed", "most"),
    [("0", "1234567", 7), ("03", "124567", 9), ("067", "12345", 11), ("012", "", 7), ("234", "01", 9)],
)
async def test_a_server_in_too_many_groups_keeps_only_few_others_out(crowded: str, placed: str, most: int) -> None:
    """The cloud's word is the same as for a full group. Some in a row are taken for that."""
    present: list[str] = []
    calls = 0

    async def send(part: list[BackendServer]) -> None:
        nonlocal calls
        calls += 1
        if any(server.identity in crowded for server in part):
            raise QuotaExceeded("too many groups")
        present.extend(server.identity for server in part)

    sent = await send_servers(send, [BackendServer(str(number), "instance", 80) for number in range(8)], 8)
    assert ("".join(present), calls) == (placed, most)
    assert sent.placed == len(placed)
    assert {each.identity for each in sent.unplaced} == {*"01234567"} - {*placed}


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (2, [1, 1]), (5, [3, 1, 1])])
def test_what_makes_room_goes_by_halves(count: int, sizes: list[int]) -> None:
    assert [len(part) for part in halves([BackendServer("i", "instance", port) for port in range(count)])] == sizes
