"""Rules by which connections of pods to Services on other nodes have the node's address."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from spiderpool.agent import interfaces
from spiderpool.errors import KernelFailure
from spiderpool.kernel import masquerade
from spiderpool.kernel.namespaces import opened, run_inside
from tests.kernel.environment import World, seen_by, serve
from tests.kernel.questions import CONTAINER, ETH0, SERVICE, interface

PORT = 8080


@pytest.mark.unit
def test_only_tables_that_lack_our_rule_get_it() -> None:
    mangle, nat = (f"-A {rule}\n" for rule in masquerade.RULES.iptables.values())
    assert masquerade.RULES.iptables_script((mangle, nat)) == ""
    nat = masquerade.RULES.iptables_script((mangle, ""))
    assert nat.startswith("*nat\n-A POSTROUTING -m mark --mark 0x100/0x100 ")
    assert nat.count("COMMIT\n") == 1
    assert masquerade.RULES.iptables_script(("", "")).count("\n-A ") == 2


@pytest.mark.unit
@pytest.mark.parametrize(("version", "family"), [(4, "ip"), (6, "ip6")])
def test_nft_tables_are_whole(version: int, family: str) -> None:
    script = masquerade.RULES.nft_script(version)
    assert script.startswith(f"table {family} spiderpool_masquerade\ndelete table {family} spiderpool_masquerade\n")
    assert script.count("{") == script.count("}") == 3


PROGRAMS = {
    "nft": "exit 1",
    "iptables-legacy-save": "",
    "iptables-legacy-restore": "echo 'Another app is currently holding the xtables lock' >&2; exit 4",
    "ip6tables-legacy-save": "",
    "ip6tables-legacy-restore": 'cat > "$(dirname "$0")/loaded"',
}
"""A packet filter whose IPv4 rules another program keeps locked."""


@pytest.mark.unit
def test_one_family_is_loaded_although_the_other_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(KernelFailure, match="IPv4 connections of pods to Services could not be masqueraded"):
        masquerade.RULES.load()
    assert masquerade.TABLE in (tmp_path / "loaded").read_text()


async def on_node(world: World, work: Callable[[], None]) -> None:
    with opened(world.node) as descriptor:
        await run_inside(descriptor, work)


def rules(world: World) -> list[str]:
    """Our rules in the node's packet filter."""
    programs = "nft list ruleset; iptables-legacy-save; ip6tables-legacy-save"
    shown = world.inside(world.node, "sh", "-c", f"({programs}) 2>/dev/null || true")
    return [line for line in shown.splitlines() if masquerade.TABLE in line or "masquerade" in line]


def translate(world: World, version: int) -> None:
    """What kube-proxy does with an address of a Service whose endpoint is on another machine."""
    service, target = SERVICE[version], ETH0[version].router
    family, program = {4: ("ip", "iptables-legacy"), 6: ("ip6", "ip6tables-legacy")}[version]
    chain = f"type nat hook prerouting priority -100; {family} daddr {service} dnat to {target};"
    by_nft = f"nft 'table {family} service {{ chain c {{ {chain} }} }}' 2>/dev/null"
    by_iptables = f"{program} -t nat -A PREROUTING -d {service} -j DNAT --to-destination {target}"
    world.inside(world.node, "sh", "-c", f"{by_nft} || {by_iptables}")


@pytest.mark.lab
@pytest.mark.parametrize("version", [4, 6])
async def test_an_endpoint_elsewhere_sees_the_node(wide: World, kind: str, version: int) -> None:
    pod = wide.pod()
    await interfaces.add(interface(pod, kind), node=wide.node)
    translate(wide, version)
    server = await serve(wide.router, PORT, version)
    try:
        with pytest.raises((OSError, TimeoutError)):  # the answer passes the node by
            await seen_by(pod, SERVICE[version], PORT, timeout=2)
        await on_node(wide, masquerade.RULES.load)
        assert await seen_by(pod, SERVICE[version], PORT, timeout=10) == ETH0[version].node
        assert await seen_by(pod, ETH0[version].router, PORT) == ETH0[version].pod
    finally:
        server.close()
    await interfaces.remove(CONTAINER, pod, "eth0", node=wide.node)


@pytest.mark.lab
async def test_rules_are_loaded_once_and_come_back(wide: World) -> None:
    await on_node(wide, masquerade.RULES.load)
    once = rules(wide)
    assert once
    await on_node(wide, masquerade.RULES.load)
    assert rules(wide) == once
    wide.inside(
        wide.node, "sh", "-c", f"nft flush table ip {masquerade.TABLE} || iptables-legacy -t nat -F POSTROUTING"
    )
    assert rules(wide) != once
    await on_node(wide, masquerade.RULES.load)
    assert sorted(rules(wide)) == sorted(once)
