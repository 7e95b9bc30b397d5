"""Pods of Namespaces that the administrator names reach the metadata service, and nobody else by their addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from spiderpool.agent import metadata_access
from spiderpool.agent.attachment_store import AttachmentStore, InterfaceRecord, SandboxRecord
from spiderpool.agent.metadata_access import MetadataAccess
from spiderpool.core.network.plumbing.values import Attachment
from spiderpool.errors import AddressInUse, KernelFailure
from spiderpool.kernel.metadata_filter import MOST_ALLOWED
from spiderpool.telemetry import METADATA_OPEN
from tests.agent.sandbox_node import CONFIG, sandbox_node
from tests.support.eventually import eventually
from tests.support.running import running

pytestmark = pytest.mark.unit

FIRST = "10.0.0.1"


class SimulatedFilter:
    """A node's packet filter: which addresses pass; None when there are no rules."""

    def __init__(self) -> None:
        self.passing: list[str] | None = None
        self.loads = 0
        self.failure: Exception | None = None

    def load(self, address: IPv4Address, allowed: Collection[IPv4Address] = (), /) -> None:
        self.loads += 1
        if self.failure:
            raise self.failure
        assert str(address) == "100.100.100.200"
        self.passing = [*map(str, allowed)]

    def unload(self, address: IPv4Address, /) -> None:
        self.passing = None


def access(
    kernel: SimulatedFilter, *namespaces: str, blocked: bool = True, provider: str = "alibaba"
) -> MetadataAccess:
    return MetadataAccess(provider, blocked=blocked, namespaces=namespaces, kernel=kernel)


def sandbox(container: str, namespace: str, *addresses: str, netns: str = "/nowhere") -> SandboxRecord:
    interface = InterfaceRecord("eth0", "n", addresses=tuple(f"{each}/24" for each in addresses))
    return SandboxRecord(container, netns, f"K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=p", (interface,))


async def test_a_pod_passes_while_it_has_its_interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it loses one already no more: then the address may be another pod's."""
    kernel = SimulatedFilter()
    async with sandbox_node(tmp_path, access(kernel, "default")) as one:
        await one.attach("c")
        assert kernel.passing == [FIRST]

        async def refuse(*_: object) -> None:
            raise KernelFailure("busy")

        with monkeypatch.context() as patched:
            patched.setattr(one.kernel, "remove", refuse)
            with pytest.raises(KernelFailure):
                await one.detach("c")
        assert kernel.passing == []
        await one.detach("c")


async def test_an_address_that_may_still_pass_is_not_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimulatedFilter()
    async with sandbox_node(tmp_path, access(kernel, "default")) as one:
        await one.attach("c")
        await one.node.terminating("p")
        kernel.failure = KernelFailure("no filter here")
        for _ in range(2):  # the runtime repeats it
            with pytest.raises(KernelFailure, match="not released yet: no filter here"):
                await one.detach("c")
            assert set(one.node.records) == {FIRST}
            assert one.kernel.namespaces["/run/netns/n1/c"].ips() == {FIRST}
        monkeypatch.setattr(metadata_access, "HOLD", 0.0)  # for ever would be too long
        await one.detach("c")
        await eventually(lambda: not one.node.records)


async def test_an_end_that_waited_goes_on_once_the_rules_are_loaded(tmp_path: Path) -> None:
    kernel = SimulatedFilter()
    one, store = access(kernel, "shop"), AttachmentStore(tmp_path, lambda _: False)
    store.save(sandbox("a", "shop", FIRST))
    await one.admit(store.load("a"))
    kernel.failure = KernelFailure("no filter here")
    with pytest.raises(KernelFailure):
        await one.withdraw(store, "a")
    kernel.failure = None
    await one.withdraw(store, "a")
    assert (kernel.passing, one.is_leaving("a")) == ([], False)


async def test_a_failed_add_keeps_interfaces_whose_addresses_may_still_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the address that somebody else uses: whoever gets it next would pass."""
    kernel = SimulatedFilter()
    async with sandbox_node(tmp_path, access(kernel, "default")) as one:
        await one.attach("c")
        kernel.failure = KernelFailure("no filter here")

        async def refuse(_: Attachment) -> None:
            raise AddressInUse("another machine has it")

        monkeypatch.setattr(one.kernel, "add", refuse)
        with pytest.raises(AddressInUse) as raised:
            await one.attacher.add(one.call("ADD", "c", "/run/netns/n1/c"), CONFIG)
        assert any("stay until DEL" in note for note in raised.value.__notes__)
        assert set(one.node.records) == {FIRST}


async def test_an_agent_that_starts_again_lets_nobody_pass_whose_end_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address may be another pod's."""
    async with sandbox_node(tmp_path, access(SimulatedFilter(), "default")) as one:
        await one.attach("c")

        async def refuse(*_: object) -> None:
            raise KernelFailure("busy")

        monkeypatch.setattr(one.kernel, "remove", refuse)
        with pytest.raises(KernelFailure, match="busy"):
            await one.detach("c")
    kernel, store = SimulatedFilter(), AttachmentStore(tmp_path / "sandboxes", lambda _: False)
    again = access(kernel, "default")
    again.restore((store,))
    kernel.failure = KernelFailure("no filter here")
    with pytest.raises(KernelFailure, match="not released yet"):  # the former agent's rules may be there
        await again.withdraw(store, "c")
    kernel.failure = None
    async with running(again.run()):
        await eventually(lambda: kernel.passing == [])


async def test_a_pod_without_its_interfaces_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimulatedFilter()

    async def refuse(_: Attachment) -> None:
        raise KernelFailure("busy")

    async with sandbox_node(tmp_path, access(kernel, "default")) as one:
        monkeypatch.setattr(one.kernel, "add", refuse)
        with pytest.raises(KernelFailure):
            await one.attach("c")
    assert not kernel.passing


async def test_pods_of_other_namespaces_load_nothing(tmp_path: Path) -> None:
    kernel = SimulatedFilter()
    async with sandbox_node(tmp_path, access(kernel, "shop")) as one:
        await one.attach("c")
        await one.detach("c")
    assert kernel.loads == 0


@pytest.mark.parametrize(
    ("blocked", "provider"), [(False, "alibaba"), (True, "")], ids=["all pods may", "there is no service"]
)
async def test_without_rules_no_pod_loads_any(tmp_path: Path, blocked: bool, provider: str) -> None:
    kernel = SimulatedFilter()
    one = access(kernel, "default", blocked=blocked, provider=provider)
    await one.admit(sandbox("a", "default", FIRST))
    await one.withdraw(AttachmentStore(tmp_path), "a")
    assert kernel.loads == 0


async def test_an_agent_that_starts_again_knows_the_pods_that_run(tmp_path: Path) -> None:
    kernel, store = SimulatedFilter(), AttachmentStore(tmp_path, lambda netns: netns == "/gone")
    for each in (
        sandbox("a", "shop", FIRST),
        sandbox("b", "shop", "10.0.0.2", "fd00::2"),
        sandbox("c", "blog", "10.0.0.3"),
        sandbox("d", "shop", "10.0.0.4", netns="/gone"),
    ):
        store.save(each)
    one = access(kernel, "shop")
    one.restore((store,))
    async with running(one.run()):
        await eventually(lambda: kernel.passing is not None)
        assert kernel.passing == [FIRST, "10.0.0.2"]
        await one.withdraw(store, "a", "net1")
        assert kernel.passing == [FIRST, "10.0.0.2"]
        await one.withdraw(store, "a", "eth0")
        assert kernel.passing == ["10.0.0.2"]


async def test_a_store_that_cannot_be_read_keeps_no_agent_from_its_start(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no folder")
    one = access(SimulatedFilter(), "shop")
    one.restore((AttachmentStore(tmp_path / "store"),))


async def test_what_could_not_be_loaded_is_loaded_at_the_next_call() -> None:
    kernel = SimulatedFilter()
    one = access(kernel, "shop")
    kernel.failure = KernelFailure("no filter here")
    await one.admit(sandbox("a", "shop", FIRST))
    (metric,) = METADATA_OPEN.collect()
    assert (kernel.passing, metric.samples[0].value) == (None, 1)
    kernel.failure = None
    await one.admit(sandbox("b", "shop", "10.0.0.2"))
    (metric,) = METADATA_OPEN.collect()
    assert (kernel.passing, metric.samples[0].value) == ([FIRST, "10.0.0.2"], 0)


async def test_a_bug_of_a_load_does_not_end_the_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimulatedFilter()
    kernel.failure = RuntimeError("a bug")
    monkeypatch.setattr(metadata_access, "LOOK", 0.01)
    async with running(access(kernel, "shop").run()):
        await eventually(lambda: kernel.loads > 2)
        kernel.failure = None
        await eventually(lambda: kernel.passing == [])


async def test_calls_at_once_end_with_the_rules_of_all(tmp_path: Path) -> None:
    kernel = SimulatedFilter()
    one = access(kernel, "shop")
    begun = [asyncio.create_task(one.admit(sandbox(str(n), "shop", f"10.0.0.{n}"))) for n in range(1, 30)]
    begun[3].cancel()
    await asyncio.wait(begun)
    await asyncio.gather(*(one.withdraw(AttachmentStore(tmp_path), str(n)) for n in range(1, 30) if n != 7))
    assert kernel.passing == ["10.0.0.7"]


async def test_no_more_pass_than_the_filter_takes() -> None:
    kernel = SimulatedFilter()
    many = [str(IPv4Address("10.0.0.0") + number) for number in range(MOST_ALLOWED + 3)]
    await access(kernel, "shop").admit(sandbox("a", "shop", *many))
    assert kernel.passing == many[:MOST_ALLOWED]
