"""What a Service may name: what is granted to its Namespace, and what it has already by the word of the cloud."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spiderpool.api.loadbalancergrant import LoadBalancerGrantSpec
from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.grants import is_in_use, limit, missing, refusal, reminder, suggested
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.values import (
    GrantField,
    GrantNeed,
    Listener,
    ObservedLoadBalancer,
    ServerGroup,
)
from tests.core.pretend_balancers import HTTP, SECURE, model_of, node, reached, service

pytestmark = pytest.mark.unit

NODES = BackendSnapshot([node("a")])
LENT = ObservedLoadBalancer("lb-u", "users", "198.51.100.9", {"AddressType": "internet"})
THEIRS = Listener(443, "https", "by hand", "g", {"ServerCertificateId": "crt-1"})


def need(field: GrantField, value: str) -> GrantNeed:
    return GrantNeed(f"x/{field}", field, value)


def grant(**fields: Any) -> LoadBalancerGrantSpec:
    return LoadBalancerGrantSpec(namespaces=["default"], **fields)


@pytest.mark.parametrize(
    ("needed", "granted", "meets"),
    [
        (need("loadBalancers", "lb-1"), grant(loadBalancers=["lb-1"]), True),
        (need("loadBalancers", "lb-1"), grant(loadBalancers=["*"]), True),
        (need("loadBalancers", "lb-1"), grant(loadBalancers=["lb-2"], certificates=["lb-1"]), False),
        (need("loadBalancers", "lb-1"), grant(), False),
        (need("overrideListeners", "lb-1"), grant(loadBalancers=["lb-1"], overrideListeners=True), True),
        (need("overrideListeners", "lb-1"), grant(loadBalancers=["lb-2"], overrideListeners=True), False),
        (need("overrideListeners", "lb-1"), grant(loadBalancers=["lb-1"]), False),
        (need("certificates", "crt-1"), grant(certificates=["crt-1"]), True),
        (need("maxBandwidth", "50"), grant(maxBandwidth=50), True),
        (need("maxBandwidth", "50"), grant(maxBandwidth=49), False),
        (need("maxBandwidth", "50"), grant(), False),
        (need("preserve", "true"), grant(preserve=True), True),
        (need("preserve", "true"), grant(preserve=False), False),
    ],
)
def test_a_grant_meets_a_need(needed: GrantNeed, granted: LoadBalancerGrantSpec, meets: bool) -> None:
    assert missing([needed], [granted]) == (() if meets else (needed,))
    assert missing([needed], [grant(), granted, grant()]) == (() if meets else (needed,))
    assert missing([needed], []) == (needed,)


def test_grants_do_not_lend_each_other_the_listeners() -> None:
    needed = need("overrideListeners", "lb-1")
    others = [grant(loadBalancers=["lb-1"]), grant(loadBalancers=["lb-2"], overrideListeners=True)]
    assert missing([needed], others) == (needed,)


def test_a_balancer_of_the_user_is_in_use_by_our_parts_in_it() -> None:
    model = model_of(service(HTTP, annotations={"id": "lb-u"}), NODES)
    lent, override = need("loadBalancers", "lb-u"), need("overrideListeners", "lb-u")
    others = replace(LENT, groups=(ServerGroup("k8s/1/other/default/c1"),), tags={"kubernetes.reused.by.user": "true"})
    assert not is_in_use(lent, model, others)
    observed = reached(model, LENT)
    assert is_in_use(lent, model, observed)
    assert not is_in_use(override, model, observed)


def test_listeners_are_in_use_one_by_one() -> None:
    override = need("overrideListeners", "lb-u")
    annotations = {"id": "lb-u", "force-override-listeners": "true"}
    one = model_of(service(HTTP, annotations=annotations), NODES)
    two = model_of(service(HTTP, SECURE, annotations=annotations), NODES)
    observed = replace(reached(one, LENT), listeners=(*reached(one, LENT).listeners, THEIRS))
    assert is_in_use(override, one, observed)
    assert not is_in_use(override, two, observed)


def test_the_ports_of_a_listener_are_in_use_and_no_others() -> None:
    override = need("overrideListeners", "lb-u")

    def model(ports: str) -> LoadBalancerModel:
        given = {"id": "lb-u", "force-override-listeners": "true", "listener-port-range": f"{ports}:80"}
        return model_of(service(HTTP, annotations=given, loadBalancerClass="alibabacloud.com/nlb"), NODES)

    observed = reached(model("70-75"), LENT)
    found = [is_in_use(override, model(ports), observed) for ports in ("70-75", "71-74", "70-65000", "69-75")]
    assert found == [True, True, False, False]


def test_a_group_beside_the_balancers_proves_nothing_unless_the_balancer_forwards_to_it() -> None:
    annotations = {"id": "nlb-u"}
    model = model_of(service(HTTP, annotations=annotations, loadBalancerClass="alibabacloud.com/nlb"), NODES)
    lent = need("loadBalancers", "nlb-u")
    (group,) = model.groups
    observed = replace(LENT, groups=(group,), listeners=(THEIRS,))
    assert not is_in_use(lent, model, observed)
    assert is_in_use(lent, model, replace(observed, listeners=(replace(THEIRS, group=group.name),)))


def test_settings_are_in_use_by_our_own_listeners() -> None:
    model = model_of(service(HTTP), NODES)
    certificate = need("certificates", "crt-1")
    assert not is_in_use(certificate, model, replace(LENT, listeners=(THEIRS,)))
    ours = replace(THEIRS, description=CLB.naming.part_name(443, "https", model.owner))
    assert is_in_use(certificate, model, replace(LENT, listeners=(ours,)))
    assert is_in_use(need("preserve", "true"), model, LENT)


@pytest.mark.parametrize(
    ("needed", "wanted"),
    [
        (need("certificates", "crt-1"), "crt-1 in spec.certificates"),
        (need("overrideListeners", "lb-1"), "lb-1 in spec.loadBalancers with spec.overrideListeners: true"),
        (need("maxBandwidth", "9"), "spec.maxBandwidth of at least 9"),
        (need("preserve", "true"), "spec.preserve: true"),
    ],
)
def test_what_people_are_told(needed: GrantNeed, wanted: str) -> None:
    consequence = ", after which the load balancer is deleted with its Service" if needed.field == "preserve" else ""
    said = (
        f"annotation x/{needed.field}: no SpiderLoadBalancerGrant for Namespace shop has {wanted}; "
        f"an administrator can add it, or remove the annotation{consequence}"
    )
    assert refusal(needed, "shop") == said
    assert reminder(needed, "shop").startswith(said)
    end = "cannot be deleted" if needed.field == "preserve" else "is in use and stays"
    assert end in reminder(needed, "shop")


def test_the_limit_of_a_namespace() -> None:
    assert limit(10, []) == 10
    assert limit(10, [grant()]) == 10
    assert limit(10, [grant(maxLoadBalancers=0)]) == 0
    assert limit(10, [grant(maxLoadBalancers=3), grant(maxLoadBalancers=20), grant()]) == 20


def test_suggested_grants_are_enough_and_no_more() -> None:
    needed = [
        need("loadBalancers", "lb-1"),
        need("overrideListeners", "lb-1"),
        need("loadBalancers", "lb-2"),
        need("certificates", "crt-2"),
        need("certificates", "crt-1"),
        need("certificates", "crt-2"),
        need("maxBandwidth", "9"),
        need("maxBandwidth", "50"),
        need("preserve", "true"),
    ]
    found = [*suggested("default", needed, 12)]
    assert found == [
        grant(
            maxLoadBalancers=12, loadBalancers=["lb-2"], certificates=["crt-1", "crt-2"], maxBandwidth=50, preserve=True
        ),
        grant(loadBalancers=["lb-1"], overrideListeners=True),
    ]
    assert missing(needed, found) == ()
    assert [*suggested("default", [])] == []
