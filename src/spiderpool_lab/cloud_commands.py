"""``spiderpool-lab cloud``: show the simulated cloud of a lab, act in it as at its console, and make it fail."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import click

from spiderpool.cli.connection import examples
from spiderpool.errors import BadConfig
from spiderpool_lab.admin_client import AdminClient, Json
from spiderpool_lab.alibaba.faults import Fault, Kind
from spiderpool_lab.running import NAME, running

SHOWN_CALLS, SHOWN_LETTERS = 10, 100
"""How many of the last calls are shown, and how many letters of the parameters of each."""


@click.group(epilog=examples("spiderpool-lab cloud state", "spiderpool-lab cloud fault throttle --actions 'slb:*'"))
def cloud() -> None:
    """Look at the cloud, act in it as at its console, break it."""


@cloud.command(epilog=examples("spiderpool-lab cloud state"))
@NAME
def state(name: str) -> None:
    """Show servers, ENIs, addresses, load balancers, faults and the last calls."""
    click.echo("\n".join(describe(running(name).cloud.admin)))


@cloud.command(epilog=examples("spiderpool-lab cloud call ecs DescribeInstances"))
@NAME
@click.argument("product", type=click.Choice(["ecs", "vpc", "slb", "nlb"]))
@click.argument("action")
@click.argument("parameters", nargs=-1, metavar="[NAME=VALUE]...")
def call(name: str, product: str, action: str, parameters: tuple[str, ...]) -> None:
    """Carry out an action of the API, as a user does at the console.

    For example: ecs AssignPrivateIpAddresses NetworkInterfaceId=eni-master-eth0 SecondaryPrivateIpAddressCount=1
    """
    answer = running(name).cloud.admin.call(product, action, **dict(map(_pair, parameters)))
    click.echo(json.dumps(answer, indent=2))


@cloud.command(
    epilog=examples(
        "spiderpool-lab cloud fault throttle --actions 'slb:*' --every 2",
        "spiderpool-lab cloud fault drop --actions 'metadata:*'",
    )
)
@NAME
@click.argument("kind", type=click.Choice(get_args(Kind)))
@click.option("--actions", default="*", show_default=True, help="Which calls it hits: product:Action, as a pattern.")
@click.option("--every", default=1, show_default=True, help="Every how many of them.")
@click.option("--times", type=int, help="At most how often.")
@click.option("--seconds", default=1.0, show_default=True, help="The delay, or the retry-after of a throttled call.")
def fault(name: str, **fields: Any) -> None:
    """Make something go wrong: throttle, refuse, delay, drop, lose (the answer), stale, empty.

    `metadata:*` hits the metadata service, all others the API.
    """
    number = running(name).cloud.admin.set_fault(Fault(**fields))  # the options are named as the fields
    click.echo(f"fault {number} is set")


@cloud.command(epilog=examples("spiderpool-lab cloud repair", "spiderpool-lab cloud repair 1"))
@NAME
@click.argument("number", type=int, required=False)
def repair(name: str, number: int | None) -> None:
    """Take a fault away, or all of them."""
    cleared = running(name).cloud.admin.clear_faults(number)
    click.echo("".join(f"fault {each} is taken away\n" for each in cleared) or "no fault was set\n", nl=False)


@cloud.command(epilog=examples("spiderpool-lab cloud full vsw0", "spiderpool-lab cloud full vsw0 --undo"))
@NAME
@click.argument("vswitch")
@click.option("--undo", is_flag=True, help="It has addresses again.")
def full(name: str, vswitch: str, undo: bool) -> None:
    """Have a vSwitch give no address any more."""
    running(name).cloud.admin.set_vswitch_full(vswitch, full=not undo)
    click.echo(f"vSwitch {vswitch} has free addresses again" if undo else f"vSwitch {vswitch} has no free address left")


@cloud.command(epilog=examples("spiderpool-lab cloud lose worker"))
@NAME
@click.argument("server")
def lose(name: str, server: str) -> None:
    """Have a server (master, or i-master) vanish from the account, with its ENIs.

    Its Node stays Ready until Kubernetes has missed its kubelet for some 30 s; then spiderpool-cloud deletes it.
    """
    admin = running(name).cloud.admin
    known = {
        instance[key]: instance["identity"] for instance in admin.state()["instances"] for key in ("name", "identity")
    }
    if server not in known:
        raise BadConfig(f"there is no server {server!r}: name one of {', '.join(sorted(known))}")
    admin.remove_instance(known[server])
    click.echo(
        f"server {known[server]} and its ENIs are gone, and what it sends is dropped.\nIts Node stays Ready until"
        " Kubernetes has missed its kubelet for some 30 s; soon after that spiderpool-cloud deletes it."
    )


def describe(admin: AdminClient) -> Iterator[str]:
    """The state of the cloud as lines of text."""
    state = admin.state()
    yield "servers, ENIs and the addresses that are registered on them"
    for server in state["instances"]:
        yield f"{server['identity']:16} {server['status']:10} {server['instance_type']:14} {server['zone']}"
        enis = (eni for eni in state["enis"] if eni["instance"] == server["identity"])
        yield from map(_eni, enis)
    yield "load balancers"
    yield from _balancers(state)
    yield "faults"
    yield from (f"  {number}: {_fault(fault)}" for number, fault in admin.faults().items())
    yield f"last {SHOWN_CALLS} calls"
    yield from (f"  {_call(call)}" for call in _calls(admin)[-SHOWN_CALLS:])


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
        for listener in (item for item in state["nlb_listeners"] if item["balancer"] == balancer["identity"]):
            servers = _servers(groups.get(listener["settings"].get("ServerGroupId", "")))
            yield f"    {listener['protocol']}:{listener['port']} → {servers}"


def _servers(group: Json | None) -> str:
    backends: Iterable[Json] = group["backends"] if group else ()
    texts = (f"{backend['server']}:{backend['port']} (weight {backend['weight']})" for backend in backends)
    return ", ".join(texts) or "no server"


def _calls(admin: AdminClient) -> list[Json]:
    """The last calls without those of the metadata service, which every server makes all the time."""
    last: list[Json] = admin.calls()["last"]
    return [call for call in last if not call["action"].startswith("metadata:")]


def _call(call: Json) -> str:
    shown = {key: text for key, text in call["parameters"].items() if key not in ("RegionId", "ClientToken")}
    parameters = " ".join(f"{key}={text}" for key, text in shown.items())
    more = "…" if len(parameters) > SHOWN_LETTERS else ""
    return f"{call['identity']} {call['action']} {call['outcome']} {parameters[:SHOWN_LETTERS]}{more}"


def _fault(fault: Json) -> str:
    limit = f", {fault['times']} times" if fault["times"] else ""
    return f"{fault['kind']} {fault['actions']}, every {fault['every']}{limit}"


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise BadConfig(f"{text!r} is no parameter: write NAME=VALUE")
    return key, value
