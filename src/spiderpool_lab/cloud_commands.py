"""``spiderpool-lab cloud``: look at the cloud of a lab, act in it as at its console, and break it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import click

from spiderpool.errors import BadConfig
from spiderpool_lab.alibaba.faults import Fault, Kind
from spiderpool_lab.console import Console, Json
from spiderpool_lab.running import NAME, running

LAST, LONGEST = 10, 100
"""Calls that are shown, and letters of their parameters."""


@click.group()
def cloud() -> None:
    """Look at the cloud, act in it as at its console, break it."""


@cloud.command()
@NAME
def state(name: str) -> None:
    """Show servers, ENIs, addresses, load balancers, faults and the last calls."""
    click.echo("\n".join(described(running(name).cloud.console)))


@cloud.command()
@NAME
@click.argument("product", type=click.Choice(["ecs", "vpc", "slb", "nlb"]))
@click.argument("action")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
def call(name: str, product: str, action: str, parameters: tuple[str, ...]) -> None:
    """Carry out an action of the API, as somebody at the console.

    For example: ecs AssignPrivateIpAddresses NetworkInterfaceId=eni-master-eth0 SecondaryPrivateIpAddressCount=1
    """
    answer = running(name).cloud.console.perform(product, action, **dict(map(_pair, parameters)))
    click.echo(json.dumps(answer, indent=2))


@cloud.command()
@NAME
@click.argument("kind", type=click.Choice(get_args(Kind)))
@click.option("--actions", default="*", show_default=True, help="Which calls it hits: product:Action, as a pattern.")
@click.option("--every", default=1, show_default=True, help="Every how many of them.")
@click.option("--times", type=int, help="At most how often.")
@click.option("--seconds", default=1.0, show_default=True, help="The delay, or the wait that is told.")
def fault(name: str, kind: Kind, actions: str, every: int, times: int | None, seconds: float) -> None:
    """Make something go wrong: throttle, refuse, delay, drop, lose (the answer), stale, empty.

    `metadata:*` hits the metadata service, all others the API.
    """
    wanted = Fault(kind=kind, actions=actions, every=every, times=times, seconds=seconds)
    click.echo(f"fault {running(name).cloud.console.break_down(wanted)} is set")


@cloud.command()
@NAME
@click.argument("number", type=int, required=False)
def repair(name: str, number: int | None) -> None:
    """Take a fault away, or all of them."""
    running(name).cloud.console.repair(number)


@cloud.command()
@NAME
@click.argument("vswitch")
@click.option("--undo", is_flag=True, help="It has addresses again.")
def full(name: str, vswitch: str, undo: bool) -> None:
    """Have a vSwitch give no address any more."""
    running(name).cloud.console.fill(vswitch, full=not undo)


@cloud.command()
@NAME
@click.argument("server")
def lose(name: str, server: str) -> None:
    """Have a server (master, or i-master) vanish from the account, with its ENIs."""
    console = running(name).cloud.console
    known = {each[key]: each["identity"] for each in console.state()["instances"] for key in ("name", "identity")}
    if server not in known:
        raise BadConfig(f"there is no server {server!r}: name one of {', '.join(sorted(known))}")
    console.lose(known[server])


def described(console: Console) -> Iterator[str]:
    """The state of the cloud, line by line."""
    state = console.state()
    yield "servers, ENIs and the addresses that are registered on them"
    for server in state["instances"]:
        yield f"{server['identity']:16} {server['status']:10} {server['instance_type']:14} {server['zone']}"
        enis = (eni for eni in state["enis"] if eni["instance"] == server["identity"])
        yield from map(_eni, enis)
    yield "load balancers"
    yield from _balancers(state)
    yield "faults"
    yield from (f"  {number}: {_fault(fault)}" for number, fault in console.faults().items())
    yield f"last {LAST} calls"
    yield from (f"  {_call(each)}" for each in _calls(console)[-LAST:])


def _eni(eni: Json) -> str:
    addresses = " ".join([eni["address"], *eni["secondaries"], *eni["ipv6_addresses"]])
    return f"  {eni['identity']:16} {eni['mac']} {eni['vswitch']:6} {addresses}"


def _balancers(state: dict[str, list[Json]]) -> Iterator[str]:
    groups = {group["identity"]: group for group in (*state["clb_groups"], *state["nlb_groups"])}
    for balancer in state["clbs"]:
        yield f"  {balancer['identity']} {balancer['address']} {balancer['name']}"
        for listener in balancer["listeners"]:
            servers = _servers(groups.get(listener["settings"].get("VServerGroupId", "")))
            yield f"    {listener['protocol']}:{listener['port']} → {servers}"
    for balancer in state["nlbs"]:
        yield f"  {balancer['identity']} {balancer['domain']} {balancer['status']} {balancer['name']}"
        for listener in (each for each in state["nlb_listeners"] if each["balancer"] == balancer["identity"]):
            servers = _servers(groups.get(listener["settings"].get("ServerGroupId", "")))
            yield f"    {listener['protocol']}:{listener['port']} → {servers}"


def _servers(group: Json | None) -> str:
    backends: Iterable[Json] = group["backends"] if group else ()
    told = (f"{each['server']}:{each['port']} (weight {each['weight']})" for each in backends)
    return ", ".join(told) or "no server"


def _calls(console: Console) -> list[Json]:
    """The last calls of the API: servers ask the metadata service again and again."""
    last: list[Json] = console.calls()["last"]
    return [each for each in last if not each["action"].startswith("metadata:")]


def _call(call: Json) -> str:
    shown = {key: text for key, text in call["parameters"].items() if key not in ("RegionId", "ClientToken")}
    told = " ".join(f"{key}={text}" for key, text in shown.items())
    more = "…" if len(told) > LONGEST else ""
    return f"{call['identity']} {call['action']} {call['outcome']} {told[:LONGEST]}{more}"


def _fault(fault: Json) -> str:
    limit = f", {fault['times']} times" if fault["times"] else ""
    return f"{fault['kind']} {fault['actions']}, every {fault['every']}{limit}"


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise BadConfig(f"{text!r} is no parameter: write NAME=VALUE")
    return key, value
