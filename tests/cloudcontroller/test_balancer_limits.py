"""How balancers are counted: by kinds whose lists fail apart, and by balancers, however many Services there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from spiderpool.api.core_v1 import LoadBalancerIngress, LoadBalancerStatus, Service, ServiceSpec, ServiceStatus
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec
from spiderpool.api.meta import ObjectMeta
from spiderpool.cloud.alibaba.clb import ClassicLoadBalancers
from spiderpool.cloud.alibaba.elastic_ips import ElasticIPs
from spiderpool.cloud.alibaba.nlb import NetworkLoadBalancers
from spiderpool.cloud.alibaba.pod_enis import PodENIs
from spiderpool.cloud.loadbalancers import LoadBalancerAPI, LoadBalancers
from spiderpool.cloud.provider import CloudUnavailable, NotPermitted
from spiderpool.cloudcontroller.balancer_limits import BalancerLimits, TooManyLoadBalancers
from spiderpool.cloudcontroller.balancer_lists import AGE, DELAY, LAST_PAUSE
from spiderpool.core.cloud.alibaba.annotations import PREFIX
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB, kind_of
from spiderpool.core.cloud.alibaba.naming import ORIGIN_TAG
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import owner_of
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool.kube.informer import Informer
from spiderpool_lab.alibaba import balancers
from spiderpool_lab.alibaba.clb_balancers import DEFAULTS
from spiderpool_lab.alibaba.faults import Fault
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.cloudcontroller.service_cluster import NAMESPACE, REGION, Clock
from tests.support.api_server import ApiServer

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

CONFIGURATION = BalancerConfiguration(cluster="c1", max_per_namespace=2, max_per_cluster=3)
PRESERVED = {ORIGIN_TAG: f"c1/{NAMESPACE}/preserved"}
FORBIDDEN = Fault(kind="refuse", actions="nlb:ListLoadBalancers", code="Forbidden.RAM", status=403)
DOWN = Fault(kind="refuse", actions="nlb:ListLoadBalancers", code="ServiceUnavailable", status=503)


class Readings:
    """Counts how often the kind of a Service is read."""

    number = 0

    def kind_of(self, service: Service) -> BalancerKind | None:
        self.number += 1
        return kind_of(service)


@asynccontextmanager
async def limits(
    simulated: SimulatedCloud, clock: Clock, *services: Service, readings: Readings | None = None
) -> AsyncIterator[BalancerLimits]:
    """The limits of a cluster with these Services."""
    api = simulated.client()
    apis: dict[BalancerKind, LoadBalancerAPI] = {
        CLB: ClassicLoadBalancers(api, REGION),
        NLB: NetworkLoadBalancers(api, REGION, pause=0.05),
    }
    found = LoadBalancers(
        (readings or Readings()).kind_of, apis, PodENIs(api, REGION, "vpc-1"), ElasticIPs(api, REGION)
    )
    async with ApiServer(Service.KIND) as server, server.client() as client:
        informer = Informer(client, Service)
        made = BalancerLimits(found, informer, CONFIGURATION, clock)
        for each in services:
            informer.note(each)
        yield made


def service(name: str, *, held: BalancerKind | None = None, published: bool = False, nlb: bool = False) -> Service:
    finalizers = [held.naming.finalizer] if held else None
    annotations = {f"{PREFIX}type": "nlb"} if nlb else {}
    ingress = [LoadBalancerIngress(ip="198.51.100.1")] if published else None
    return Service(
        metadata=ObjectMeta(
            name=name, namespace=NAMESPACE, uid=f"uid-{name}", finalizers=finalizers, annotations=annotations
        ),
        spec=ServiceSpec(type="LoadBalancer"),
        status=ServiceStatus(loadBalancer=LoadBalancerStatus(ingress=ingress)),
    )


def add_clb(simulated: SimulatedCloud, identity: str, of: Service) -> None:
    """Makes a balancer for a Service, as the cloud shows it."""
    owner = owner_of(of, CONFIGURATION)
    tags = {**CLB.naming.own_tags(owner), **CLB.naming.origin_tags(owner)}
    simulated.account.tables.clbs.put(balancers.CLB(identity, identity, "198.51.100.1", {**DEFAULTS}, tags=tags))


def add_preserved(simulated: SimulatedCloud, *identities: str) -> None:
    """Makes classic balancers that have outlived their Services."""
    for identity in identities:
        made = balancers.CLB(identity, identity, "198.51.100.2", {**DEFAULTS}, tags=PRESERVED)
        simulated.account.tables.clbs.put(made)


async def test_a_kind_that_is_refused_does_not_stop_the_other(simulated: SimulatedCloud) -> None:
    simulated.account.set_fault(FORBIDDEN)
    web = service("web")
    async with limits(simulated, Clock(), web) as found:
        await found.check(web, CLB, [])
        async with found.place(web, CLB, []) as unlisted:
            (line,) = unlisted
        assert line.startswith("nlb load balancers cannot be listed, and those of Services count: ")
        with pytest.raises(NotPermitted):
            await found.check(web, NLB, [])


async def test_what_was_listed_counts_while_there_is_no_newer_list(simulated: SimulatedCloud) -> None:
    clock, web = Clock(), service("web")
    add_preserved(simulated, "lb-1", "lb-2")
    async with limits(simulated, clock, web) as found:
        with pytest.raises(TooManyLoadBalancers):
            await found.check(web, NLB, [])
        simulated.account.set_fault(msgspec.structs.replace(DOWN, actions="slb:DescribeLoadBalancers"))
        clock.now += AGE + 1
        with pytest.raises(TooManyLoadBalancers):
            await found.check(web, NLB, [])
        simulated.account.faults.clear()
        simulated.account.tables.clbs.remove("lb-1")
        clock.now += AGE + 1
        async with found.place(web, NLB, []) as unlisted:
            assert unlisted == ()


async def test_an_outage_is_waited_for_while_nothing_is_known(simulated: SimulatedCloud) -> None:
    """Balancers that have outlived their Services are known to the cloud alone."""
    clock, web = Clock(), service("web")
    add_preserved(simulated, "lb-1", "lb-2")
    number = simulated.account.set_fault(msgspec.structs.replace(DOWN, actions="slb:DescribeLoadBalancers"))
    async with limits(simulated, clock, web) as found:
        for _ in range(3):
            with pytest.raises(CloudUnavailable):
                await found.check(web, NLB, [])
            clock.now += AGE + 1
        simulated.account.faults.clear(number)
        clock.now += AGE + 1
        with pytest.raises(TooManyLoadBalancers):
            await found.check(web, NLB, [])


async def test_an_outage_that_lasts_does_not_stop_the_other_kind(simulated: SimulatedCloud) -> None:
    clock, web = Clock(), service("web")
    simulated.account.set_fault(DOWN)
    async with limits(simulated, clock, web) as found:
        with pytest.raises(CloudUnavailable):
            await found.check(web, CLB, [])
        clock.now += DELAY
        await found.check(web, CLB, [])
        for _ in range(10):
            clock.now += LAST_PAUSE / 2
            await found.check(web, CLB, [])
        simulated.account.calls.clear()
        for _ in range(20):
            clock.now += AGE + 1
            await found.check(web, CLB, [])
        tries = simulated.outcomes("nlb:ListLoadBalancers")
        assert len(tries) <= 2 * 5  # a call is repeated a few times
        assert len(simulated.outcomes("slb:DescribeLoadBalancers")) == 20


async def test_services_of_a_kind_count_though_it_was_never_listed(simulated: SimulatedCloud) -> None:
    simulated.account.set_fault(FORBIDDEN)
    known = [service(f"nlb-{number}", held=NLB, published=True, nlb=True) for number in range(2)]
    async with limits(simulated, Clock(), *known) as found:
        with pytest.raises(TooManyLoadBalancers):
            await found.check(service("web"), CLB, [])


async def test_a_deleted_balancer_counts_no_longer_whatever_the_list_shows(simulated: SimulatedCloud) -> None:
    clock, web = Clock(), service("web")
    for number in range(2):
        add_clb(simulated, f"lb-{number}", service(f"old-{number}"))
    async with limits(simulated, clock, web) as found:
        with pytest.raises(TooManyLoadBalancers):
            await found.check(web, CLB, [])
        found.forget(CLB, "lb-0")
        await found.check(web, CLB, [])
        clock.now += AGE + 1  # the new list still has it
        await found.check(web, CLB, [])
        clock.now += DELAY
        with pytest.raises(TooManyLoadBalancers):
            await found.check(web, CLB, [])


async def test_the_place_of_a_balancer_that_goes_is_kept_for_the_one_that_comes(simulated: SimulatedCloud) -> None:
    web, other = service("web", held=CLB, published=True, nlb=True), service("other", held=CLB, published=True)
    add_clb(simulated, "lb-web", web)
    add_clb(simulated, "lb-other", other)
    async with limits(simulated, Clock(), web, other) as found:
        with pytest.raises(TooManyLoadBalancers):
            await found.reserve(web, NLB, [], leaving=[])
        await found.reserve(web, NLB, [], leaving=[CLB])
        found.forget(CLB, "lb-web")
        with pytest.raises(TooManyLoadBalancers):
            await found.check(service("more"), CLB, [])
        await found.check(web, NLB, [LoadBalancerGrantSpec(namespaces=["*"], maxLoadBalancers=3)])


async def test_a_service_that_may_not_switch_has_one_balancer(simulated: SimulatedCloud) -> None:
    web = service("web", held=CLB, published=True, nlb=True)
    add_clb(simulated, "lb-web", web)
    async with limits(simulated, Clock(), web) as found:
        await found.check(service("more"), CLB, [])


async def test_a_count_does_not_look_at_services_without_a_balancer(simulated: SimulatedCloud) -> None:
    readings = Readings()
    waiting = [service(f"web-{number}") for number in range(100)]
    async with limits(simulated, Clock(), *waiting, readings=readings) as found:
        readings.number = 0
        for each in waiting:
            await found.check(each, CLB, [])
        assert readings.number == 0


async def test_a_service_may_change_its_kind_soon_after_it_was_made(simulated: SimulatedCloud) -> None:
    clock, web, other = Clock(), service("web"), service("other", held=CLB, published=True)
    add_clb(simulated, "lb-other", other)
    async with limits(simulated, clock, web, other) as found:
        async with found.place(web, CLB, []):
            add_clb(simulated, "lb-web", web)
        clock.now += AGE + 1
        await found.reserve(web, NLB, [], leaving=[CLB])
        simulated.account.tables.clbs.remove("lb-web")
        found.forget(CLB, "lb-web")
        await found.check(web, NLB, [])


async def test_balancers_that_are_exchanged_are_together_one_more_than_the_limit(simulated: SimulatedCloud) -> None:
    """Two Services have the two balancers of their Namespace, and both ask for another kind."""
    first, second = (service(name, held=CLB, published=True, nlb=True) for name in ("first", "second"))
    for each in (first, second):
        add_clb(simulated, f"lb-{each.name}", each)
    async with limits(simulated, Clock(), first, second) as found:
        async with found.place(first, NLB, [], leaving=[CLB]):
            with pytest.raises(TooManyLoadBalancers, match="has 2 load balancers"):
                await found.reserve(second, NLB, [], leaving=[CLB])
        with pytest.raises(TooManyLoadBalancers):
            await found.reserve(second, NLB, [], leaving=[CLB])
        assert found.by_state()[("used",)] == 3, "two, and the one that is made"


async def test_a_balancer_that_is_gone_has_no_place_though_its_service_is_not_released(
    simulated: SimulatedCloud,
) -> None:
    """A Service has been given a classic balancer for its network one, of which something is still in use."""
    web, more = service("web", held=NLB, published=True), service("more")
    web.metadata.finalizers = [NLB.naming.finalizer, CLB.naming.finalizer]
    add_clb(simulated, "lb-web", web)
    async with limits(simulated, Clock(), web) as found:
        with pytest.raises(TooManyLoadBalancers):
            await found.check(more, CLB, [])
        found.release(web, NLB)
        await found.check(more, CLB, [])
        async with found.place(web, NLB, []):  # it asks for that kind again
            with pytest.raises(TooManyLoadBalancers):
                await found.check(more, CLB, [])


async def test_orphans_are_counted_and_named_each_time_others_are_found(
    simulated: SimulatedCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, gone = Clock(), service("gone")
    add_clb(simulated, "lb-gone", gone)
    async with limits(simulated, clock) as counted:
        for _ in range(2):
            await counted.recount()
            assert counted.by_state()[("orphaned",)] == 1
            clock.now += AGE + 1
        simulated.account.tables.clbs.remove("lb-gone")
        await counted.recount()
        assert counted.by_state()[("orphaned",)] == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if "load balancers without a Service" in line]
    assert len(warnings) == 1
    assert "lb-gone" in warnings[0]
