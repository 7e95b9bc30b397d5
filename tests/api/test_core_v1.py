"""Kubernetes' core kinds: the fields that we read."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.core_v1 import ConfigMap, Event, Namespace, Node, ObjectReference, Pod, Secret, Service, reference
from tests.api.documents import read

pytestmark = pytest.mark.unit


def test_pod() -> None:
    pod = read(
        {
            "metadata": {"name": "web-1", "namespace": "shop"},
            "spec": {"nodeName": "n1", "hostNetwork": True},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.6.0.1"}, {"ip": "fd00::1"}]},
        },
        Pod,
    )
    assert pod.spec.nodeName == "n1"
    assert [each.ip for each in pod.status.podIPs or ()] == ["10.6.0.1", "fd00::1"]


@pytest.mark.parametrize("kind", ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"])
def test_a_pod_runs_while_one_of_its_containers_does(kind: str) -> None:
    states: list[dict[str, object]] = [{"running": {"startedAt": "2026-01-01T00:00:00Z"}}, {"waiting": {}}, {}]
    pods = [msgspec.convert({"status": {kind: [{"name": "c", "state": state}]}}, Pod) for state in states]
    assert [pod.status.is_running for pod in pods] == [True, False, False]
    assert not Pod().status.is_running


def test_node() -> None:
    node = read(
        {
            "metadata": {"name": "n1"},
            "spec": {"providerID": "cn-x.i-1", "taints": [{"key": "k", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        },
        Node,
    )
    assert node.spec.providerID == "cn-x.i-1"
    assert [(each.type, each.status) for each in node.status.conditions or ()] == [("Ready", "True")]


@pytest.mark.parametrize("status", ["True", "False", "Unknown"])
def test_the_readiness_of_a_node(status: str) -> None:
    conditions = [{"type": "DiskPressure", "status": "True"}, {"type": "Ready", "status": status}]
    node = read({"metadata": {"name": "n1"}, "status": {"conditions": conditions}}, Node)
    assert (node.ready_status, node.ready) == (status, status == "True")


def test_a_node_without_conditions_is_not_ready() -> None:
    node = read({"metadata": {"name": "n1"}}, Node)
    assert (node.ready_status, node.ready) == ("False", False)


def test_the_internal_addresses_of_a_node() -> None:
    listed = [("Hostname", "n1"), ("InternalIP", "fd00::1"), ("ExternalIP", "192.0.2.1"), ("InternalIP", "10.0.0.1")]
    addresses = [{"type": kind, "address": text} for kind, text in listed]
    node = read({"metadata": {"name": "n1"}, "status": {"addresses": addresses}}, Node)
    assert node.internal_addresses == ("fd00::1", "10.0.0.1")
    assert Node().internal_addresses == ()


def test_service() -> None:
    service = read(
        {
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "type": "LoadBalancer",
                "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}},
        },
        Service,
    )
    assert [(port.port, port.protocol, port.targetPort) for port in service.spec.ports or ()] == [
        (80, "TCP", "http"),
        (53, "UDP", None),
    ]
    assert [each.ip for each in service.status.loadBalancer.ingress or ()] == ["203.0.113.7"]


def test_cluster_ips_of_a_service() -> None:
    for spec, expected in (
        ({"clusterIP": "10.233.0.1", "clusterIPs": ["10.233.0.1", "fd00::1"]}, ("10.233.0.1", "fd00::1")),
        ({"clusterIP": "10.233.0.1"}, ("10.233.0.1",)),
        ({"clusterIP": "None", "clusterIPs": ["None"]}, ()),
        ({}, ()),
    ):
        assert read({"metadata": {"name": "web"}, "spec": spec}, Service).cluster_ips == expected


def test_namespace_and_config_map() -> None:
    assert read({"metadata": {"name": "shop", "labels": {"team": "a"}}}, Namespace).metadata.labels == {"team": "a"}
    assert read({"metadata": {"name": "c"}, "data": {"conf.yml": "x"}}, ConfigMap).data == {"conf.yml": "x"}


def test_secret_data_is_bytes_and_base64_on_the_wire() -> None:
    secret = read({"metadata": {"name": "tls"}, "type": "kubernetes.io/tls", "data": {"tls.key": "AAH/"}}, Secret)
    assert secret.data == {"tls.key": b"\x00\x01\xff"}


def test_event() -> None:
    event = read(
        {
            "metadata": {"name": "web-1.1", "namespace": "shop"},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": "web-1", "namespace": "shop", "uid": "u-1"},
            "reason": "NoAddress",
            "message": "the pool is exhausted",
            "type": "Warning",
            "count": 1,
            "source": {"component": "spiderpool-agent", "host": "n1"},
        },
        Event,
    )
    pod = read({"metadata": {"name": "web-1", "namespace": "shop", "uid": "u-1"}}, Pod)
    assert reference(pod) == event.involvedObject == ObjectReference("v1", "Pod", "web-1", "shop", "u-1")
