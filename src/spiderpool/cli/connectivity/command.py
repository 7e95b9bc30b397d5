"""The command `connectivity test`: its options, and what it does in which order."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

import click

from spiderpool.api.core_v1 import Namespace, Node, Service
from spiderpool.api.nad import NetworkAttachmentDefinition
from spiderpool.cli.agent_options import as_agents_are_set
from spiderpool.cli.completion import names_of
from spiderpool.cli.connection import Cluster, Connection, Show, connected, end, examples, shown
from spiderpool.cli.connectivity import run
from spiderpool.cli.connectivity.answer import ConnectivityReport, junit
from spiderpool.cli.connectivity.judgement import ConnectivityRow
from spiderpool.cli.connectivity.matrix import (
    NODE_TOPICS,
    SocketAddress,
    Topic,
    left_out,
    performance_pairs,
    questions,
)
from spiderpool.cli.connectivity.objects import ProbeFrame
from spiderpool.cli.connectivity.preparation import ProbePlan, ProbeSize, plan_test
from spiderpool.cli.installation import AGENT, COMPONENT_LABEL
from spiderpool.cli.plan.case import read_facts
from spiderpool.cli.policies import AgentSet, PolicyOptions, read_policies
from spiderpool.cli.printing import Done, object_reference, say
from spiderpool.cli.trace.balancers import addresses_of_balancer
from spiderpool.errors import BadConfig, Refused

PORT = 18087
"""On which the pods of a test listen by default, also those on the host network."""
BEYOND = 120
"""Seconds that pods and Namespace of a test outlive its timeout, if nobody removes them before."""
SIGNALLED = 128
"""The exit status of a command that a signal ended, less the number of the signal."""
SERVER = re.compile(r"\[?(?P<address>[^\[\]]+?)\]?:(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class ConnectivityTest:
    """What the user wants to know."""

    size: ProbeSize
    policies: PolicyOptions
    image: str | None
    port: int
    timeout: float
    perf: bool
    perf_seconds: float
    balancers: tuple[str, ...]
    """Services as ``namespace/name``."""
    egress: tuple[SocketAddress, ...]
    without: tuple[Topic, ...]
    keep: bool

    @classmethod
    def of(cls, **options: Any) -> Self:
        """From the command line. Raises UsageError."""
        return cls(
            size=ProbeSize(
                options["nodes"],
                options["networks"],
                options["addresses_per_network"],
                outside=len(options["egress"]) + len(options["load_balancer"]),
                has_nodes=not frozenset(map(Topic, options["without"])) >= NODE_TOPICS,
                kept=options["keep_free"],
            ),
            policies=PolicyOptions(options["spiderpool_namespace"], options["values"], options["default_network"]),
            image=options["image"],
            port=options["port"],
            timeout=options["timeout"],
            perf=options["perf"],
            perf_seconds=options["perf_seconds"],
            balancers=options["load_balancer"],
            egress=tuple(map(socket_address, options["egress"])),
            without=tuple(map(Topic, options["without"])),
            keep=options["keep"],
        )

    async def answer(self, cluster: Cluster) -> ConnectivityReport:
        """Test, and remove all that was made for it, also after an interruption. Raises Refused, errors of the API."""
        _cancel_at_signals(asyncio.current_task())
        if old := await run.leftovers(cluster, expired=True):
            say(f"removing what a former test has left: {', '.join(each.name for each in old)}")
            await run.remove(cluster, old)
        balancers = tuple([each for name in self.balancers for each in await balancer_addresses(cluster, name)])
        image = self.image or await agent_image(cluster, self.policies.namespace)
        policies = await read_policies(cluster, self.policies)
        facts = await read_facts(cluster, policies, datetime.now(UTC).timestamp())
        frame = self._frame(image)
        plan = await plan_test(cluster, facts, self.size, frame.namespace)
        say(str(plan))
        nodes = {each.name: each for each in facts.nodes}
        async with run.own_namespace(cluster, frame, say, keep=self.keep):
            probes = run.ProbeRun(cluster, frame, time.monotonic() + self.timeout, say)
            rows = await self._rows(probes, plan, nodes, balancers)
        notes = (*plan.notes, *policies.notes, *probes.notes, *self._notes())
        return ConnectivityReport(
            tuple(rows),
            tuple(dict.fromkeys(each.node for each in plan.sites)),
            notes,
            (*plan.problems, *probes.problems),
        )

    def _frame(self, image: str) -> ProbeFrame:
        seconds = int(self.timeout) + BEYOND
        return ProbeFrame(
            run.new_name(),
            image,
            self.port,
            run.new_token(),
            seconds,
            is_measured=self.perf,
            has_nodes=self.size.has_nodes,
        )

    async def _rows(
        self, probes: run.ProbeRun, plan: ProbePlan, nodes: dict[str, Node], balancers: tuple[SocketAddress, ...]
    ) -> list[ConnectivityRow]:
        service = await probes.start(plan.sites, nodes)
        sites = tuple(each for each in plan.sites if each.network or not probes.refused)
        running = await probes.until_serving(await probes.until_running(sites))
        pods = await run.with_addresses(probes.cluster, sites, running, nodes)
        asked = replace(run.asked_services(probes.frame, service), balancers=balancers, egress=self.egress)
        rows = run.address_rows(probes, sites, pods)
        listed = questions(pods, asked, self.without)
        probes.notes += [text for text in (left_out(pods),) if text]
        say(f"{len(pods)} of {len(sites)} pods run, and put {len(listed)} questions")
        rows += await probes.put_all(listed)
        if self.perf:
            pairs = performance_pairs(pods, asked)
            say(f"measuring {len(pairs)} pairs, {self.perf_seconds:g} s each")
            rows += await probes.measure(pairs, self.perf_seconds)
        return rows

    def _notes(self) -> Iterable[str]:
        if not self.balancers and Topic.LOAD_BALANCER not in self.without:
            yield "addresses of load balancers were not asked: name a Service by --load-balancer NAMESPACE/NAME"
        if not self.egress and Topic.EGRESS not in self.without:
            yield "nothing outside of the cluster was asked: name a server by --egress ADDRESS:PORT"


def _cancel_at_signals(task: asyncio.Task[Any] | None) -> None:
    """End a test as Ctrl-C does, when it is told to end or its terminal has gone; not where that is ignored (nohup)."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if task is not None and signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, _cancel, task, number)


def _cancel(task: asyncio.Task[Any], number: signal.Signals) -> None:
    """Once: a further signal must not end the removal."""
    if not task.cancelling():
        task.cancel(number)


def socket_address(text: str) -> SocketAddress:
    """``10.0.0.1:443`` or ``[fd00::1]:443``. Raises UsageError."""
    found = SERVER.fullmatch(text)
    try:
        if found is not None and 0 < int(found["port"]) < 1 << 16:
            return SocketAddress(str(ip_address(found["address"])), int(found["port"]))
    except ValueError:
        pass
    raise click.UsageError(f"{text!r} is no address with a port: write 203.0.113.10:443 or [2001:db8::10]:443")


async def agent_image(cluster: Cluster, namespace: str) -> str:
    """The image of the agents, which each node has. Raises Refused where there are none."""
    sets = await cluster.list(AgentSet, namespace, labels=f"{COMPONENT_LABEL}={AGENT}")
    image = next((each.image for each in sets or () if each.image), None)
    if image is None:
        raise Refused(
            f"no DaemonSet of {AGENT} is in Namespace {namespace}, whose image the pods would have: name its Namespace"
            " by --spiderpool-namespace, or any image with Python 3.11 or later by --image"
        )
    return image


async def balancer_addresses(cluster: Cluster, name: str) -> list[SocketAddress]:
    """Where the load balancer of a Service listens by TCP. Raises Refused for one that has no address."""
    namespace, _, own_name = name.rpartition("/")
    service = await cluster.find(Service, own_name, namespace or cluster.namespace)
    if service is None:
        raise Refused(f"Service {name} does not exist, or may not be read")
    ports = [each.port for each in service.spec.ports or () if each.protocol == "TCP"]
    addresses = addresses_of_balancer(service)
    if not (ports and addresses):
        raise Refused(f"Service {name} has no address of a load balancer with a port of TCP; see `kubectl describe`")
    return [SocketAddress(address, port) for address in addresses for port in ports[:1]]


async def clean_up(cluster: Cluster) -> Done:
    """Remove what all former tests have left, also one that runs elsewhere."""
    found = await run.leftovers(cluster, expired=False)
    if not found:
        return Done("", "no connectivity test has left anything")
    gone, names = await run.remove(cluster, found), [each.name for each in found]
    said = f"{'removed' if gone else 'still being removed'}: {', '.join(names)}"
    return Done("\n".join(object_reference(Namespace, each) for each in names), said)


@click.group(epilog=examples("spiderpoolctl connectivity test", "spiderpoolctl connectivity test --clean-up"))
def connectivity() -> None:
    """Whether traffic passes between pods, nodes and Services."""


TOPICS = [each.value for each in Topic if each not in (Topic.ADDRESS, Topic.PERFORMANCE)]
"""What may be left out."""
SIZE_OPTIONS = (
    click.option(
        "--nodes",
        multiple=True,
        metavar="NAME",
        shell_complete=names_of(Node),
        help="Node; repeatable. Default: all.",
    ),
    click.option(
        "--networks",
        multiple=True,
        metavar="[NAMESPACE/]NAME",
        shell_complete=names_of(NetworkAttachmentDefinition),
        help="Network, or two with + between for pods with both; repeatable. Default: all, and the first two.",
    ),
    click.option(
        "--addresses-per-network",
        type=click.IntRange(1, 10),
        default=2,
        show_default=True,
        metavar="N",
        help="Pods of each network on each node; with 1 no two pods of a network are on one node.",
    ),
    click.option(
        "--keep-free",
        type=click.IntRange(0),
        metavar="N",
        help="Addresses left free in each pool. Default: a tenth of it, at most 5.",
    ),
    click.option("--load-balancer", multiple=True, metavar="[NAMESPACE/]NAME", help="Service whose balancer is asked."),
    click.option("--egress", multiple=True, metavar="ADDRESS:PORT", help="Server outside that is asked by TCP."),
    click.option(
        "--without",
        multiple=True,
        type=click.Choice(TOPICS),
        metavar="TOPIC",
        help=f"Leave questions out; repeatable. TOPIC: {', '.join(TOPICS)}.",
    ),
)
"""The options of what is tested, the last one first in the help."""


def _sized(command: Any) -> Any:
    """Give a command these options."""
    for option in SIZE_OPTIONS:
        command = option(command)
    return command


@connectivity.command(
    "test",
    epilog=examples(
        "spiderpoolctl connectivity test",
        "spiderpoolctl connectivity test --nodes worker-1 --nodes worker-2",
        "spiderpoolctl connectivity test --networks kube-system/ipvlan-eth0 --perf",
        "spiderpoolctl connectivity test --egress 203.0.113.10:443 -o json",
        "spiderpoolctl connectivity test --clean-up",
    ),
)
@_sized
@click.option("--perf", is_flag=True, help="Measure throughput and latency too, one pair of pods after the other.")
@click.option(
    "--perf-seconds", type=click.FloatRange(0.5, 30), default=3.0, show_default=True, help="For each measurement."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=10),
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    help="For all of it.",
)
@click.option("--image", metavar="IMAGE", help="Image with python3, 3.11 or later. Default: that of the agents.")
@click.option(
    "--port", type=click.IntRange(1024, 65535), default=PORT, show_default=True, help="Port of pods, and of the nodes."
)
@click.option("--junit", "junit_file", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML as well.")
@click.option("--keep", is_flag=True, help="Leave the pods until their time is over, to look at what failed.")
@click.option("--clean-up", "removes", is_flag=True, help="Only remove what former tests have left, and test nothing.")
@as_agents_are_set
@shown
@connected
def run_connectivity_test(
    connection: Connection, show: Show, junit_file: Path | None, removes: bool, **options: Any
) -> None:
    """Make pods on every node and network, have them put questions to each other, and remove them.

    Pod to pod, to nodes, from nodes, by ClusterIP and NodePort, names, two networks, and what you name outside, in
    both families. Before it begins it says which addresses it takes, and refuses where too few of a pool would be left.
    Where an answer is wrong or missing, the exit status is 1.
    """
    if removes:
        show(connection.run(clean_up))
        return
    test = ConnectivityTest.of(**options)
    try:
        report = connection.run(test.answer)
    except asyncio.CancelledError as error:
        raise SystemExit(SIGNALLED + int(error.args[0] if error.args else signal.SIGTERM)) from None
    show(report)
    if junit_file is not None:
        _write(junit_file, junit(report))
    end(report.failed)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise BadConfig(f"{file} cannot be written: {error}; name another by --junit") from error
