"""Cases of balancers: how they are made, lent, changed and given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.core.cloud.alibaba.annotations import LEGACY_PREFIX, PREFIX
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.kinds import options_of
from spiderpool.core.cloud.loadbalancer.planning import (
    ownership_fault,
    plan,
    plan_removal,
    reuse_fault,
    unchangeable,
)
from spiderpool.core.cloud.loadbalancer.steps import DeleteBalancer
from spiderpool.core.cloud.loadbalancer.succession import absence, preserves
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from tests.core.cloud.alibaba.reference_cases.playing import (
    FOREIGN,
    brief,
    changes,
    classic,
    either,
    judged,
    lent,
    said,
)
from tests.core.pretend_balancers import HTTP, KINDS, carried_out, reached, service

pytestmark = pytest.mark.unit
shows = pytest.mark.reference_case
DEFAULT_NAME = "a0a1b2c3d4e5f60718293a4b5c6d7e8f"
BOTH = pytest.mark.parametrize("kind", ["clb", "nlb"])
PAID = {"instance-charge-type": "PayBySpec", "charge-type": "paybybandwidth"}


@shows("a balancer with the defaults", "spec.type")
@BOTH
def test_a_balancer_with_the_defaults(kind: str) -> None:
    made = reached(either(kind), None)
    protected = {"clb": ("DeleteProtection", "on"), "nlb": ("DeletionProtectionEnabled", "true")}[kind]
    assert made.name == DEFAULT_NAME
    assert made.settings["AddressType"].lower() == "internet"
    assert made.settings[protected[0]] == protected[1]
    assert made.tags["kubernetes.do.not.delete"] == DEFAULT_NAME
    assert made.tags["ack.aliyun.com"] == "c1"
    assert [str(each) for each in made.listeners] == ["tcp/80"]


@shows("a private balancer")
def test_a_private_balancer() -> None:
    by_default = reached(classic(annotations={"address-type": "intranet"}), None).settings
    assert (by_default["AddressType"], by_default["VSwitchId"]) == ("intranet", "vsw-1")
    chosen = reached(classic(annotations={"address-type": "intranet", "vswitch-id": "vsw-2"}), None).settings
    assert chosen["VSwitchId"] == "vsw-2"
    (fault,) = said(judged(annotations={"address-type": "intranet"}, configuration=BalancerConfiguration()).faults)
    assert fault == "annotation vswitch-id is missing: a private balancer needs one"


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        pytest.param(
            {"address-type": "intranet"},
            {"address-type": "internet"},
            "address-type of a balancer cannot be changed: it is intranet, the Service asks for internet",
            marks=shows("a private balancer is to become public, or the other way round"),
        ),
        pytest.param(
            {},
            {"address-type": "intranet"},
            "address-type of a balancer cannot be changed: it is internet, the Service asks for intranet",
            marks=shows("a private balancer is to become public, or the other way round"),
        ),
        *[
            pytest.param(
                {"address-type": "intranet", suffix: before},
                {"address-type": "intranet", suffix: after},
                f"{suffix} of a balancer cannot be changed: it is {before}, the Service asks for {after}",
                marks=shows("another vSwitch, zone, address, IP version or resource group is asked for later"),
            )
            for suffix, before, after in [
                ("vswitch-id", "vsw-1", "vsw-2"),
                ("master-zoneid", "cn-hangzhou-h", "cn-hangzhou-i"),
                ("slave-zoneid", "cn-hangzhou-h", "cn-hangzhou-i"),
                ("ip", "10.0.0.9", "10.0.0.8"),
                ("ip-version", "ipv4", "ipv6"),
                ("resource-group-id", "rg-1", "rg-2"),
            ]
        ],
    ],
)
def test_what_is_decided_when_a_balancer_is_made(before: dict[str, str], after: dict[str, str], kept: str) -> None:
    observed, model = reached(classic(annotations=before), None), classic(annotations=after)
    assert unchangeable(model, observed) == (kept,)
    assert [str(step) for step in plan(model, observed)] == []


@shows("another size")
def test_another_size() -> None:
    small, large = ({"instance-charge-type": "PayBySpec", "spec": f"slb.{size}"} for size in ("s1.small", "s3.large"))
    assert changes(classic(annotations=small), classic(annotations=large)) == [
        "change the balancer's size: LoadBalancerSpec slb.s1.small → slb.s3.large"
    ]


@shows("another bandwidth, or another way of paying for the Internet")
def test_another_bandwidth() -> None:
    narrow, wide = (classic(annotations={**PAID, "bandwidth": number}) for number in ("5", "20"))
    by_traffic = classic(annotations={"instance-charge-type": "PayBySpec"})
    assert changes(narrow, wide) == ["change the balancer's bandwidth: Bandwidth 5 → 20"]
    assert changes(wide, by_traffic) == [
        "change the balancer's bandwidth: InternetChargeType paybybandwidth → paybytraffic"
    ]


@shows("payment by use becomes payment by size")
def test_payment_by_use_becomes_payment_by_size() -> None:
    steps = changes(classic(), classic(annotations={"instance-charge-type": "PayBySpec"}))
    assert steps[0] == "change the balancer's payment: InstanceChargeType PayByCLCU → PayBySpec"


@shows("payment by bandwidth without payment by size")
def test_payment_by_bandwidth_without_payment_by_size() -> None:
    found = judged(annotations={"charge-type": "paybybandwidth", "bandwidth": "5"})
    assert said(found.faults) == [
        "annotation charge-type paybybandwidth needs annotation instance-charge-type: PayBySpec"
    ]
    assert not found.steps


@shows("payment by bandwidth for a private balancer")
def test_payment_by_bandwidth_for_a_private_balancer() -> None:
    private = {"address-type": "intranet", "charge-type": "paybybandwidth", "bandwidth": "5"}
    found = judged(annotations=private)
    assert said(found.notes) == [
        "annotation charge-type has no effect: the balancer is private",
        "annotation bandwidth has no effect: the balancer is private",
    ]
    assert changes(classic(annotations={"address-type": "intranet"}), classic(annotations=private)) == []


@shows("a lent balancer", "id")
@BOTH
def test_a_lent_balancer(kind: str) -> None:
    model = either(kind, annotations={"id": "lb-u"})
    after = reached(model, lent(kind))
    assert reuse_fault(model, lent(kind)) is None
    assert (after.listeners, after.settings) == ((FOREIGN,), lent(kind).settings)
    assert len(after.groups) == 1
    assert after.tags == {"team": "x", "kubernetes.reused.by.user": "true"}


@shows("a lent balancer whose listeners the Service sets", "force-override-listeners")
@BOTH
def test_a_lent_balancer_whose_listeners_the_service_sets(kind: str) -> None:
    model = either(kind, annotations={"id": "lb-u", "force-override-listeners": "true"})
    theirs = replace(FOREIGN, port=80)
    after = reached(model, lent(kind, listeners=(FOREIGN, theirs)))
    assert [str(each) for each in after.listeners] == ["tcp/8080", "tcp/80"]
    assert after.listeners[0] == FOREIGN
    assert after.listeners[1].group == model.groups[0].name
    of_another = replace(
        theirs, description={"clb": "k8s/80/other/default/c1"}.get(kind, "k8s.80.TCP.other.default.c1")
    )
    assert "belongs to another Service" in (reuse_fault(model, lent(kind, listeners=(of_another,))) or "")


@shows("a lent balancer that was made for a Service")
@BOTH
def test_a_lent_balancer_that_was_made_for_a_service(kind: str) -> None:
    model = either(kind, annotations={"id": "lb-1"})
    assert "was made for a Service and cannot be lent to another" in (
        reuse_fault(model, reached(either(kind), None)) or ""
    )


@shows("a lent balancer that does not exist")
@BOTH
def test_a_lent_balancer_that_does_not_exist(kind: str) -> None:
    asked = service(HTTP, annotations={"id": "lb-none"})
    found = absence(asked, options_of(asked, KINDS[kind]), either(kind).owner)
    assert found == f"load balancer lb-none, which annotation {PREFIX}id names, does not exist"


@shows("a lent balancer in another resource group", "resource-group-id")
@BOTH
def test_a_lent_balancer_in_another_resource_group(kind: str) -> None:
    model = either(kind, annotations={"id": "lb-u", "resource-group-id": "rg-2"})
    assert unchangeable(model, lent(kind)) == (
        "resource-group-id of a balancer cannot be changed: it is rg-1, the Service asks for rg-2",
    )
    assert reached(model, lent(kind)).groups[0].servers


@shows("further tags of a lent balancer")
@BOTH
def test_further_tags_of_a_lent_balancer(kind: str) -> None:
    model = either(kind, annotations={"id": "lb-u", "additional-resource-tags": "cost=y,team=z"})
    after = reached(model, lent(kind))
    assert (after.tags["cost"], after.tags["team"]) == ("y", "x")
    (told,) = unchangeable(model, after)
    assert told.endswith("cannot change tag team: it is x, the Service asks for z")
    without = reached(either(kind, annotations={"id": "lb-u"}), after)
    assert without.tags == {"team": "x", "kubernetes.reused.by.user": "true"}
    returned = carried_out(plan_removal(KINDS[kind], model.owner, after, preserve=False), after)
    assert returned is not None
    assert returned.tags == {"team": "x"}


@shows("an elastic IP as the published address", "external-ip-type")
def test_an_elastic_ip_as_the_published_address() -> None:
    private = {"address-type": "intranet", "external-ip-type": "eip"}
    assert classic(annotations=private).by_elastic_ip
    (fault,) = said(judged(annotations={"external-ip-type": "eip"}).faults)
    assert fault.startswith("annotation external-ip-type is for private IPv4 balancers")


@shows("further tags are added, changed and taken away", "a further tag without a value")
@BOTH
def test_further_tags(kind: str) -> None:
    two, other, one = (
        either(kind, annotations={"additional-resource-tags": text}) for text in ("a=1,b=2", "a=1,b=3,c", "a=1")
    )
    first = reached(two, None)
    second = reached(other, first)
    last = reached(one, second)
    tags = [{key: value for key, value in each.tags.items() if key in "abc"} for each in (first, second, last)]
    assert tags == [{"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": ""}, {"a": "1"}]


@shows("another name, or other protections", "name", "delete-protection", "modification-protection")
@BOTH
def test_another_name_or_other_protections(kind: str) -> None:
    unprotected = {"delete-protection": "off", "modification-protection": "NonProtection"}
    after = reached(either(kind, annotations={"name": "shop", **unprotected}), reached(either(kind), None))
    assert KINDS[kind].unprotected.items() <= after.settings.items()
    assert after.settings["LoadBalancerName"] == "shop"
    (fault,) = said(judged(kind=KINDS[kind], annotations={"name": "x" * 81}).faults)
    assert fault.startswith("annotation name must be a name, not 'xxx")


@shows("a host name is published", "hostname")
def test_a_host_name_is_published() -> None:
    assert classic(annotations={"hostname": "web.example.com"}).hostname == "web.example.com"


@shows("annotations with the older prefix")
@BOTH
def test_annotations_with_the_older_prefix(kind: str) -> None:
    older = {f"{LEGACY_PREFIX}name": "older", f"{LEGACY_PREFIX}delete-protection": "off"}
    assert either(kind, annotations=older).name == "older"
    assert either(kind, annotations={**older, "name": "newer"}).name == "newer"
    assert KINDS[kind].unprotected.items() & either(kind, annotations=older).settings.items()


@shows("its tag is taken away by hand", "tags kubernetes.do.not.delete, ack.aliyun.com, kubernetes.reused.by.user")
@BOTH
def test_its_tag_is_taken_away_by_hand(kind: str) -> None:
    model = either(kind)
    made = reached(model, None)
    untagged = replace(made, tags={key: made.tags[key] for key in made.tags if key != "kubernetes.do.not.delete"})
    assert ownership_fault(model, untagged) is None
    assert [str(step) for step in plan(model, untagged)] == [
        f"tag the balancer: kubernetes.do.not.delete={DEFAULT_NAME}"
    ]


@shows("its tag is taken away by hand, and it has a name of its own")
@BOTH
def test_its_tag_is_taken_away_by_hand_and_it_has_a_name_of_its_own(kind: str) -> None:
    model = either(kind, annotations={"name": "shop"})
    untagged = replace(reached(model, None), name="shop", tags={})
    assert "lacks the tags of this Service" in (ownership_fault(model, untagged) or "")
    removal = plan_removal(KINDS[kind], model.owner, untagged, preserve=False)
    assert not any(isinstance(step, DeleteBalancer) for step in removal)


@shows("the Service becomes internal, or is deleted", "its balancer outlives the Service", "preserve-lb-on-delete")
@BOTH
def test_the_service_is_deleted(kind: str) -> None:
    model = either(kind)
    observed = reached(model, None)
    removal = [str(step) for step in plan_removal(KINDS[kind], model.owner, observed, preserve=False)]
    groups = {"clb": [], "nlb": ["delete server group k8s.30698.TCP.web.default.c1"]}[kind]
    assert removal[1:] == ["delete balancer lb-1", *groups]
    preserved = carried_out(plan_removal(KINDS[kind], model.owner, observed, preserve=True), observed)
    assert preserved is not None
    assert (preserved.listeners, preserved.groups) == (observed.listeners, observed.groups)
    assert not preserved.tags.keys() & {"kubernetes.do.not.delete", "ack.aliyun.com"}


@shows("its balancer outlives the Service", "preserve-lb-on-delete")
@pytest.mark.parametrize(
    ("text", "preserved"), [("true", True), ("on", True), ("false", False), ("off", False), ("any", True), ("", True)]
)
def test_what_makes_a_balancer_outlive_its_service(text: str, preserved: bool) -> None:
    asked = service(HTTP, annotations={"preserve-lb-on-delete": text})
    assert [preserves(asked, kind) for kind in (CLB, NLB)] == [preserved, preserved]


@shows("a tunnel type", "tunnel-type")
@BOTH
def test_a_tunnel_type(kind: str) -> None:
    (fault,) = said(judged(kind=KINDS[kind], annotations={"tunnel-type": "tunnel"}).faults)
    assert fault.startswith("annotation tunnel-type says that other software serves this Service")


@shows("the classic network", "network-type", "slb-network-type")
@pytest.mark.parametrize("suffix", ["network-type", "slb-network-type"])
@BOTH
def test_the_classic_network(kind: str, suffix: str) -> None:
    found = judged(kind=KINDS[kind], annotations={suffix: "classic"})
    assert said(found.notes) == [f"annotation {suffix} has no effect: it is not supported"]
    assert brief([str(step) for step in found.steps])[0].startswith(f"create {kind} balancer")


@shows("several vSwitches, of which one with free addresses is chosen", "vswitch-id")
def test_one_vswitch_only() -> None:
    found = judged(annotations={"address-type": "intranet", "vswitch-id": "vsw-1,vsw-2"})
    assert said(found.faults)[0] == "annotation vswitch-id must be an identity, not 'vsw-1,vsw-2'"
