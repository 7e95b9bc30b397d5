"""Whose an address is on a node: by SpiderIPs, and by the files of sandboxes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web

from spiderpool.agent.address_holders import AddressHolders
from spiderpool.agent.attachment_store import AttachmentStore, InterfaceRecord, SandboxRecord
from spiderpool.agent.cluster import ClusterCache
from spiderpool.api.ip import IPSpec, SpiderIP
from spiderpool.api.meta import ObjectMeta
from tests.support.clients import answered_by

pytestmark = pytest.mark.unit

WEB, OTHER = ip_address("10.0.0.1"), ip_address("10.0.0.2")


def sandbox(container: str, pod: str, address: str, *, uid: str = "", at: float = 1.0) -> SandboxRecord:
    arguments = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};K8S_POD_UID={uid}"
    interface = InterfaceRecord("eth0", "", addresses=(f"{address}/24",), chain="net")
    return SandboxRecord(container, "/run/netns/x", arguments, (interface,), attached_at=at)


@pytest.fixture
async def cluster() -> AsyncIterator[ClusterCache]:
    """The cache of a node that has a record of pod shop/web, with UID u."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"code": 404}, status=404)

    async with answered_by(answer) as client:
        cluster = ClusterCache(client, "n1")
        meta = ObjectMeta(name="10.0.0.1", uid="r", resourceVersion="1")
        cluster.records.informer.note(
            SpiderIP(metadata=meta, spec=IPSpec("10.0.0.1/24", "p", "n1", "shop", "web", "u", "eth0"))
        )
        yield cluster


def holders(cluster: ClusterCache, path: Path, *known: SandboxRecord, gone: bool = False) -> AddressHolders:
    store = AttachmentStore(path, lambda _: gone)
    for each in known:
        store.save(each)
    return AddressHolders(cluster, (store,))


async def test_what_spiderpool_gave(cluster: ClusterCache, tmp_path: Path) -> None:
    mine = holders(cluster, tmp_path)
    assert mine.granted("u", "eth0") == {WEB}
    assert mine.granted("u", "net1") == mine.granted("v", "eth0") == mine.granted("", "eth0") == frozenset()


@pytest.mark.parametrize("uid", ["u", ""])
async def test_a_pods_own_record_is_none_of_others(cluster: ClusterCache, tmp_path: Path, uid: str) -> None:
    """Also where the runtime does not tell the pod's UID."""
    mine = holders(cluster, tmp_path).snapshot()
    assert mine.taken({WEB}, uid, sandbox("c1", "web", "10.0.0.1", uid=uid)) == {}
    assert mine.taken({WEB}, "v", sandbox("c2", "thief", "10.0.0.1", uid="v")) == {WEB: "pod shop/web"}
    assert mine.taken({OTHER}, "v", sandbox("c2", "thief", "10.0.0.2", uid="v")) == {}


@pytest.mark.parametrize(
    ("known", "gone", "taken"),
    [
        (sandbox("c0", "other", "10.0.0.2"), False, True),
        (sandbox("c0", "other", "10.0.0.2"), True, False),
        (sandbox("c0", "other", "10.0.0.2", at=3.0), False, False),  # it came later
        (sandbox("c0", "thief", "10.0.0.2", uid="former"), False, False),  # a former one of the same name
        (sandbox("c1", "thief", "10.0.0.2"), False, False),  # the very one
    ],
)
async def test_sandboxes_that_were_there_before(
    cluster: ClusterCache, tmp_path: Path, known: SandboxRecord, gone: bool, taken: bool
) -> None:
    mine = holders(cluster, tmp_path, known, gone=gone)
    found = mine.snapshot().taken({OTHER}, "v", sandbox("c1", "thief", "10.0.0.2", uid="v", at=2.0))
    assert found.get(OTHER) == ("pod shop/other" if taken else None)
