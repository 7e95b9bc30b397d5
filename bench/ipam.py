"""Addresses through the agent's socket against the limit that the API server sets: medians, rates, requests, failures.

Two agents on one real control plane. Every figure stands beside the limit measured in the same run, since
machines differ and are noisy; only the ratios are claims.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.limit import Figures, RawCreator, measure, session
from bench.shim import Answerer
from spiderpool.api.core_v1 import Pod as PodKind
from spiderpool.api.ip import SpiderIP
from spiderpool.lab.control_plane import ControlPlane
from spiderpool.lab.local_agent import LocalAgent
from spiderpool.lab.processes import Processes

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts" / "spiderpool"
NODES = ("bench-1", "bench-2")
ONE_AT_A_TIME, PARALLEL = 200, 32
MANY = 1_000
SHIM_RUNS = 300

REQUESTS = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<count>[\d.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that exists and wants an address."""

    name: str
    uid: str
    agent: LocalAgent


class Bench:
    """The world in which all is measured."""

    def __init__(self, plane: ControlPlane, agents: tuple[LocalAgent, ...]) -> None:
        self.plane = plane
        self.agents = agents

    async def add(self, pod: Pod) -> bool:
        """One ADD; whether it gave an address."""
        return bool((await pod.agent.address("ADD", "default", pod.name, pod.uid)).get("ips"))

    async def release(self, pod: Pod) -> bool:
        """One DEL; whether it succeeded."""
        return "code" not in await pod.agent.address("DEL", "default", pod.name, pod.uid)

    def pods(self, count: int, prefix: str, nodes: int = 2) -> list[Pod]:
        """Make pods on the agents' nodes, and wait until both agents can know them."""
        manifests = (_pod(f"{prefix}-{i:04d}", NODES[i % nodes]) for i in range(count))
        self.plane.kubectl("create", "-f", "-", input="\n---\n".join(manifests), timeout=300)
        listed = json.loads(self.plane.kubectl("get", "pods", "-l", f"bench={prefix}", "-o", "json"))["items"]
        by_node = dict(zip(NODES, self.agents, strict=True))
        time.sleep(1.0)
        return [Pod(p["metadata"]["name"], p["metadata"]["uid"], by_node[p["spec"]["nodeName"]]) for p in listed]

    def pools(self, *pools: str) -> None:
        """Have exactly these pools, and let the agents see them."""
        self.plane.kubectl("delete", "spiderippools", "--all", "--wait=true")
        self.plane.apply("\n---\n".join(pools))
        time.sleep(1.0)

    def clear(self) -> None:
        """No pod and no record is left."""
        self.delete_pods()
        self.plane.kubectl("delete", "--raw", f"/{SpiderIP.KIND.path()}", timeout=120)
        time.sleep(1.0)

    def delete_pods(self) -> None:
        """Delete all pods, in one request."""
        self.plane.kubectl("delete", "--raw", f"/{PodKind.KIND.path('default')}?gracePeriodSeconds=0", timeout=120)

    def requests(self) -> dict[str, int]:
        """Requests about SpiderIPs that the API server has counted, by verb, watches left out."""
        counts: dict[str, int] = {}
        for match in REQUESTS.finditer(self.plane.kubectl("get", "--raw", "/metrics")):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match["labels"]))
            if labels.get("resource") in ("spiderips", "spiderippools", "pods", "events") and labels["verb"] != "WATCH":
                key = f"{labels['verb']} {labels['resource']}"
                counts[key] = counts.get(key, 0) + int(float(match["count"]))
        return counts


def main() -> None:
    """Measure and print the table; exit status 1 when a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--many", type=int, default=MANY, help="addresses in the parallel runs")
    arguments = parser.parse_args()
    with world() as bench:
        claims = list(run(bench, arguments.many))
    table = Table("what", "measured", "limit", "ratio", "claim", "holds")
    for claim in claims:
        table.add_row(*claim.row())
    Console(width=130).print(table)
    sys.exit(0 if all(claim.holds for claim in claims) else 1)


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the table."""

    what: str
    measured: str
    limit: str
    ratio: str
    claim: str
    holds: bool

    def row(self) -> tuple[str, ...]:
        """As table cells."""
        return (self.what, self.measured, self.limit, self.ratio, self.claim, "yes" if self.holds else "NO")


def run(bench: Bench, many: int) -> Iterator[Claim]:
    """All measurements in order."""
    kubeconfig = bench.plane.admin_kubeconfig
    single_limit, parallel_limit = asyncio.run(limits(kubeconfig, many))
    bench.clear()
    yield from one_at_a_time(bench, single_limit)
    yield parallel(bench, "pool per node", own_pools(), parallel_limit, many, 0.50)
    yield parallel(bench, "one shared pool", (shared_pool(),), parallel_limit, many, 0.40)
    yield shim_claim()


async def limits(kubeconfig: Path, many: int) -> tuple[Figures, Figures]:
    """The limit one at a time and in parallel."""
    client, url = session(kubeconfig, PARALLEL)
    async with client:
        creator = RawCreator(client, url)
        base = int(IPv4Address("10.200.0.0"))
        await measure(lambda i: creator.create(base + i), 50, 4)
        single = await measure(lambda i: creator.create(base + 1_000 + i), ONE_AT_A_TIME, 1)
        return single, await measure(lambda i: creator.create(base + 10_000 + i), many, PARALLEL)


def one_at_a_time(bench: Bench, limit: Figures) -> Iterator[Claim]:
    """Median of an ADD, and the requests that ADD and DEL cost."""
    bench.pools(*own_pools())
    pods = bench.pods(ONE_AT_A_TIME, "single")
    before = bench.requests()
    figures = asyncio.run(measure(lambda i: bench.add(pods[i]), len(pods), 1))
    between = bench.requests()
    ratio = figures.median / limit.median
    yield Claim(
        "ADD one at a time, median",
        f"{figures.median * 1e3:.2f} ms",
        f"{limit.median * 1e3:.2f} ms",
        f"{ratio:.2f}",
        "<= 2.0, none failed",
        ratio <= 2.0 and not figures.failed,
    )
    yield _requests("requests per ADD", between, before, len(pods), "POST spiderips")
    bench.delete_pods()
    asyncio.run(measure(lambda i: bench.release(pods[i]), len(pods), 1))
    yield _requests("requests per DEL", bench.requests(), between, len(pods), "DELETE spiderips")
    bench.clear()


def parallel(bench: Bench, name: str, pools: tuple[str, ...], limit: Figures, many: int, share: float) -> Claim:
    """ADD/s at 32 in parallel over both agents."""
    bench.pools(*pools)
    pods = bench.pods(many, "parallel")
    figures = asyncio.run(measure(lambda i: bench.add(pods[i]), len(pods), PARALLEL))
    bench.clear()
    ratio = figures.rate / limit.rate
    return Claim(
        f"ADD/s at {PARALLEL} in parallel, {name}",
        f"{figures.rate:.0f}/s, {figures.failed} failed",
        f"{limit.rate:.0f}/s",
        f"{ratio:.0%}",
        f">= {share:.0%}, none failed",
        ratio >= share and not figures.failed,
    )


def shim_claim() -> Claim:
    """Exec of the CNI executable with a round trip to a socket, against /bin/true."""
    ours, true = shim_seconds()
    extra = (ours - true) * 1e3
    return Claim(
        "exec of the CNI executable, median",
        f"{ours * 1e3:.2f} ms",
        f"{true * 1e3:.2f} ms (/bin/true)",
        f"+{extra:.2f} ms",
        "<= true + 1 ms",
        extra <= 1.0,
    )


def shim_seconds() -> tuple[float, float]:
    """Median seconds of the executable and of /bin/true, run in turn, so that noise hits both."""
    with Answerer() as answerer:
        samples = [(answerer.run_shim(), answerer.run_true()) for _ in range(SHIM_RUNS)]
    return statistics.median(s for s, _ in samples), statistics.median(t for _, t in samples)


def own_pools() -> tuple[str, ...]:
    """A pool for each node."""
    return tuple(
        _pool(f"own-{i}", f"10.{i}.0.0/16", f"10.{i}.0.1-10.{i}.15.254", node) for i, node in enumerate(NODES, 1)
    )


def shared_pool() -> str:
    """A pool for both nodes."""
    return _pool("shared", "10.3.0.0/16", "10.3.0.1-10.3.15.254")


def _requests(what: str, after: dict[str, int], before: dict[str, int], count: int, expected: str) -> Claim:
    spent = {key: after.get(key, 0) - before.get(key, 0) for key in after}
    listing = ("pods", "GET", "LIST")
    relevant = {
        key: n for key, n in spent.items() if n and not (key.endswith("pods") and key.split()[0] not in listing)
    }
    text = ", ".join(f"{n / count:.2f} {key}" for key, n in sorted(relevant.items()) if n >= count / 50) or "none"
    return Claim(what, text, "", "", f"1 {expected}, nothing else", text == f"1.00 {expected}")


def _pool(name: str, subnet: str, ips: str, node: str = "") -> str:
    bound = f", nodeName: [{node}]" if node else ""
    labels = f"{{ipam.spidernet.io/node: {node}}}" if node else "{}"
    return (
        "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\n"
        f"metadata: {{name: {name}, labels: {labels}}}\n"
        f"spec: {{subnet: {subnet}, ipVersion: 4, default: true, ips: [{ips}]{bound}}}"
    )


def _pod(name: str, node: str) -> str:
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{bench: {name.rpartition('-')[0]}}}}}\n"
        f"spec: {{nodeName: {node}, terminationGracePeriodSeconds: 0, containers: [{{name: c, image: none}}]}}"
    )


@contextmanager
def world() -> Iterator[Bench]:
    """A control plane and two agents, taken down whatever happens."""
    directory = Path(tempfile.mkdtemp(prefix="spiderpool-bench-"))
    processes = Processes(directory / "processes")
    plane = ControlPlane(directory, processes)
    say: Callable[[str], None] = Console(stderr=True).print
    try:
        say("starting the control plane …")
        plane.start(timeout=60)
        plane.apply(*sorted(CHART.glob("crds/*.yaml")), CHART / "templates" / "agent-rbac.yaml")
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        kubeconfig = plane.service_account_kubeconfig("kube-system", "spiderpool-agent")
        agents = tuple(LocalAgent(kubeconfig, processes, directory, node) for node in NODES)
        say("starting two agents …")
        for agent in agents:
            agent.start()
        yield Bench(plane, agents)
    finally:
        processes.stop_all()
        plane.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
