"""`migrate --undo`: what the other release finds afterwards."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from spiderpool.api.applications import Deployment, StatefulSet, WorkloadSpec
from spiderpool.api.core_v1 import Pod
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ip import IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import SpiderIPPool
from spiderpool.api.kubevirt import VirtualMachine
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.cli.installation import AGENT, COMPONENT_LABEL
from spiderpool.cli.migration.back import give_back, preview
from spiderpool.cli.migration.look import AgentDaemonSet
from spiderpool.cli.migration.steps import take_over
from spiderpool.core.ipam.migration_groups import Side
from spiderpool.errors import Refused, SpiderpoolError
from spiderpool.kube.client import Client
from tests.cli.migration.other_release import PLACES, agents, go_cluster, ours, put, side
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually
from tests.support.go_cluster import STATEFUL_SET, pod

pytestmark = pytest.mark.unit


class TestGivingBack:
    async def test_the_other_release_is_removed(self, server: ApiServer, client: Client) -> None:
        server.remove(agents())
        server.remove(ours())
        with pytest.raises(Refused, match="the other release has been removed"):
            await give_back(client, PLACES)

    async def test_pods_that_started_meanwhile_are_told_to_it(self, server: ApiServer, client: Client) -> None:
        made = go_cluster()
        put(server, made)
        await take_over(client, PLACES, ["n1"], 5.0)
        old = server.stored(SpiderIP)["10.6.0.1"]
        new = pod("web-3", {"eth0": {"one": "10.6.0.5"}})
        server.put(new)
        uids = {each.name: each.metadata.uid for each in server.stored(Pod).values()}
        meta = ObjectMeta(name="10.6.0.5", labels=old.metadata.labels)
        spec = {"address": "10.6.0.5/24", "pod": "web-3", "podUID": uids["web-3"]}
        server.put(SpiderIP(metadata=meta, spec=replace(old.spec, **spec)))
        assert "it cannot be undone now: our agents run" in (await preview(client, PLACES))[0]
        server.remove(ours())
        assert len(await preview(client, PLACES)) == 1
        done = await give_back(client, PLACES)
        assert "1 SpiderEndpoints written for pods that started meanwhile" in done
        assert not server.stored(SpiderIP)
        status = server.stored(SpiderIPPool)["one"].status
        assert status is not None
        assert json.loads(status.allocatedIPs or "") == {
            "10.6.0.1": {"pod": "shop/web-1", "podUid": uids["web-1"]},
            "10.6.0.5": {"pod": "shop/web-3", "podUid": uids["web-3"]},
        }
        assert status.allocatedIPCount == 2
        endpoint = server.stored(SpiderEndpoint)["shop/web-3"]
        assert endpoint.metadata.finalizers == ["spiderpool.spidernet.io"]
        assert (side(server, "n1"), side(server, "n2")) == (None, None)
        assert server.stored(AgentDaemonSet)["kube-system/spiderpool-agent"].affinity is None
        assert not server.stored(AgentDaemonSet)["kube-system/spiderpool-agent"].metadata.annotations

    @pytest.mark.parametrize("needed", [True, False])
    async def test_a_fixed_address_whose_pod_has_ended(self, server: ApiServer, client: Client, needed: bool) -> None:
        """Without a SpiderEndpoint the other release would give it to another pod."""
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        labels = server.stored(SpiderIP)["10.6.0.1"].metadata.labels
        held = (
            ("db-0", "10.6.0.5", "eth0", IPOwner("StatefulSet", "shop", "db")),
            ("db-0", "10.6.0.6", "net1", IPOwner("StatefulSet", "shop", "db")),
            ("virt-launcher-vm-x", "10.6.0.7", "eth0", IPOwner("VirtualMachineInstance", "shop", "vm")),
        )
        for name, address, interface, owner in held:
            spec = IPSpec(f"{address}/24", "one", "n1", "shop", name, f"uid-of-{name}", interface, owner)
            server.put(SpiderIP(metadata=ObjectMeta(name=address, labels=labels), spec=spec))
        if needed:
            server.put(StatefulSet(metadata=ObjectMeta(name="db", namespace="shop"), spec=WorkloadSpec(replicas=1)))
            server.put(VirtualMachine(metadata=ObjectMeta(name="vm", namespace="shop")))
        server.remove(ours())
        done = await give_back(client, PLACES)
        found = {key: each for key, each in server.stored(SpiderEndpoint).items() if key in ("shop/db-0", "shop/vm")}
        sentence = "2 SpiderEndpoints written for fixed addresses whose pods have ended meanwhile"
        assert (sentence in done, bool(found)) == (needed, needed)
        if needed:
            assert {each.metadata.ownerReferences for each in found.values()} == {None}, "it outlives its pod"
            status = found["shop/db-0"].status
            assert status is not None
            assert (status.ownerControllerType, status.current.uid) == ("StatefulSet", "uid-of-db-0")
            assert [(each.interface, each.ipv4) for each in status.current.ips] == [
                ("eth0", "10.6.0.5/24"),
                ("net1", "10.6.0.6/24"),
            ]

    async def test_a_pod_that_has_begun_keeps_its_endpoint_from_what_its_forerunner_left(
        self, server: ApiServer, client: Client
    ) -> None:
        made = go_cluster()
        made.pod("db-0", {"eth0": {"one": "10.6.0.5"}}, STATEFUL_SET)
        put(server, made)
        server.put(StatefulSet(metadata=ObjectMeta(name="db", namespace="shop"), spec=WorkloadSpec(replicas=1)))
        await take_over(client, PLACES, ["n1"], 5.0)
        left = replace(server.stored(SpiderIP)["10.6.0.5"], metadata=ObjectMeta(name="10.6.0.6"))
        left.spec = replace(left.spec, address="10.6.0.6/24", podUID="uid-of-former", interface="net1")
        server.put(left)
        server.remove(ours())
        await give_back(client, PLACES)
        status = server.stored(SpiderEndpoint)["shop/db-0"].status
        assert status is not None
        assert [each.ipv4 for each in status.current.ips] == ["10.6.0.5/24"]

    async def test_nothing_begins_on_nodes_whose_spiderips_are_deleted_in_part(
        self, server: ApiServer, client: Client
    ) -> None:
        """Who changes their mind then, and installs our agents again, would have them give addresses in use."""
        put(server, go_cluster())
        await take_over(client, PLACES, [], 5.0)
        server.remove(ours())
        server.inject(Fault("delete", times=99, plural="spiderreservedips", status=500))
        with pytest.raises(SpiderpoolError):
            await give_back(client, PLACES)
        assert not server.stored(SpiderIP)
        assert (side(server, "n1"), side(server, "n2")) == (Side.MOVING, Side.MOVING)
        server.clear_faults()
        server.put(ours())
        await take_over(client, PLACES, [], 5.0)
        assert {*server.stored(SpiderIP)} == {"10.6.0.1", "10.7.0.1"}

    async def test_records_are_written_after_the_endpoints_that_name_them(
        self, server: ApiServer, client: Client
    ) -> None:
        """The other controller frees the address of a living pod whose SpiderEndpoint has another UID or address."""
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        again = pod("web-1", {"eth0": {"one": "10.6.0.5"}}, uid="uid-of-next")
        server.remove(server.stored(Pod)["shop/web-1"])
        server.put(again)
        old = server.stored(SpiderIP)["10.6.0.1"]
        uid = server.stored(Pod)["shop/web-1"].metadata.uid or ""
        spec = replace(old.spec, address="10.6.0.5/24", podUID=uid)
        server.remove(old)
        server.put(SpiderIP(metadata=ObjectMeta(name="10.6.0.5", labels=old.metadata.labels), spec=spec))
        server.remove(ours())
        server.inject(Fault("patch", times=99, plural="spiderippools", status=500))
        with pytest.raises(SpiderpoolError):
            await give_back(client, PLACES)
        status = server.stored(SpiderEndpoint)["shop/web-1"].status
        assert status is not None
        assert status.current.uid == uid
        server.clear_faults()
        server.put(ours())
        await take_over(client, PLACES, ["n1"], 5.0)
        assert not server.stored(SpiderReservedIP), "whose address it is is known"

    async def test_an_address_that_an_agent_gives_while_it_ends(self, server: ApiServer, client: Client) -> None:
        """Agents may end only after records were read, and give an address between."""
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        record = server.stored(SpiderIP)["10.6.0.1"]
        agent = pod("ours-x", {})
        agent.metadata.namespace, agent.metadata.labels = "spiderpool", {COMPONENT_LABEL: AGENT}
        server.remove(ours())
        server.put(agent)
        server.inject(Fault("list", plural="statefulsets", delay=0.5))
        server.list_queries.clear()
        giving_back = asyncio.create_task(give_back(client, PLACES))
        await eventually(lambda: "pods" in [plural for plural, _ in server.list_queries])
        late = replace(record.spec, address="10.6.0.7/24", pod="late", podUID="uid-late")
        server.put(SpiderIP(metadata=ObjectMeta(name="10.6.0.7", labels=record.metadata.labels), spec=late))
        server.remove(agent)
        await giving_back
        status = server.stored(SpiderIPPool)["one"].status
        assert status is not None
        assert "10.6.0.7" in json.loads(status.allocatedIPs or "")
        assert not server.stored(SpiderIP)

    async def test_our_agents_are_in_another_namespace(self, server: ApiServer, client: Client) -> None:
        """Who forgets --namespace must not have SpiderIPs deleted under agents that run."""
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        server.remove(ours())
        agent = pod("ours-x", {})
        agent.metadata.namespace, agent.metadata.labels = "elsewhere", {COMPONENT_LABEL: AGENT}
        theirs = pod("theirs-x", {})
        theirs.metadata.namespace, theirs.metadata.labels = "kube-system", {COMPONENT_LABEL: AGENT}
        server.put(agent, theirs)
        with pytest.raises(Refused, match=r"our agents run: .* --namespace elsewhere"):
            await give_back(client, PLACES)
        assert server.stored(SpiderIP)
        server.remove(agent)
        await give_back(client, PLACES)

    async def test_our_controller_runs(self, server: ApiServer, client: Client) -> None:
        server.remove(ours())
        server.put(Deployment(metadata=ObjectMeta(name="spiderpool-controller", namespace="spiderpool")))
        with pytest.raises(Refused, match="our controller runs"):
            await give_back(client, PLACES)

    async def test_a_pod_whose_owner_is_being_deleted(self, server: ApiServer, client: Client) -> None:
        made = go_cluster()
        put(server, made)
        await take_over(client, PLACES, ["n1"], 5.0)
        server.remove(made.endpoints[0])
        server.remove(ours())
        await give_back(client, PLACES)
        status = server.stored(SpiderEndpoint)["shop/web-1"].status
        assert status is not None
        assert status.ownerControllerType == "Pod"

    async def test_a_pool_that_cannot_be_read(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        await take_over(client, PLACES, ["n1"], 5.0)
        pool = server.stored(SpiderIPPool)["one"]
        assert pool.status is not None
        pool.status.allocatedIPs = "{"
        server.put(pool)
        server.remove(ours())
        with pytest.raises(Refused, match=r"pool one: status\.allocatedIPs is no JSON"):
            await give_back(client, PLACES)
        assert server.stored(SpiderIP)
