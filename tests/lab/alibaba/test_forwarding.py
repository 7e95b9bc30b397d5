"""Frontends from the account's tables, and their nftables and HAProxy configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool_lab.alibaba.admitting import ClientRule
from spiderpool_lab.alibaba.balancers import (
    CLB,
    NLB,
    AccessList,
    BalancerBackend,
    CLBGroup,
    CLBListener,
    ClbProtocol,
    NLBGroup,
    NLBListener,
    ZoneMapping,
)
from spiderpool_lab.alibaba.clb_listeners import DEFAULTS
from spiderpool_lab.alibaba.forwarding import Frontend, Target, changed_checks, frontends
from spiderpool_lab.alibaba.nlb_groups import DEFAULTS as GROUP_DEFAULTS
from spiderpool_lab.alibaba.nlb_groups import HEALTH_DEFAULTS
from spiderpool_lab.alibaba.rendering import haproxy_config, nft_ruleset
from spiderpool_lab.alibaba.resources import SecurityGroup, SecurityRule
from spiderpool_lab.alibaba.tables import AccountTables

pytestmark = pytest.mark.unit

BACKENDS = (
    BalancerBackend("i-1", "ecs", 30080, 100, "172.31.199.183"),
    BalancerBackend("i-2", "ecs", 30080, 0, "172.31.199.184"),
    BalancerBackend("eni-1", "eni", 80, 50, "2408::1"),
)


def tables(protocol: ClbProtocol, *, running: bool = True, active: bool = True, **settings: str) -> AccountTables:
    tables = AccountTables()
    listener = CLBListener(protocol, 999, {**DEFAULTS[protocol], "VServerGroupId": "rsp-1", **settings}, running)
    tables.clbs.put(CLB("lb-1", "a", "47.98.137.75", {}, listeners=(listener,), active=active))
    tables.clb_groups.put(CLBGroup("rsp-1", "g", "lb-1", BACKENDS))
    return tables


def test_backends_without_weight_or_of_the_other_family_get_nothing() -> None:
    (frontend,) = frontends(tables("tcp"))
    assert [(target.address, target.weight) for target in frontend.targets] == [("172.31.199.183", 100)]
    check = frontend.targets[0].check
    assert check is not None
    assert (check.kind, check.port, check.interval, check.rise) == ("tcp", 30080, 2.0, 3)


def test_what_is_stopped_forwards_nothing() -> None:
    assert frontends(tables("tcp", running=False)) == []
    assert frontends(tables("tcp", active=False)) == []


def test_checks_follow_the_settings() -> None:
    assert frontends(tables("tcp", HealthCheckSwitch="off"))[0].targets[0].check is None
    check = frontends(tables("http", HealthCheck="on", HealthCheckConnectPort="10256"))[0].targets[0].check
    assert check is not None
    assert (check.kind, check.port, check.path) == ("http", 10256, "/")


def test_a_target_that_is_checked_otherwise_is_known_by_its_former_check() -> None:
    before = frontends(tables("tcp"))
    asked = frontends(tables("tcp", HealthCheckType="http", HealthCheckConnectPort="31999", HealthCheckURI="/healthz"))
    ((old, new),) = changed_checks(before, asked)
    assert (old.kind, old.port) == ("tcp", 30080)
    assert (new.kind, new.port, new.path) == ("http", 31999, "/healthz")
    assert [*changed_checks(asked, asked)] == []
    assert [*changed_checks([], asked)] == []
    assert [*changed_checks(before, frontends(tables("tcp", HealthCheckSwitch="off")))] == []


def test_an_nlb_forwards_on_the_addresses_of_its_zones() -> None:
    tables = AccountTables()
    zone = ZoneMapping("z", "vsw", "172.31.192.9", "47.98.0.9", "2408::9")
    tables.nlbs.put(NLB("nlb-1", "n", "d", (zone,), {}))
    tables.nlb_groups.put(NLBGroup("sgp-1", "g", GROUP_DEFAULTS, HEALTH_DEFAULTS, BACKENDS))
    tables.nlb_listeners.put(NLBListener("lsn-1", "nlb-1", "TCP", 80, {"ServerGroupId": "sgp-1"}))
    found = {frontend.address: [target.address for target in frontend.targets] for frontend in frontends(tables)}
    assert found == {
        "172.31.192.9": ["172.31.199.183"],
        "2408::9": ["2408::1"],
        "47.98.0.9": ["172.31.199.183"],
    }


def test_an_nlb_listener_of_a_range_leads_each_port_to_the_same_one() -> None:
    tables = AccountTables()
    tables.nlbs.put(NLB("nlb-1", "n", "d", (ZoneMapping("z", "vsw", "172.31.192.9"),), {}))
    backend = BalancerBackend("eni-1", "eni", 0, 100, "172.31.199.183")
    health = {**HEALTH_DEFAULTS, "HealthCheckConnectPort": "8080"}
    tables.nlb_groups.put(NLBGroup("sgp-1", "g", GROUP_DEFAULTS, health, (backend,)))
    settings = {"ServerGroupId": "sgp-1", "StartPort": "80", "EndPort": "82"}
    tables.nlb_listeners.put(NLBListener("lsn-1", "nlb-1", "TCP", 0, settings))
    found = [(each.port, each.targets[0].port, each.targets[0].check) for each in frontends(tables)]
    assert [(port, target) for port, target, _ in found] == [(80, 80), (81, 81), (82, 82)]
    assert {check.port for _, _, check in found if check} == {8080}


TARGETS = (Target("10.0.0.1", 80, 2, None), Target("10.0.0.2", 80, 1, None))


def test_layer_4_draws_by_weight_or_by_the_clients_address() -> None:
    text = nft_ruleset([Frontend("47.98.0.1", 999, "tcp", TARGETS)])
    rule = "ip daddr 47.98.0.1 tcp dport 999 dnat ip addr . port to numgen random mod 3 map"
    assert f"{rule} {{ 0-1 : 10.0.0.1 . 80, 2 : 10.0.0.2 . 80 }}" in text
    text = nft_ruleset([Frontend("47.98.0.1", 53, "udp", TARGETS, sticky=True)])
    assert "udp dport 53 dnat ip addr . port to jhash ip saddr mod 3 map" in text
    assert "dnat" not in nft_ruleset([Frontend("47.98.0.1", 999, "tcp", ())])


def test_layer_7_is_haproxy_with_the_clients_address_in_a_header() -> None:
    frontend = Frontend("47.98.0.1", 443, "https", TARGETS, cookie="SERVERID", proto_header=True)
    text = haproxy_config([frontend], "100.97.0.1", {"47.98.0.1": Path("/c.pem")})
    for line in (
        "option forwardfor",
        "bind 47.98.0.1:443 ssl crt /c.pem",
        "source 100.97.0.1",
        "cookie SERVERID insert",
        "server s0 10.0.0.1:80 weight 2",
        "X-Forwarded-Proto https",
    ):
        assert line in text


def test_a_redirect_has_no_servers() -> None:
    text = haproxy_config([Frontend("47.98.0.1", 80, "http", (), redirect=443)], None, {})
    assert "redirect location https://" in text
    assert "server" not in text.partition("listen")[2]


def ranges_of(frontend: Frontend) -> list[tuple[str, bool]]:
    return [(rule.source, rule.admits) for rule in frontend.admission]


NOBODY_ELSE = [("0.0.0.0/0", False), ("::/0", False)]


def test_a_listener_admits_clients_by_its_access_lists() -> None:
    account = tables("tcp", AclStatus="on", AclType="white", AclId="acl-1,acl-2")
    account.access_lists.put(AccessList("acl-1", "one", 4, {"10.0.0.0/8": ""}))
    assert ranges_of(frontends(account)[0]) == [("10.0.0.0/8", True), *NOBODY_ELSE]
    account = tables("tcp", AclStatus="on", AclType="black", AclId="acl-1")
    account.access_lists.put(AccessList("acl-1", "one", 4, {"10.0.0.0/8": ""}))
    assert ranges_of(frontends(account)[0]) == [("10.0.0.0/8", False)]
    account.access_lists.put(AccessList("acl-1", "one", 4))
    assert ranges_of(frontends(account)[0]) == [], "without entries everybody is admitted"
    assert ranges_of(frontends(tables("tcp", AclStatus="off", AclId="acl-1"))[0]) == []


def test_an_nlb_admits_clients_by_the_rules_of_its_security_groups() -> None:
    account = AccountTables()
    zone = ZoneMapping("z", "vsw", "172.31.192.9")
    account.nlbs.put(NLB("nlb-1", "n", "d", (zone,), {}, security_groups=("sg-1", "sg-2")))
    account.nlb_groups.put(NLBGroup("sgp-1", "g", GROUP_DEFAULTS, HEALTH_DEFAULTS, BACKENDS))
    account.nlb_listeners.put(NLBListener("lsn-1", "nlb-1", "TCP", 80, {"ServerGroupId": "sgp-1"}))
    dropping = SecurityRule("sgr-1", "drop", "ALL", "-1/-1", "0.0.0.0/0", 100)
    accepting = SecurityRule("sgr-2", "accept", "TCP", "80/81", "10.0.0.0/8", 1)
    other_port = SecurityRule("sgr-3", "accept", "TCP", "443/443", "192.0.2.0/24", 1)
    account.security_groups.put(SecurityGroup("sg-1", rules=(dropping,)))
    account.security_groups.put(SecurityGroup("sg-2", rules=(other_port, accepting)))
    assert ranges_of(frontends(account)[0]) == [("10.0.0.0/8", True), ("0.0.0.0/0", False)]


def test_packets_of_clients_that_are_not_admitted_are_dropped() -> None:
    admission = (ClientRule("10.0.0.0/8", True), ClientRule("0.0.0.0/0", False), ClientRule("::/0", False))
    text = nft_ruleset([Frontend("47.98.137.75", 443, "https", (), admission=admission)])
    where = "ip daddr 47.98.137.75 tcp dport 443"
    assert f"    {where} ip saddr 10.0.0.0/8 return\n    {where} drop\n  }}" in text
    assert text.count("drop") == 2
