"""Which balancers of a Service stay and which go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.api.core_v1 import LoadBalancerIngress, Service
from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.alibaba.naming import CLUSTER_TAG, NAME_TAG
from spiderpool.core.cloud.loadbalancer import succession
from spiderpool.core.cloud.loadbalancer.adoption import keeps_its_kind
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import options_of
from spiderpool.core.cloud.loadbalancer.model import owner_of
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.succession import Eligibility, Standing, standing_of
from spiderpool.core.cloud.loadbalancer.values import ObservedLoadBalancer
from tests.core.pretend_balancers import CONFIGURATION, HTTP, carried_out, model_of, node, service

pytestmark = pytest.mark.unit

OWNER = owner_of(service(HTTP), CONFIGURATION)


def recorded(identity: str, **spec: object) -> Service:
    """A Service whose label names a balancer."""
    made = service(HTTP, **spec)
    made.metadata.labels = {CLB.naming.identity_label: identity}
    return made


def made() -> ObservedLoadBalancer:
    """The balancer that was made for the Service."""
    found = carried_out(plan(model_of(service(HTTP), BackendSnapshot([node("a")])), None), None)
    assert found is not None
    return found


def test_a_service_that_is_being_deleted_asks_for_nothing() -> None:
    deleted = service(HTTP)
    assert standing_of(deleted, CLB, [CLB]) == Standing(CLB, has_asked=True)
    deleted.metadata.deletionTimestamp = "2026-01-01T00:00:00Z"
    assert standing_of(deleted, CLB, [CLB]) == Standing(None, (CLB,))
    assert not succession.stays_for_another(deleted, standing_of(deleted, CLB, [CLB]))


def test_servers_are_kept_up_to_date_of_what_a_service_has() -> None:
    assert Standing(NLB, (CLB,)).held == (CLB,)
    assert Standing(NLB).held == (NLB,)
    assert Standing(None).held == ()
    assert standing_of(service(HTTP), CLB, [CLB, NLB]).held == (NLB, CLB), "clients may use either"
    assert Standing(NLB, (CLB,)).keeping(CLB) == Standing(CLB, has_asked=True)


def test_what_another_controller_is_asked_for_stays() -> None:
    assert succession.stays_for_another(service(HTTP), Standing(None, (CLB,)))
    assert not succession.stays_for_another(service(HTTP, type="ClusterIP"), Standing(None, (CLB,)))
    assert not succession.stays_for_another(service(HTTP), Standing(None))
    assert not succession.stays_for_another(service(HTTP), Standing(NLB, (CLB,)))


def test_where_a_balancer_is_looked_for() -> None:
    named = service(HTTP, annotations={"id": "lb-mine"})
    assert succession.sought(named, options_of(named, CLB)) == ("lb-mine",)
    assert succession.sought(recorded("lb-1"), options_of(recorded("lb-1"), CLB)) == ("lb-1", "")
    assert succession.sought(service(HTTP), options_of(service(HTTP), CLB)) == ("",)
    assert succession.sought_of_former(recorded("lb-1"), CLB) == ("lb-1", "")
    assert succession.sought_of_former(named, CLB) == ("lb-mine", "")
    exchanged = recorded("nlb-2")
    exchanged.metadata.labels = {**(exchanged.metadata.labels or {}), CLB.naming.other_identity_label: "lb-1"}
    assert succession.sought_of_former(exchanged, CLB) == ("nlb-2", "lb-1", "")


def test_another_balancer_than_the_one_that_a_service_has_is_refused() -> None:
    fault = "names lb-mine, and this Service has balancer lb-1"
    other = recorded("lb-1", annotations={"id": "lb-mine"})
    assert fault in succession.identity_fault(other, options_of(other, CLB))
    same = recorded("lb-1", annotations={"id": "lb-1"})
    assert succession.identity_fault(same, options_of(same, CLB)) == ""


def test_no_balancer_is_made_in_place_of_one_that_was_not_found() -> None:
    new, had, named = service(HTTP), recorded("lb-1"), service(HTTP, annotations={"id": "lb-mine"})
    reached = service(HTTP)
    reached.status.loadBalancer.ingress = [LoadBalancerIngress(ip="198.51.100.9")]
    assert succession.absence(new, options_of(new, CLB), OWNER) == ""
    assert "lb-1 cannot be found" in succession.absence(had, options_of(had, CLB), OWNER)
    assert "lb-mine, which annotation" in succession.absence(named, options_of(named, CLB), OWNER)
    name = CLB.naming.balancer_name(OWNER)
    assert f"{name} cannot be found" in succession.absence(reached, options_of(reached, CLB), OWNER)


OWN_NAME = {"hostname": "web.example.com"}
ELASTIC = {"address-type": "intranet", "external-ip-type": "eip"}


@pytest.mark.parametrize(
    ("label", "ingress", "annotations", "is_published"),
    [
        ("nlb-1", LoadBalancerIngress(ip=made().address), {}, True),
        (made().identity, LoadBalancerIngress(ip="198.51.100.99"), {}, False),
        (made().identity, LoadBalancerIngress(hostname="web.example.com"), OWN_NAME, True),
        ("nlb-1", LoadBalancerIngress(hostname="web.example.com"), OWN_NAME, False),
        (made().identity, LoadBalancerIngress(hostname="nlb-1.nlb.aliyuncs.com"), OWN_NAME, False),
        (made().identity, LoadBalancerIngress(ip="198.51.100.99"), ELASTIC, True),
        ("nlb-1", LoadBalancerIngress(ip="198.51.100.99"), ELASTIC, False),
        (made().identity, LoadBalancerIngress(hostname="nlb-1.nlb.aliyuncs.com"), ELASTIC, False),
    ],
)
def test_clients_are_sent_to_a_balancer_by_its_address_or_else_by_the_label(
    label: str, ingress: LoadBalancerIngress, annotations: dict[str, str], is_published: bool
) -> None:
    """The label is written before the address."""
    web = recorded(label, annotations=annotations)
    web.status.loadBalancer.ingress = [ingress]
    assert succession.is_published(web, model_of(web, BackendSnapshot([])), made()) is is_published


def test_a_balancer_is_held_by_its_tags() -> None:
    assert succession.is_held(made(), CLB, OWNER)
    assert succession.is_held(replace(made(), name="mine", tags={CLB.naming.reuse_tag: "true"}), CLB, OWNER)
    assert not succession.is_held(replace(made(), name="mine", tags={}), CLB, OWNER)


def test_a_label_alone_says_nothing_of_a_balancer() -> None:
    labelled, lent = recorded("lb-2"), service(HTTP, annotations={"id": "lb-2"})
    other = replace(made(), identity="lb-2", name="other", tags={NAME_TAG: "other"}, listeners=(), groups=())
    assert succession.concerns(labelled, CLB, OWNER, made())
    assert not succession.concerns(labelled, CLB, OWNER, other)
    assert succession.concerns(lent, CLB, OWNER, other)
    assert succession.concerns(labelled, CLB, OWNER, replace(other, groups=made().groups)), "it has something of it"
    of_another_cluster = replace(other, name=made().name, tags={CLUSTER_TAG: "c0"})
    assert succession.concerns(labelled, CLB, OWNER, of_another_cluster), "which is told"


def test_a_balancer_from_before_there_was_a_tag_of_the_cluster_is_held_and_keeps_its_kind() -> None:
    older = replace(made(), tags={NAME_TAG: made().name})
    assert succession.is_held(older, CLB, OWNER)
    assert keeps_its_kind(service(HTTP), CLB, OWNER, older)
    others = replace(made(), tags={NAME_TAG: made().name, CLUSTER_TAG: "c0"})
    assert not succession.is_held(others, CLB, OWNER)
    assert not keeps_its_kind(service(HTTP), CLB, OWNER, others)


def test_what_is_in_the_way_of_another_kind() -> None:
    def eligible(*granted: LoadBalancerGrantSpec, **annotations: str) -> Eligibility:
        asking = service(HTTP, annotations={key.replace("_", "-"): text for key, text in annotations.items()})
        return succession.eligibility_of(asking, options_of(asking, NLB), CONFIGURATION, granted)

    zones, granted = "cn-hangzhou-i:vsw-1,cn-hangzhou-h:vsw-2", LoadBalancerGrantSpec([], vSwitches=["vsw-2"])
    assert eligible().faults
    assert not eligible().may_take_over
    assert [need.value for need in eligible(zone_maps=zones).missing] == ["vsw-2"]
    assert not eligible(zone_maps=zones).may_take_over
    assert eligible(granted, zone_maps=zones).may_take_over


def test_what_is_in_use_is_not_refused() -> None:
    paid = service(HTTP, annotations={"instance-charge-type": "PayBySpec", "spec": "slb.s2.small"})
    model = model_of(paid, BackendSnapshot([node("a")]))
    eligibility = succession.eligibility_of(paid, model.options, CONFIGURATION, ())
    assert [need.field for need in eligibility.refused(model, None)] == ["specs"]
    assert eligibility.refused(model, carried_out(plan(model, None), None)) == ()


def test_nobody_pays_for_a_balancer_without_service_unasked() -> None:
    kept, unclear = (service(HTTP, annotations={"preserve-lb-on-delete": text}) for text in ("on", "perhaps"))
    consent = LoadBalancerGrantSpec(["default"], preserve=True)
    for each in (kept, unclear):
        assert succession.preserves(each, CLB)
        need = succession.refused_preservation(each, CLB, OWNER, made(), ())
        assert need is not None
        assert "balancer and Service stay" in succession.waiting_for_consent(need, "default")
        assert succession.refused_preservation(each, CLB, OWNER, made(), [consent]) is None
        lent = replace(made(), tags={})
        assert succession.refused_preservation(each, CLB, OWNER, lent, ()) is None
    assert succession.refused_preservation(service(HTTP), CLB, OWNER, made(), ()) is None
