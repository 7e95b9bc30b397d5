"""Plans: applied to a pretended balancer they lead to what should be, and then there is nothing left to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.planning import (
    only_backends,
    ownership_fault,
    plan,
    plan_removal,
    reuse_fault,
    unchangeable,
)
from spiderpool.core.cloud.loadbalancer.steps import (
    AddServers,
    CreateGroup,
    CreateListener,
    DeleteBalancer,
    DeleteGroup,
    DeleteListener,
    RemoveServers,
    Tag,
    Untag,
)
from spiderpool.core.cloud.loadbalancer.values import (
    BackendServer,
    Listener,
    ObservedLoadBalancer,
    ServerGroup,
)
from tests.core.pretend_balancers import HTTP, SECURE, carried_out, endpoints, model_of, node, reached, service

pytestmark = pytest.mark.unit

RECORD, TEAM = "spiderpool.tags.9f55b56106949de815ea", "ca8b22d0db83a22db163"
"""Tag that records the Service's further tags, and what stands in it for the tag ``team``."""

NODES = BackendSnapshot([node("a"), node("b")])
DEFAULT_NAME = "a0a1b2c3d4e5f60718293a4b5c6d7e8f"
FOREIGN = Listener(8080, "tcp", "mine", "rsp-mine", {"Scheduler": "rr"})


def network(annotations: dict[str, str]) -> LoadBalancerModel:
    """What a Service with a network balancer asks for."""
    given = {"zone-maps": "h:v,i:w"} | annotations
    return model_of(service(HTTP, loadBalancerClass="alibabacloud.com/nlb", annotations=given), NODES)


def changed(model: LoadBalancerModel, observed: ObservedLoadBalancer) -> list[str]:
    """The steps of a plan as text."""
    return [str(step) for step in plan(model, observed)]


def test_a_new_balancer_is_filled_before_its_listeners_lead_anywhere() -> None:
    steps = plan(model_of(service(HTTP), NODES), None)
    kinds = [type(step).__name__ for step in steps]
    assert kinds == ["CreateBalancer", "CreateGroup", "AddServers", "CreateListener"]


def test_a_server_comes_before_another_goes() -> None:
    observed = reached(model_of(service(HTTP), BackendSnapshot([node("a")])), None)
    steps = changed(model_of(service(HTTP), BackendSnapshot([node("b")])), observed)
    assert steps == [
        "add to k8s/30698/web/default/c1: i-b:30698 weight 100",
        "remove from k8s/30698/web/default/c1: i-a:30698 weight 100",
    ]


def test_weights_follow_unless_they_are_to_be_left_alone() -> None:
    def model(*names: str, **annotations: str) -> LoadBalancerModel:
        requested = service(HTTP, externalTrafficPolicy="Local", annotations=annotations)
        pods = [(f"10.0.0.{place}", name) for place, name in enumerate(names)]
        return model_of(requested, BackendSnapshot([node("a")], [endpoints(*pods)]))

    observed = reached(model("a"), None)
    assert changed(model("a", "a"), observed) == ["weights in k8s/30698/web/default/c1: i-a:30698 weight 2"]
    assert changed(model("a", "a", **{"ignore-weight-update": "on"}), observed) == []


def test_a_pod_whose_eni_is_not_known_stays_if_it_was_there() -> None:
    requested = service(HTTP, annotations={"service.beta.kubernetes.io/backend-type": "eni"})
    slices = [endpoints(("10.0.0.1", "a"))]
    observed = reached(model_of(requested, BackendSnapshot([], slices, {"10.0.0.1": "eni-1"})), None)
    assert plan(model_of(requested, BackendSnapshot([], slices)), observed) == ()
    assert len(plan(model_of(requested, BackendSnapshot()), observed)) == 1


GROUP = "k8s/30698/web/default/c1"


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [
        ({}, {}, []),
        ({}, {"name": "shop"}, [f"change the balancer's name: LoadBalancerName {DEFAULT_NAME} → shop"]),
        ({"name": "shop"}, {}, [f"change the balancer's name: LoadBalancerName shop → {DEFAULT_NAME}"]),
        ({}, {"delete-protection": "off"}, ["change the balancer's delete protection: DeleteProtection on → off"]),
        (
            {"modification-protection": "NonProtection"},
            {},
            [
                "change the balancer's modification protection: "
                "ModificationProtectionStatus NonProtection → ConsoleProtection"
            ],
        ),
        (
            {},
            {"instance-charge-type": "PayBySpec", "spec": "slb.s3.large"},
            [
                "change the balancer's payment: InstanceChargeType PayByCLCU → PayBySpec",
                "change the balancer's size: LoadBalancerSpec (none) → slb.s3.large",
            ],
        ),
        (
            {},
            {"charge-type": "paybybandwidth", "bandwidth": "9"},
            ["change the balancer's bandwidth: InternetChargeType paybytraffic → paybybandwidth, Bandwidth (none) → 9"],
        ),
        (
            {"charge-type": "paybybandwidth", "bandwidth": "9"},
            {"charge-type": "paybybandwidth"},
            ["change the balancer's bandwidth: Bandwidth 9 → 50"],
        ),
        ({}, {"additional-resource-tags": "team=x"}, [f"tag the balancer: {RECORD}={TEAM} team=x"]),
        ({"additional-resource-tags": "team=x"}, {"additional-resource-tags": "team=y"}, ["tag the balancer: team=y"]),
        ({"additional-resource-tags": "team=x"}, {}, [f"take tags from the balancer: {RECORD}, team"]),
        (
            {"additional-resource-tags": "team=x,cost=y"},
            {"additional-resource-tags": "team=x"},
            ["take tags from the balancer: cost", f"tag the balancer: {RECORD}={TEAM}"],
        ),
        (
            {"health-check-interval": "9", "scheduler": "rr"},
            {},
            ["change listener tcp/80: Scheduler rr → wrr, HealthCheckInterval 9 → 2"],
        ),
        (
            {},
            {"acl-status": "on", "acl-id": "acl-1"},
            ["change listener tcp/80: AclStatus off → on, AclId (none) → acl-1, AclType (none) → white"],
        ),
        ({"acl-status": "on", "acl-id": "acl-1"}, {}, ["change listener tcp/80: AclStatus on → off"]),
        ({"connection-drain": "on"}, {}, ["change listener tcp/80: ConnectionDrain on → off"]),
        ({}, {"health-check-switch": "off"}, ["change listener tcp/80: HealthCheckSwitch on → off"]),
        ({}, {"default-weight": "7"}, [f"weights in {GROUP}: i-a:30698 weight 7, i-b:30698 weight 7"]),
        (
            {},
            {"backend-label": "role=edge"},
            [f"remove from {GROUP}: i-a:30698 weight 100, i-b:30698 weight 100"],
        ),
        ({}, {"hostname": "web.example.com"}, []),
        ({}, {"preserve-lb-on-delete": "on"}, []),
    ],
)
def test_what_follows_from_a_change_of_annotations(
    before: dict[str, str], after: dict[str, str], steps: list[str]
) -> None:
    observed = reached(model_of(service(HTTP, annotations=before), NODES), None)
    desired = model_of(service(HTTP, annotations=after), NODES)
    assert changed(desired, observed) == steps
    reached(desired, observed)


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [
        (
            {},
            {"cross-zone-enabled": "false", "name": "shop"},
            [
                f"change the balancer's attributes: LoadBalancerName {DEFAULT_NAME} → shop, "
                "CrossZoneEnabled true → false"
            ],
        ),
        (
            {},
            {"delete-protection": "off"},
            ["change the balancer's protection: DeletionProtectionEnabled true → false"],
        ),
        (
            {"security-group-ids": "sg-1"},
            {"security-group-ids": "sg-2,sg-1"},
            ["change the balancer's security groups: SecurityGroupIds sg-1 → sg-1,sg-2"],
        ),
        ({"security-group-ids": "sg-1"}, {}, []),
        ({}, {"cps": "100"}, ["change listener tcp/80: Cps 0 → 100"]),
        (
            {},
            {"scheduler": "sch"},
            ["change server group k8s.30698.TCP.web.default.c1: Scheduler Wrr → sch"],
        ),
        (
            {"health-check-interval": "9"},
            {},
            ["change server group k8s.30698.TCP.web.default.c1: HealthCheckConfig.HealthCheckInterval 9 → 5"],
        ),
        (
            {},
            {"server-group-type": "Ip"},
            [
                "create server group k8s.30698.TCP-ip.web.default.c1: …",
                "add to k8s.30698.TCP-ip.web.default.c1: …",
            ],
        ),
    ],
)
def test_what_follows_from_a_change_of_a_network_balancers_annotations(
    before: dict[str, str], after: dict[str, str], steps: list[str]
) -> None:
    observed = reached(network(before), None)
    found = changed(network(after), observed)
    assert len(found) == len(steps)
    for line, step in zip(found, steps, strict=True):
        assert line == step if not step.endswith("…") else line.startswith(step.removesuffix("…"))
    reached(network(after), observed)


def test_what_somebody_changed_is_repaired() -> None:
    model = model_of(service(HTTP), NODES)
    observed = reached(model, None)
    (listener,), (group,) = observed.listeners, observed.groups
    harmed = replace(
        observed,
        settings={**observed.settings, "DeleteProtection": "off"},
        tags=model.origin,
        listeners=(replace(listener, running=False, settings={**listener.settings, "Scheduler": "rr"}),),
        groups=(replace(group, servers=frozenset({BackendServer("i-x", "instance", 1)})),),
    )
    assert len(plan(model, harmed)) == 6
    assert reached(model, harmed) == observed


def test_another_protocol_needs_another_listener() -> None:
    observed = reached(model_of(service(HTTP), NODES), None)
    steps = changed(model_of(service(HTTP, annotations={"protocol-port": "http:80"}), NODES), observed)
    assert [step.split(":")[0].split(" to ")[0] for step in steps] == [
        "delete listener tcp/80",
        "create listener http/80",
    ]


@pytest.mark.parametrize(
    ("before", "after", "anew"),
    [("wrr", "sch", True), ("sch", "rr", True), ("sch", "tch", True), ("wrr", "wlc", False), ("sch", "sch", False)],
)
def test_hashing_can_neither_be_taken_on_nor_given_up_later(before: str, after: str, anew: bool) -> None:
    observed = reached(model_of(service(HTTP, annotations={"scheduler": before}), NODES), None)
    steps = plan(model_of(service(HTTP, annotations={"scheduler": after}), NODES), observed)
    assert ([type(step) for step in steps] == [DeleteListener, CreateListener]) is anew


def test_a_listener_that_redirects_is_made_anew() -> None:
    secured = {"protocol-port": "http:80,https:443", "cert-id": "crt"}
    observed = reached(model_of(service(HTTP, SECURE, annotations=secured), NODES), None)
    redirected = model_of(service(HTTP, SECURE, annotations=secured | {"forward-port": "80:443"}), NODES)
    assert [step.split(":")[0] for step in changed(redirected, observed)] == [
        "delete listener http/80",
        "create listener http/80",
        "delete server group k8s/30698/web/default/c1",
    ]


def test_a_redirect_comes_after_the_listener_that_it_leads_to() -> None:
    given = {"protocol-port": "http:80,https:443", "cert-id": "crt", "forward-port": "80:443"}
    listeners = plan(model_of(service(HTTP, SECURE, annotations=given), NODES), None)[-2:]
    assert [str(step).split(" to ")[0].split(":")[0] for step in listeners] == [
        "create listener https/443",
        "create listener http/80",
    ]


def test_a_port_that_goes_takes_its_listener_and_group_along() -> None:
    observed = reached(model_of(service(HTTP, SECURE), NODES), None)
    after = reached(model_of(service(HTTP), NODES), observed)
    assert [str(listener) for listener in after.listeners] == ["tcp/80"]
    assert [group.name for group in after.groups] == ["k8s/30698/web/default/c1"]


def test_what_is_not_ours_is_left_alone() -> None:
    model = model_of(service(HTTP), NODES)
    mine = ServerGroup("mine", {}, frozenset({BackendServer("i-x", "instance", 1)}), "rsp-mine")
    other = ServerGroup("k8s/1/other/default/c1", identity="rsp-other")
    observed = replace(reached(model, None), listeners=(FOREIGN,), groups=(mine, other))
    after = reached(model, observed)
    assert FOREIGN in after.listeners
    assert after.groups[:2] == (mine, other)


def test_a_group_of_ours_that_a_users_listener_leads_to_stays() -> None:
    model = model_of(service(HTTP), NODES)
    stale = ServerGroup("k8s/1/web/default/c1", identity="rsp-old")
    leading = replace(FOREIGN, group=stale.name)
    observed = reached(model, None)
    observed = replace(observed, listeners=(*observed.listeners, leading), groups=(*observed.groups, stale))
    assert plan(model, observed) == ()


def test_tags_that_others_have_given_a_balancer_of_ours_stay() -> None:
    named = model_of(service(HTTP, annotations={"additional-resource-tags": "team=x"}), NODES)
    observed = reached(named, None)
    observed = replace(observed, tags={**observed.tags, "cost": "y"})
    plain = model_of(service(HTTP), NODES)
    assert reached(plain, observed).tags == {**plain.tags, **plain.origin, "cost": "y"}


def test_tags_of_a_lent_balancer_come_and_go_with_what_the_service_names() -> None:
    given = {"id": "lb-u", "additional-resource-tags": "team=y,cost=z,zone=i"}
    named = model_of(service(HTTP, annotations=given), NODES)
    lent = replace(LENT, tags={"team": "x", "stage": "prod", "zone": "i"})
    after = reached(named, lent)
    reuse = {"kubernetes.reused.by.user": "true"}
    assert {key: value for key, value in after.tags.items() if key != RECORD} == {**lent.tags, "cost": "z", **reuse}
    (said,) = unchangeable(named, after)
    assert said.endswith("cannot change tag team: it is x, the Service asks for y")
    assert reached(model_of(service(HTTP, annotations={"id": "lb-u"}), NODES), after).tags == {**lent.tags, **reuse}
    returned = carried_out(plan_removal(CLB, named.owner, after, preserve=False), after)
    assert returned is not None
    assert returned.tags == lent.tags


def test_what_a_service_says_of_a_lent_balancer_and_is_not_so_is_reported() -> None:
    given = {"id": "lb-u", "address-type": "intranet", "resource-group-id": "rg-2"}
    lent = replace(LENT, settings={**LENT.settings, "ResourceGroupId": "rg-1"})
    assert [
        text.split(" of ")[0] for text in unchangeable(model_of(service(HTTP, annotations=given), NODES), lent)
    ] == [
        "address-type",
        "resource-group-id",
    ]
    assert unchangeable(model_of(service(HTTP, annotations={"id": "lb-u"}), NODES), lent) == ()


LENT = ObservedLoadBalancer("lb-u", "users", "198.51.100.9", {"AddressType": "internet"}, {"team": "x"}, (FOREIGN,), ())


def test_a_lent_balancer_keeps_its_settings_and_listeners() -> None:
    model = model_of(service(HTTP, annotations={"id": "lb-u"}), NODES)
    after = reached(model, LENT)
    assert after.listeners == (FOREIGN,)
    assert after.settings == LENT.settings
    assert after.tags == {"team": "x", "kubernetes.reused.by.user": "true"}
    assert [group.name for group in after.groups] == ["k8s/30698/web/default/c1"]


def test_a_lent_balancer_gets_listeners_when_its_user_says_so() -> None:
    requested = service(HTTP, annotations={"id": "lb-u", "force-override-listeners": "true"})
    after = reached(model_of(requested, NODES), replace(LENT, listeners=(FOREIGN, replace(FOREIGN, port=80))))
    assert [str(each) for each in after.listeners] == ["tcp/8080", "tcp/80"]
    assert after.listener(8080, "tcp") == FOREIGN


def test_a_balancer_made_for_a_service_is_not_lent() -> None:
    model = model_of(service(HTTP, annotations={"id": "lb-u"}), NODES)
    assert reuse_fault(model, LENT) is None
    assert "cannot be lent" in (reuse_fault(model, replace(LENT, tags={"ack.aliyun.com": "c2"})) or "")


def test_a_server_group_of_the_user_must_be_there_and_keeps_the_servers_of_others() -> None:
    model = model_of(service(HTTP, annotations={"id": "lb-u", "vgroup-port": "rsp-1:80"}), NODES)
    assert "rsp-1, which is no server group of yours" in (reuse_fault(model, LENT) or "")
    assert not any(isinstance(step, CreateGroup) for step in plan(model, None))
    former = BackendServer("i-z", "instance", 30698, 100)
    group = ServerGroup("rsp-1", servers=frozenset({former}), identity="rsp-1", is_lent=True)
    lent = replace(LENT, groups=(*LENT.groups, group))
    assert reuse_fault(model, lent) is None
    steps = [step for step in plan(model, lent) if not isinstance(step, Tag)]
    assert [type(step) for step in steps] == [AddServers, RemoveServers]
    elsewhere = model_of(service(HTTP, annotations={"id": "lb-u", "vgroup-port": "rsp-2:80"}), NODES)
    assert "remove from rsp-1: i-z:30698 weight 100" in map(str, plan(elsewhere, lent))
    assert [str(step) for step in plan_removal(CLB, model.owner, lent, preserve=False)] == [
        "remove from rsp-1: i-z:30698 weight 100"
    ]


def test_two_services_do_not_fight_for_a_port_of_a_lent_balancer() -> None:
    model = model_of(service(HTTP, annotations={"id": "lb-u", "force-override-listeners": "true"}), NODES)
    theirs = Listener(80, "tcp", "k8s/80/other/default/c1")
    assert "another Service" in (reuse_fault(model, replace(LENT, listeners=(theirs,))) or "")
    assert reuse_fault(model, replace(LENT, listeners=(replace(theirs, port=81),))) is None


def test_nor_for_one_port_of_a_range() -> None:
    given = {"id": "lb-u", "force-override-listeners": "true", "listener-port-range": "70-75:80"}
    spec = {"loadBalancerClass": "alibabacloud.com/nlb", "annotations": given}
    model = model_of(service(HTTP, **spec), NODES)
    others = [
        Listener(first, protocol, f"k8s.{first}.{protocol}.other.default.c1", last_port=last)
        for first, last, protocol in ((72, 0, "tcp"), (60, 70, "tcp"), (76, 90, "tcp"), (72, 0, "udp"))
    ]
    faults = [reuse_fault(model, replace(LENT, listeners=(each,))) for each in others]
    assert ["another Service" in (fault or "") for fault in faults] == [True, True, False, False]


def test_servers_that_are_anothers_in_a_users_group_are_neither_added_nor_removed() -> None:
    annotations = {"id": "lb-u", "vgroup-port": "rsp-1:80"}
    model = model_of(service(HTTP, annotations=annotations), NODES)
    theirs = BackendServer("i-a", "instance", 30698, 20)
    group = ServerGroup("rsp-1", identity="rsp-1", is_lent=True, others=frozenset({theirs.key}))
    lent = replace(LENT, groups=(group,))
    assert "add to rsp-1: i-b:30698 weight 100" in changed(model, lent)
    (said,) = unchangeable(model, lent)
    assert said.startswith("server i-a:30698 is in rsp-1 already, as another's")
    after = reached(model, lent)
    assert "remove from rsp-1: i-b:30698 weight 100" in map(str, plan_removal(CLB, model.owner, after, preserve=False))


def test_a_package_goes_before_the_addresses_that_it_is_for_and_comes_after_them() -> None:
    public, private = {"address-type": "internet"}, {"address-type": "intranet", "bandwidth-package-id": ""}
    observed = reached(network({**public, "bandwidth-package-id": "cbwp-1"}), None)
    away = [step.split(":")[0] for step in changed(network(private), observed)]
    back = [
        step.split(":")[0]
        for step in changed(network({**public, "bandwidth-package-id": "cbwp-1"}), reached(network(private), observed))
    ]
    package, kind = "change the balancer's bandwidth package", "change the balancer's address type"
    assert (away, back) == ([package, kind], [kind, package])


def test_a_label_does_not_give_away_somebody_elses_balancer() -> None:
    model, observed = own()
    assert ownership_fault(model, observed) is None
    assert ownership_fault(model, replace(observed, tags={})) is None
    assert "lacks the tags" in (ownership_fault(model, LENT) or "")


def test_a_balancer_of_another_cluster_is_left_alone_and_one_without_a_cluster_is_adopted() -> None:
    model, observed = own(name="shop")
    of_none = {key: value for key, value in observed.tags.items() if key != "ack.aliyun.com"}
    assert ownership_fault(model, replace(observed, tags=of_none)) is None
    assert changed(model, replace(observed, tags=of_none)) == ["tag the balancer: ack.aliyun.com=c1"]
    assert "ack.aliyun.com: c0, and this cluster's ID is c1" in (
        ownership_fault(model, replace(observed, tags={**observed.tags, "ack.aliyun.com": "c0"})) or ""
    )
    named = replace(observed, name=DEFAULT_NAME, tags={"ack.aliyun.com": "c0"})
    assert "left alone" in (ownership_fault(model, named) or "")


def test_a_lent_balancer_is_not_had_without_the_annotation_that_names_it() -> None:
    named = model_of(service(HTTP, annotations={"id": "lb-u"}), NODES)
    lent = replace(LENT, tags={named.kind.naming.reuse_tag: "true"})
    assert ownership_fault(named, lent) is None
    assert "is lent" in (ownership_fault(model_of(service(HTTP), NODES), lent) or "")


@pytest.mark.parametrize(
    ("annotations", "fault"),
    [
        ({"address-type": "Internet"}, None),
        ({"ip-version": "ipv6"}, "ip-version of a balancer cannot be changed: it is ipv4, the Service asks for ipv6"),
        (
            {"resource-group-id": "rg-2"},
            "resource-group-id of a balancer cannot be changed: it is rg-1, the Service asks for rg-2",
        ),
        ({"vswitch-id": "vsw-2"}, None),
        (
            {"id": "lb-1", "ip-version": "ipv6"},
            "ip-version of a balancer cannot be changed: it is ipv4, the Service asks for ipv6",
        ),
        ({"id": "lb-1"}, None),
    ],
)
def test_what_a_balancer_cannot_become(annotations: dict[str, str], fault: str | None) -> None:
    observed = reached(model_of(service(HTTP, annotations={"resource-group-id": "rg-1"}), NODES), None)
    model = model_of(service(HTTP, annotations=annotations), NODES)
    assert unchangeable(model, observed) == ((fault,) if fault else ())


def test_what_cannot_be_changed_is_said_and_not_tried() -> None:
    observed = reached(model_of(service(HTTP), NODES), None)
    model = model_of(service(HTTP, annotations={"address-type": "intranet", "master-zoneid": "h"}), NODES)
    assert unchangeable(model, observed) == (
        "address-type of a balancer cannot be changed: it is internet, the Service asks for intranet",
    )
    assert plan(model, replace(observed, settings={**observed.settings, **model.settings})) == ()


def own(**annotations: str) -> tuple[LoadBalancerModel, ObservedLoadBalancer]:
    model = model_of(service(HTTP, annotations=annotations), NODES)
    return model, reached(model, None)


def test_deletion_lifts_the_protections_first() -> None:
    model, observed = own()
    steps = plan_removal(CLB, model.owner, observed, preserve=False)
    assert carried_out(steps, observed) is None


def test_a_preserved_balancer_stays_and_says_so() -> None:
    model, observed = own()
    after = carried_out(plan_removal(CLB, model.owner, observed, preserve=True), observed)
    assert after is not None
    assert (after.listeners, after.tags) == (observed.listeners, {"spiderpool.made-for": "c1/default/preserved"})
    assert after.settings["DeleteProtection"] == "off"


@pytest.mark.parametrize("kind", [CLB, NLB], ids=str)
def test_a_preserved_balancer_keeps_its_parts_when_its_service_is_removed_once_more(kind: BalancerKind) -> None:
    ranges = {"loadBalancerSourceRanges": ["10.0.0.0/8"]}
    network = {"loadBalancerClass": "alibabacloud.com/nlb", "annotations": {"zone-maps": "h:v,i:w"}}
    model = model_of(service(HTTP, **(network if kind is NLB else {}), **ranges), NODES)
    observed = reached(model, None)
    preserved = carried_out(plan_removal(kind, model.owner, observed, preserve=True), observed)
    assert preserved is not None
    assert preserved.source_lists
    assert plan_removal(kind, model.owner, preserved, preserve=True) == ()


def test_a_preserved_balancer_that_was_lent_again_is_returned_without_our_parts() -> None:
    requested = service(HTTP, annotations={"id": "lb-u", "force-override-listeners": "true"})
    lent = replace(LENT, tags={"spiderpool.made-for": "c1/default/preserved"})
    model = model_of(requested, NODES)
    observed = reached(model, lent)
    assert carried_out(plan_removal(CLB, model.owner, observed, preserve=True), observed) == lent


@pytest.mark.parametrize("lost", ["kubernetes.do.not.delete", "ack.aliyun.com"])
def test_a_balancer_that_lacks_one_of_our_tags_is_never_deleted(lost: str) -> None:
    model, observed = own()
    observed = replace(observed, tags={key: value for key, value in observed.tags.items() if key != lost})
    steps = plan_removal(CLB, model.owner, observed, preserve=False)
    assert not any(isinstance(step, DeleteBalancer) for step in steps)


def test_a_lent_balancer_is_returned_without_our_parts() -> None:
    requested = service(HTTP, annotations={"id": "lb-u", "force-override-listeners": "true"})
    model = model_of(requested, NODES)
    observed = reached(model, LENT)
    assert carried_out(plan_removal(CLB, model.owner, observed, preserve=False), observed) == LENT
    other = ServerGroup("k8s/1/other/default/c1", identity="rsp-o")
    shared = replace(observed, groups=(*observed.groups, other))
    steps = plan_removal(CLB, model.owner, shared, preserve=False)
    assert [type(step) for step in steps] == [DeleteListener, DeleteGroup]
    assert not any(isinstance(step, Untag) for step in steps)


def test_a_balancer_without_our_parts_was_never_given_and_keeps_its_tag() -> None:
    model = model_of(service(HTTP, annotations={"id": "lb-u"}), NODES)
    lent_to_another_cluster = replace(LENT, tags={"kubernetes.reused.by.user": "true"})
    assert plan_removal(CLB, model.owner, lent_to_another_cluster, preserve=False) == ()


def test_groups_of_a_network_balancer_go_after_it() -> None:
    model = network({})
    observed = reached(model, None)
    kinds = [type(step).__name__ for step in plan_removal(NLB, model.owner, observed, preserve=False)]
    assert kinds == ["Unprotect", "DeleteBalancer", "DeleteGroup"]


def test_only_servers_are_kept_right_while_a_fault_waits_for_its_correction() -> None:
    observed = reached(model_of(service(HTTP), NODES), None)
    model = model_of(
        service(HTTP, SECURE, annotations={"scheduler": "rr"}), BackendSnapshot([node("a"), node("b"), node("c")])
    )
    steps = only_backends(plan(model, observed))
    assert [(type(step), str(step).count("weight")) for step in steps] == [(AddServers, 1)]
