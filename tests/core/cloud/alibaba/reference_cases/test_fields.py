"""Fields of Services that stand for annotations, are refused, or change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.core.cloud.loadbalancer.planning import plan
from tests.core.cloud.alibaba.reference_cases.playing import changes, classic, either, judged, network, of_others
from tests.core.pretend_balancers import KINDS, reached

pytestmark = pytest.mark.unit
shows = pytest.mark.reference_case
BOTH = pytest.mark.parametrize("kind", ["clb", "nlb"])


def kept_for(seconds: int) -> dict[str, Any]:
    """A spec that keeps a client at one server."""
    return {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}}


@shows("spec.sessionAffinity", "spec.sessionAffinityConfig")
def test_clients_are_kept_at_a_server() -> None:
    minute, day = map(kept_for, (60, 86400))
    assert classic(**minute).listeners[0].settings["PersistenceTimeout"] == "60"
    assert network(**minute).groups[0].settings["Scheduler"] == "sch"
    assert classic(**day).listeners[0].settings["PersistenceTimeout"] == "3600"
    (fault,) = judged(annotations={"protocol-port": "http:80"}, **minute).faults
    assert fault.startswith("spec.sessionAffinity ClientIP is not served by http listeners")


@shows("spec.loadBalancerSourceRanges", "annotation service.beta.kubernetes.io/load-balancer-source-ranges")
@pytest.mark.parametrize("is_older", [False, True])
def test_clients_of_some_ranges_alone_are_admitted(is_older: bool) -> None:
    older = {"annotations": {"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8"}}
    spec: dict[str, Any] = older if is_older else {"loadBalancerSourceRanges": ["10.0.0.0/8"]}
    closed = classic(**spec)
    assert closed.sources is not None
    assert closed.sources.entries == {"10.0.0.0/8"}
    assert closed.listeners[0].settings["AclId"] == closed.sources.name
    closed = network(**spec)
    assert closed.sources is not None
    assert closed.sources.entries == {"accept 10.0.0.0/8", "drop 0.0.0.0/0"}
    assert closed.settings["SecurityGroupIds"] == closed.sources.name


@shows("spec.healthCheckNodePort", "health checks that ask nodes for ready pods")
def test_health_checks_that_ask_nodes_for_ready_pods() -> None:
    local: dict[str, Any] = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 32100}
    (listener,), (group,) = classic(**local).listeners, network(**local).groups
    names = ("HealthCheckType", "HealthCheckConnectPort", "HealthCheckURI")
    assert [listener.settings[name] for name in names] == ["http", "32100", "/healthz"]
    names = ("HealthCheckType", "HealthCheckConnectPort", "HealthCheckUrl")
    assert [group.settings[f"HealthCheckConfig.{name}"] for name in names] == ["HTTP", "32100", "/healthz"]
    without: dict[str, Any] = {"externalTrafficPolicy": "Local"}
    for policy, other in ((classic(**local), classic(**without)), (network(**local), network(**without))):
        assert plan(policy, of_others(reached(other, None))) == (), "on balancers of others it stays as it is"


@shows("spec.loadBalancerIP")
@BOTH
def test_a_wanted_public_address(kind: str) -> None:
    found = judged(kind=KINDS[kind], loadBalancerIP="198.51.100.7")
    assert found.faults[0].startswith("spec.loadBalancerIP is not served, the cloud chooses the address")
    assert not found.steps


@shows("spec.publishNotReadyAddresses", "spec.externalIPs")
@BOTH
@pytest.mark.parametrize("spec", [{"publishNotReadyAddresses": True}, {"externalIPs": ["192.0.2.1"]}])
def test_fields_that_change_nothing(kind: str, spec: dict[str, Any]) -> None:
    assert changes(either(kind), either(kind, **spec)) == []
    assert not judged(kind=KINDS[kind], **spec).faults
