"""A plan in print: one line for each step."""

from __future__ import annotations

import pytest

from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.steps import (
    AddServers,
    CreateBalancer,
    CreateGroup,
    CreateListener,
    CreateSourceList,
    DeleteBalancer,
    DeleteGroup,
    DeleteListener,
    DeleteSourceList,
    ParameterChange,
    RemoveServers,
    SetBalancer,
    SetGroup,
    SetListener,
    SetSourceList,
    SetWeights,
    StartListener,
    Step,
    Tag,
    Unprotect,
    Untag,
)
from spiderpool.core.cloud.loadbalancer.values import (
    BackendServer,
    BalancerOwner,
    Listener,
    ServerGroup,
    SourceList,
)
from tests.core.pretend_balancers import UID, options

pytestmark = pytest.mark.unit

SOURCES = SourceList("k8s-clb-a", frozenset({"10.0.0.0/8", "192.0.2.0/24"}), "acl-1")
MODEL = LoadBalancerModel(
    kind=CLB,
    options=options("clb", {}),
    owner=BalancerOwner("default", "web", UID, "c1"),
    reuse="",
    name="web",
    vpc="vpc-1",
    creation={"VpcId": "vpc-1"},
    fixed={"AddressType": "intranet"},
    settings={"DeleteProtection": "on"},
    tags={"ack.aliyun.com": "c1", "team": "x"},
    origin={"spiderpool.made-for": "c1/default"},
    listeners=(),
    groups=(),
)
NAME = "k8s/30698/web/default/c1"
SERVERS = (BackendServer("i-a", "instance", 30698, 2), BackendServer("i-b", "instance", 30698, 1))
WEB = Listener(80, "http", "k8s/80/web/default/c1", NAME, {"Scheduler": "wrr", "Bandwidth": "-1"})
REDIRECT = Listener(80, "http", "k8s/80/web/default/c1", "", {"ForwardPort": "443"})
SLOWER = ParameterChange("HealthCheckInterval", "2", "9")


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (
            CreateBalancer(MODEL),
            "create clb balancer web: VpcId=vpc-1 AddressType=intranet DeleteProtection=on; "
            "tags ack.aliyun.com=c1 team=x spiderpool.made-for=c1/default",
        ),
        (
            SetBalancer(MODEL, "bandwidth", (ParameterChange("Bandwidth", "50", "60"),)),
            "change the balancer's bandwidth: Bandwidth 50 → 60",
        ),
        (
            Unprotect("lb-1", (ParameterChange("DeleteProtection", "on", "off"),)),
            "lift the protections of balancer lb-1: DeleteProtection on → off",
        ),
        (Tag((("ack.aliyun.com", "c1"), ("team", "x"))), "tag the balancer: ack.aliyun.com=c1 team=x"),
        (Untag(("ack.aliyun.com", "team")), "take tags from the balancer: ack.aliyun.com, team"),
        (DeleteBalancer("lb-1"), "delete balancer lb-1"),
        (CreateGroup(MODEL, ServerGroup(NAME)), f"create server group {NAME}"),
        (CreateGroup(MODEL, ServerGroup(NAME, {"Protocol": "TCP"})), f"create server group {NAME}: Protocol=TCP"),
        (SetGroup(ServerGroup(NAME), (SLOWER,)), f"change server group {NAME}: HealthCheckInterval 2 → 9"),
        (DeleteGroup(NAME, "rsp-1"), f"delete server group {NAME}"),
        (AddServers(NAME, SERVERS), f"add to {NAME}: i-a:30698 weight 2, i-b:30698 weight 1"),
        (SetWeights(NAME, SERVERS[:1]), f"weights in {NAME}: i-a:30698 weight 2"),
        (RemoveServers(NAME, SERVERS[1:]), f"remove from {NAME}: i-b:30698 weight 1"),
        (CreateListener(WEB), f"create listener http/80 to {NAME}: Scheduler=wrr Bandwidth=-1"),
        (CreateListener(REDIRECT), "create listener http/80: ForwardPort=443"),
        (
            SetListener(WEB, (SLOWER, ParameterChange("AclId", "", "acl-1"), ParameterChange("Cookie", "x", ""))),
            "change listener http/80: HealthCheckInterval 2 → 9, AclId (none) → acl-1, Cookie x → (none)",
        ),
        (CreateSourceList(MODEL, SOURCES), "create access list k8s-clb-a: 10.0.0.0/8, 192.0.2.0/24"),
        (
            SetSourceList(MODEL, SOURCES, frozenset({"192.0.2.0/24"}), frozenset({"::/0"})),
            "change access list k8s-clb-a: add 192.0.2.0/24; remove ::/0",
        ),
        (SetSourceList(MODEL, SOURCES, frozenset(), frozenset({"::/0"})), "change access list k8s-clb-a: remove ::/0"),
        (DeleteSourceList("k8s-clb-a", "acl-1"), "delete the list of admitted clients k8s-clb-a"),
        (StartListener(WEB), "start listener http/80"),
        (DeleteListener(WEB), "delete listener http/80"),
    ],
)
def test_a_step_in_print(step: Step, line: str) -> None:
    assert str(step) == line
