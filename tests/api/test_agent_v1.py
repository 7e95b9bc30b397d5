"""Bodies of requests to the agent and of its responses."""

from __future__ import annotations

import json

import msgspec
import pytest

from spiderpool.api.agent_v1 import (
    AddAnswer,
    AddCall,
    AgentCoordinatorConfig,
    AgentPolicyRoute,
    AgentRoute,
    BatchDelCall,
    CoordinatorCall,
    DelCall,
    Incomplete,
    IPConfig,
    Malformed,
    Message,
    WorkloadEndpoint,
    WorkloadInterface,
    error_body,
    named_pod,
    parse_body,
    pod_of,
)
from spiderpool.api.cni import PodArgs
from tests.api.documents import Document

pytestmark = pytest.mark.unit

POD: Document = {
    "containerID": "c1",
    "ifName": "eth0",
    "netNamespace": "/run/netns/x",
    "podNamespace": "shop",
    "podName": "web-1",
    "podUID": "u-1",
}


@pytest.mark.parametrize(
    ("shape", "optional"),
    [
        (AddCall, ()),
        (DelCall, ("netNamespace",)),
        (BatchDelCall, ("ifName", "netNamespace")),
        (CoordinatorCall, tuple(POD)),
    ],
)
def test_a_required_text_that_is_missing_is_named(shape: type[Message], optional: tuple[str, ...]) -> None:
    for name in POD:
        body = json.dumps({key: value for key, value in POD.items() if key != name}).encode()
        if name in optional:
            parse_body(body, shape)
            continue
        with pytest.raises(Incomplete) as refused:
            parse_body(body, shape)
        assert refused.value.message == f"{name} in body is required"


def test_a_required_text_may_be_empty() -> None:
    call = parse_body(json.dumps(POD | {"podUID": "", "defaultIPv4IPPool": ["a"]}).encode(), AddCall)
    assert (call.podUID, call.defaultIPv4IPPool, call.cleanGateway) == ("", ["a"], None)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"containerID": 1}', b'{"cleanGateway": "yes"}', b'{"podName": "\xff"}']
)
def test_a_body_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(Malformed, match="parsing body failed"):
        parse_body(body, AddCall)


@pytest.mark.parametrize(
    ("answer", "document"),
    [
        (
            AddAnswer(
                [IPConfig("10.6.0.1/24", "eth0", 4, "blue", "10.6.0.254")],
                [AgentRoute("0.0.0.0/0", "10.6.0.254", "eth0")],
            ),
            {
                "ips": [
                    {"address": "10.6.0.1/24", "nic": "eth0", "version": 4, "ipPool": "blue", "gateway": "10.6.0.254"}
                ],
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.254", "ifName": "eth0"}],
            },
        ),
        (
            WorkloadEndpoint("shop", "web-1", "u-1", "n1", [WorkloadInterface("eth0", ipv6="fd00::1/64")]),
            {
                "podNamespace": "shop",
                "podName": "web-1",
                "podUID": "u-1",
                "node": "n1",
                "interfaces": [{"interface": "eth0", "ipv6": "fd00::1/64"}],
            },
        ),
        (
            AgentCoordinatorConfig(
                "auto", [], ["10.233.0.0/18"], True, [], [AgentPolicyRoute("10.7.0.0/16", "10.6.0.253")]
            ),
            {
                "mode": "auto",
                "overlayPodCIDR": [],
                "serviceCIDR": ["10.233.0.0/18"],
                "tunePodRoutes": True,
                "hijackCIDR": [],
                "policyRoutes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.253"}],
            },
        ),
    ],
)
def test_zero_values_are_omitted_unless_required(answer: msgspec.Struct, document: Document) -> None:
    assert json.loads(msgspec.json.encode(answer)) == document


@pytest.mark.parametrize(("status", "code"), [(400, 400), (404, 404), (422, 602)])
def test_the_body_of_an_error_without_a_cni_code(status: int, code: int) -> None:
    assert error_body(status, "no") == {"code": code, "message": "no"}


@pytest.mark.parametrize("shape", [AddCall, DelCall, BatchDelCall])
def test_names_are_checked_before_anybody_is_asked(shape: type[AddCall | DelCall | BatchDelCall]) -> None:
    assert pod_of(parse_body(json.dumps(POD | {"podUID": ""}).encode(), shape)) == PodArgs("shop", "web-1", "")
    for key in ("podNamespace", "podName", "ifName"):
        for name in ("", "..", "a/b", "a b", "../../nodes"):
            with pytest.raises(Malformed, match=f"{key} in body is '.*', which is no name"):
                pod_of(parse_body(json.dumps(POD | {key: name}).encode(), shape))


def test_a_name_in_a_query_is_checked_too() -> None:
    assert named_pod("shop", "web-1", "u", "query") == PodArgs("shop", "web-1", "u")
    with pytest.raises(Malformed, match="podName in query is 'Web', which is no name of a Kubernetes object"):
        named_pod("shop", "Web", "", "query")
