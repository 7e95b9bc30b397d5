"""Certificates for further domains of an https listener, in the simulated account."""

from __future__ import annotations

import pytest

from spiderpool.cloud.alibaba.policy import ACTIONS
from spiderpool.cloud.provider import StepsRefused
from spiderpool.core.cloud.loadbalancer.planning import plan
from tests.cloud.alibaba.balancers import SECURE, classic, model, reached
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit

HTTPS = {"protocol-port": "https:443", "cert-id": "crt-1"}


async def domains(simulated: SimulatedCloud, **annotations: str) -> list[tuple[str, str]]:
    """The domains and certificates of a Service's listener, in the account."""
    given = HTTPS | {key.replace("_", "-"): value for key, value in annotations.items()}
    await reached(classic(simulated), model(simulated, SECURE, annotations=given))
    (balancer,) = simulated.account.tables.clbs
    return sorted((each.domain, each.certificate) for each in balancer.listeners[0].domains)


async def test_domains_come_change_and_go(balanced: SimulatedCloud) -> None:
    both = "b.example.com:crt-3,A.example.com:crt-2"
    assert await domains(balanced, domain_extensions=both) == [("a.example.com", "crt-2"), ("b.example.com", "crt-3")]
    other = "a.example.com:crt-4"
    assert await domains(balanced, domain_extensions=other) == [("a.example.com", "crt-4")]
    assert balanced.outcomes("SetLoadBalancerHTTPSListenerAttribute") == []
    assert await domains(balanced, http2_enabled="off") == [("a.example.com", "crt-4")]  # nobody says that it should go
    assert await domains(balanced, domain_extensions="") == []


async def test_a_new_listener_is_not_asked_for_domains(balanced: SimulatedCloud) -> None:
    desired = model(balanced, SECURE, annotations=HTTPS | {"domain-extensions": "a.example.com:crt-2"})
    cloud = classic(balanced)
    await cloud.carry_out(plan(desired, None)[:1], None)
    observed = await cloud.find(desired.owner)
    await cloud.carry_out(plan(desired, observed), observed)
    assert balanced.outcomes("DescribeDomainExtensions") == []
    (balancer,) = balanced.account.tables.clbs
    assert [each.domain for each in balancer.listeners[0].domains] == ["a.example.com"]


async def test_a_policy_without_these_actions_stops_nothing_else(balanced: SimulatedCloud) -> None:
    balanced.allow(*(each for each in ACTIONS["balancers"] if "DomainExtension" not in each))
    assert await domains(balanced) == []
    assert await domains(balanced, http2_enabled="off") == []
    with pytest.raises(StepsRefused, match="DescribeDomainExtensions"):
        await domains(balanced, domain_extensions="a.example.com:crt-2")


async def test_a_listener_that_changes_gets_domains_as_well(balanced: SimulatedCloud) -> None:
    await domains(balanced)
    found = await domains(balanced, domain_extensions="a.example.com:crt-2", http2_enabled="off")
    assert found == [("a.example.com", "crt-2")]
