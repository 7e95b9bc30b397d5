"""``spiderpool-lab``: bring a cluster up on this machine, look at it, enter it, take it down."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from spiderpool.cli.connection import examples
from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool.settings import read_mapping
from spiderpool_lab import binaries, internet
from spiderpool_lab.cloud_commands import cloud, describe
from spiderpool_lab.cluster import LabCluster, LabOptions
from spiderpool_lab.demo import Demo
from spiderpool_lab.fabric import STRAY
from spiderpool_lab.life_cycle.command import life_cycle
from spiderpool_lab.node import ProxyMode
from spiderpool_lab.running import NAME, need_root, running
from spiderpool_lab.signals import exit_on_signals
from spiderpool_lab.stories.command import stories
from spiderpool_lab.topology import NodeKind

_OPTIONS_FIRST = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""Everything after the first argument belongs to the command that is run."""

LAST_FRAMES = 10
"""Dropped frames that the status shows."""

POOLS = click.option(
    "--pools",
    type=click.Choice(["discovered", "manual"]),
    default="discovered",
    show_default=True,
    help="Whether pools and networks are made from what the ENIs have, or written by hand.",
)
PROXY_MODE = click.option(
    "--proxy-mode",
    type=click.Choice(get_args(ProxyMode)),
    default="iptables",
    show_default=True,
    help="How kube-proxy serves Services.",
)
NODES = click.option(
    "--nodes",
    type=click.Choice([kind.value for kind in NodeKind]),
    default=NodeKind.REAL.value,
    show_default=True,
    help="Nodes with containerd and a kubelet, or with a stand-in for both, which runs no containers.",
)
SPARE = click.option(
    "--spare",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Free addresses that spiderpool-cloud keeps on every ENI in advance.",
)
VALUES = click.option(
    "--values",
    "-f",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Values of the chart, which go before those of the lab.",
)
SETS = click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="One value of the chart, as helm has it.")


class _Lab(click.Group):
    """Reports our errors as sentences, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SpiderpoolError as error:
            raise click.ClickException(error.message) from error


@click.group(
    cls=_Lab,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("spiderpool-lab up", "spiderpool-lab kubectl get pods -A", "spiderpool-lab down"),
)
@click.version_option(package_name="spiderpool-lab")
def main() -> None:
    """A cluster on this machine, in a cloud that drops what it does not know."""


@main.command(epilog=examples("spiderpool-lab demo", "spiderpool-lab demo --nodes fast --keep"))
@NAME
@POOLS
@PROXY_MODE
@NODES
@click.option("--keep", is_flag=True, help="Leave the cluster up.")
def demo(name: str, keep: bool, **chosen: Any) -> None:
    """Play the walkthrough of running on Alibaba Cloud, and check it."""
    need_root()
    console = Console(width=None if sys.stdout.isatty() else 130, emoji=False)
    cluster = LabCluster(name, _options(detached=keep, **chosen))
    walkthrough = Demo(cluster, console)
    cluster.progress = walkthrough.progress
    with _taken_down(cluster, keep=keep):
        cluster.up()
        passed = walkthrough.run()
        if not passed:
            cluster.keep_logs()
    if keep:
        _print_usage(console, cluster)
    console.print("[bold green]PASS[/bold green]" if passed else "[bold red]FAIL[/bold red]")
    sys.exit(0 if passed else 1)


@main.command(
    epilog=examples(
        "spiderpool-lab up",
        "spiderpool-lab up --nodes fast --spare 4 --name other",
        "spiderpool-lab up --set spiderpoolController.podResourceInject.enabled=true",
        "spiderpool-lab up --values my-values.yaml",
    )
)
@NAME
@POOLS
@PROXY_MODE
@NODES
@SPARE
@VALUES
@SETS
def up(name: str, values: Path | None, **chosen: Any) -> None:
    """Bring a cluster up and leave it running.

    One of the same name that is up already is refused. With --nodes fast the daemons are no pods, and of the values
    those count that become settings in conf.yml.
    """
    need_root()
    console = Console(emoji=False, soft_wrap=True)
    given = read_mapping(values, values.read_text) if values else {}
    cluster = LabCluster(name, _options(detached=True, values=given, **chosen), progress=console.print)
    cluster.check_values()
    with _taken_down(cluster, keep=True):
        cluster.up()
    _print_usage(console, cluster)


@main.command(epilog=examples("spiderpool-lab down", "spiderpool-lab down --name other"))
@NAME
def down(name: str) -> None:
    """Take a cluster down without a trace. Where none is up, what a killed one has left is removed."""
    need_root()
    cluster = LabCluster(name)
    was_up = cluster.is_up
    cluster.down()
    click.echo(f"lab {name!r} is taken down" if was_up else f"no lab named {name!r} was up")


@main.command(epilog=examples("spiderpool-lab status", "spiderpool-lab status --name other"))
@NAME
def status(name: str) -> None:
    """Show the state of a lab: processes, nodes, pods, pools, dropped frames, and the cloud."""
    cluster = running(name)
    console = Console(soft_wrap=True, highlight=False, emoji=False)
    for process in cluster.processes.names():
        console.print(f"{process:32} {'pid ' + str(pid) if (pid := cluster.processes.pid(process)) else 'ended'}")
    for command in ("get nodes -owide", "get pods -A -owide", "get spiderippools", "get spiderips"):
        console.print(f"\n~# kubectl {command}\n{cluster.plane.kubectl(*command.split()).rstrip()}")
    console.print("\nframes that the cloud dropped, by ENI and rule")
    for eni, rules in cluster.fabric.counters().items():
        console.print(f"{eni:16} " + ", ".join(f"{rule} {count}" for rule, count in rules.items()))
    for frame in cluster.dropped_frames()[-LAST_FRAMES:]:
        when = time.strftime("%H:%M:%S", time.localtime(frame.time))
        console.print(f"{frame.eni:16} {when} {frame.rule}: {frame}", markup=False)
    console.print(f"{'router':16} {STRAY} {cluster.fabric.strays()}\n")
    for line in describe(cluster.cloud.admin):
        console.print(line, markup=False)


main.add_command(cloud)
main.add_command(stories)
main.add_command(life_cycle)


@main.command(
    context_settings=_OPTIONS_FIRST,
    epilog=examples(
        "spiderpool-lab exec master ip -br address",
        "spiderpool-lab exec default/test-app-1-xxxxx ip route",
        "spiderpool-lab exec internet curl http://198.51.100.65:999/",
    ),
)
@NAME
@click.argument("target")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec(name: str, target: str, command: tuple[str, ...]) -> None:
    """Run a command in a node (master), in a pod (default/test-app-1-xxxxx) or on the internet."""
    cluster = running(name)
    if target == internet.NAME:
        os.execvp("ip", ["ip", "netns", "exec", cluster.fabric.internet, *command])
    node, pod = _locate(cluster, target)
    outcome = cluster.machines.client(node).exec(list(command), pod=pod, timeout=60)
    sys.stdout.write(outcome.stdout)
    sys.stderr.write(outcome.stderr)
    sys.exit(outcome.rc)


@main.command(
    context_settings=_OPTIONS_FIRST,
    epilog=examples("spiderpool-lab kubectl get pods -A", "spiderpool-lab kubectl --name other get nodes"),
)
@NAME
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def kubectl(name: str, arguments: tuple[str, ...]) -> None:
    """Run kubectl against the cluster."""
    cluster = running(name)
    program = binaries.find("kubectl")
    os.execv(program, [str(program), "--kubeconfig", str(cluster.plane.admin_kubeconfig), *arguments])


@main.command(context_settings=_OPTIONS_FIRST, epilog=examples("spiderpool-lab helm list --namespace kube-system"))
@NAME
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def helm(name: str, arguments: tuple[str, ...]) -> None:
    """Run helm against the cluster."""
    cluster = running(name)
    (program,) = binaries.provide([binaries.HELM])
    os.execv(program.path, [str(program.path), "--kubeconfig", str(cluster.plane.admin_kubeconfig), *arguments])


@contextmanager
def _taken_down(cluster: LabCluster, *, keep: bool) -> Iterator[None]:
    """Take the cluster down when the work ends, also by Ctrl-C or SIGTERM, unless it is complete and to be kept.

    A lab of the same name that is up already is refused first, and stays as it is.
    """
    cluster.reserve()
    exit_on_signals()
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        click.echo("interrupted, taking everything down …", err=True)
        _down_undisturbed(cluster)
        sys.exit(130)
    except BaseException:
        if cluster.is_up:
            cluster.keep_logs()
        _down_undisturbed(cluster)
        raise
    if not keep:
        _down_undisturbed(cluster)


def _options(*, pools: str, nodes: str, **others: Any) -> LabOptions:
    """The options of a lab from those of the command line. Real nodes get the product as those of users do."""
    kind = NodeKind(nodes)
    return LabOptions(discovery=pools == "discovered", nodes=kind, by_chart=kind is NodeKind.REAL, **others)


def _down_undisturbed(cluster: LabCluster) -> None:
    """Take the cluster down, ignoring signals: a second Ctrl-C would leave half of it behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    cluster.down()


def _locate(cluster: LabCluster, target: str) -> tuple[str, str | None]:
    """The target's node, and the pod if it is one. Raises BadConfig if it is neither a node nor a pod."""
    namespace, slash, pod = target.partition("/")
    if slash:
        return cluster.plane.kubectl("get", "pod", "-n", namespace, pod, "-o", "jsonpath={.spec.nodeName}"), target
    nodes = [node.name for node in cluster.fabric.topology.nodes]
    if target not in nodes:
        names = ", ".join([*nodes, internet.NAME])
        raise BadConfig(f"there is no node {target!r}: name one of {names}, or a pod as namespace/name")
    return target, None


def _print_usage(console: Console, cluster: LabCluster) -> None:
    option = "" if cluster.name == "demo" else f" --name {cluster.name}"
    console.print(
        f"\nThe cluster is up. Look at it, enter it, take it down:\n"
        f"  spiderpool-lab status{option}\n"
        f"  spiderpool-lab kubectl{option} get pods -A\n"
        f"  spiderpool-lab exec{option} master ip address\n"
        f"  spiderpool-lab cloud state{option}\n"
        f"  spiderpool-lab down{option}\n"
        f"kubeconfig: {cluster.plane.admin_kubeconfig}\n",
        highlight=False,
        soft_wrap=True,  # the path is to be copied
    )


if __name__ == "__main__":
    main()
