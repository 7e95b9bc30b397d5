"""Measures ADD and DEL through the agent's socket, compared with the limit that the API server sets.

Runs two agents on a real control plane. The limit is measured in the same run, because machines differ and are noisy;
the claims are about ratios, numbers of requests and failures.
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
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tests.support.local_agent import AgentOptions, LocalAgent

from bench.limit import Figures, ParallelCreator, RawCreator, measure
from bench.shim import ShimTimer
from spiderpool.api.core_v1 import Pod as PodKind
from spiderpool.api.ip import SpiderIP
from spiderpool_lab import chart, namespaces
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes

ROOT = Path(__file__).parent.parent
NODES = ("bench-1", "bench-2")
SETTINGS = "enableIPv4: true\nenableIPv6: true"
SERIAL_ADDS = 200
"""ADDs of the measurement one at a time."""
PARALLEL = 32
"""Calls in flight in the parallel runs."""
PARALLEL_ADDS = 1_800
ROUNDS = 6
"""Rounds of a parallel run. The first round warms up connections and caches and does not count."""
SHIM_RUNS = 300
CREATES = "POST spiderips"
CHURN_POOL = 320
"""Addresses of the shared pool in which the search places of the nodes meet."""
CHURN_HELD = 300
"""Addresses in use after each round: nearly all, so that each node runs into what the other one has or gives back."""
CHURN_BATCH = 100
"""Pods that are replaced in each round."""
CHURN_ROUNDS = 8
HUGE_POOL_ADDS = 120
"""ADDs from each pool size."""

WATCH_DELAY = 1.0
"""Seconds after which the watches of the agents have certainly seen a change."""

REQUESTS = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<count>[\d.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that exists and has no address yet."""

    name: str
    uid: str
    agent: LocalAgent


class Bench:
    """The control plane and the agents that are measured."""

    def __init__(self, plane: ControlPlane, agents: tuple[LocalAgent, ...]) -> None:
        self.plane = plane
        self.agents = agents

    async def add(self, pod: Pod) -> bool:
        """Call ADD. Returns whether it allocated an address."""
        answer = await pod.agent.address("ADD", "default", pod.name, pod.uid)
        if "ips" not in answer:
            print(f"ADD of {pod.name} failed: {answer}", file=sys.stderr)
        return "ips" in answer

    def add_now(self, pod: Pod) -> bool:
        """Call ADD and block, as a container runtime does. Returns whether it allocated an address."""
        return bool(pod.agent.address_now("ADD", "default", pod.name, pod.uid).get("ips"))

    async def release(self, pod: Pod) -> bool:
        """Call DEL. Returns whether it succeeded."""
        return "code" not in await pod.agent.address("DEL", "default", pod.name, pod.uid)

    def release_now(self, pod: Pod) -> bool:
        """Call DEL and block. Returns whether it succeeded."""
        return "code" not in pod.agent.address_now("DEL", "default", pod.name, pod.uid)

    def pods(self, count: int, prefix: str, nodes: int = 2, annotation: str = "{}") -> list[Pod]:
        """Create pods on the agents' nodes, and wait until the agents have seen them."""
        manifests = (_pod(f"{prefix}-{i:04d}", NODES[i % nodes], annotation) for i in range(count))
        self.plane.kubectl("create", "-f", "-", input="\n---\n".join(manifests), timeout=300)
        listed = json.loads(self.plane.kubectl("get", "pods", "-l", f"bench={prefix}", "-o", "json"))["items"]
        by_node = dict(zip(NODES, self.agents, strict=True))
        time.sleep(WATCH_DELAY)
        return [Pod(p["metadata"]["name"], p["metadata"]["uid"], by_node[p["spec"]["nodeName"]]) for p in listed]

    def pools(self, *pools: str) -> None:
        """Replace all pools, and wait until the agents have seen them."""
        self.plane.kubectl("delete", "spiderippools", "--all", "--wait=true")
        self.plane.apply("\n---\n".join(pools))
        time.sleep(WATCH_DELAY)

    def clear(self) -> None:
        """Delete all pods and all SpiderIPs."""
        self.delete_pods()
        self.plane.kubectl("delete", "--raw", f"/{SpiderIP.KIND.path()}", timeout=120)
        time.sleep(WATCH_DELAY)

    def delete_pods(self, prefix: str = "") -> None:
        """Delete all pods, or those of a prefix, in one request."""
        chosen = f"&labelSelector=bench%3D{prefix}" if prefix else ""
        path = f"/{PodKind.KIND.path('default')}?gracePeriodSeconds=0{chosen}"
        self.plane.kubectl("delete", "--raw", path, timeout=120)

    def requests(self) -> dict[str, int]:
        """Requests that the API server has counted, by verb and resource, without watches."""
        counts: dict[str, int] = {}
        for match in REQUESTS.finditer(self.plane.kubectl("get", "--raw", "/metrics")):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match["labels"]))
            if labels.get("resource") in ("spiderips", "spiderippools", "pods", "events") and labels["verb"] != "WATCH":
                key = f"{labels['verb']} {labels['resource']}"
                counts[key] = counts.get(key, 0) + int(float(match["count"]))
        return counts


def main() -> None:
    """Measure and print the table; exit status 1 if a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--many", type=int, default=PARALLEL_ADDS, help="addresses in the parallel runs")
    parser.add_argument("--only-churn", action="store_true", help="only the shared pool whose pods come and go")
    arguments = parser.parse_args()
    namespaces.leave_host()
    with bench_cluster() as bench:
        claims = [churn(bench)] if arguments.only_churn else list(run(bench, arguments.many))
    table = Table("what", "measured", "limit", "ratio", "claim", "holds")
    for claim in claims:
        table.add_row(*claim.row())
    Console(width=130).print(table)
    sys.exit(0 if all(claim.holds for claim in claims) else 1)


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of the table."""

    what: str
    measured: str
    limit: str
    ratio: str
    claim: str
    holds: bool

    def row(self) -> tuple[str, ...]:
        """The cells of the row."""
        return (self.what, self.measured, self.limit, self.ratio, self.claim, "yes" if self.holds else "NO")


def run(bench: Bench, many: int) -> Iterator[Claim]:
    """All measurements. Limit and ADD alternate, so that a slowdown of the machine affects both."""
    yield from one_at_a_time(bench)
    yield from huge_pools(bench)
    yield parallel(bench, "pool per node", own_pools(), many, 0.50)
    yield parallel(bench, "one shared pool", (shared_pool(),), many, 0.40)
    yield churn(bench)
    yield shim_claim()


def one_at_a_time(bench: Bench) -> Iterator[Claim]:
    """Median duration of ADD, and requests per ADD and DEL."""
    bench.pools(*own_pools())
    pods = bench.pods(SERIAL_ADDS, "single")
    with RawCreator(bench.plane.admin_kubeconfig, int(IPv4Address("10.200.0.0"))) as limit:
        before = bench.requests()
        samples = [(seconds(limit.create), seconds(partial(bench.add_now, pod))) for pod in pods]
        between = bench.requests()
    limit_median, add_median = (statistics.median(column) for column in zip(*samples, strict=True))
    ratio = add_median / limit_median
    yield Claim(
        "ADD one at a time, median",
        f"{add_median * 1e3:.2f} ms",
        f"{limit_median * 1e3:.2f} ms",
        f"{ratio:.2f}",
        "<= 2.0, none failed",
        ratio <= 2.0,
    )
    yield _requests(
        "requests per ADD", CountedCalls(len(pods), before, between), "POST spiderips", limit_requests=len(pods)
    )
    bench.delete_pods()
    for pod in pods:
        bench.release_now(pod)
    yield _requests("requests per DEL", CountedCalls(len(pods), between, bench.requests()), "DELETE spiderips")
    bench.clear()


def huge_pools(bench: Bench) -> Iterator[Claim]:
    """ADD from a pool of a whole /8 and of an IPv6 /64, compared with a /24, in turns.

    Pods name their pool in an annotation.
    """
    bench.pools(*SIZES.values())
    pods = {size: bench.pods(HUGE_POOL_ADDS, f"size{i}", annotation=_pool_of(size)) for i, size in enumerate(SIZES)}
    turns = [{size: seconds(partial(bench.add_now, pods[size][i])) for size in SIZES} for i in range(HUGE_POOL_ADDS)]
    bench.clear()
    medians = {size: statistics.median(turn[size] for turn in turns) for size in SIZES}
    small = medians["/24"]
    for size, median in medians.items():
        if size != "/24":
            ratio = median / small
            yield Claim(
                f"ADD from a pool of {size}, median",
                f"{median * 1e3:.2f} ms",
                f"{small * 1e3:.2f} ms (/24)",
                f"{ratio:.2f}",
                "<= 1.5",
                ratio <= 1.5,
            )


def parallel(bench: Bench, name: str, pools: tuple[str, ...], many: int, share: float) -> Claim:
    """ADDs per second over both agents, compared with the limit, both with ``PARALLEL`` calls in flight."""
    bench.pools(*pools)
    pods = bench.pods(many, "parallel")
    turns = asyncio.run(take_turns(bench, pods))
    bench.clear()
    ratio = statistics.median(ours.rate / limit.rate for limit, ours in turns)
    failed = sum(ours.failed for _, ours in turns)
    return Claim(
        f"ADD/s at {PARALLEL} in parallel, {name}",
        f"{statistics.median(ours.rate for _, ours in turns):.0f}/s, {failed} failed",
        f"{statistics.median(limit.rate for limit, _ in turns):.0f}/s",
        f"{ratio:.0%}",
        f">= {share:.0%}, none failed",
        ratio >= share and not failed,
    )


async def take_turns(bench: Bench, pods: list[Pod]) -> list[tuple[Figures, Figures]]:
    """Pairs of limit and ADD, measured alternately in batches of equal size, with warm connections."""
    size = len(pods) // ROUNDS
    turns = []
    async with ParallelCreator(bench.plane.admin_kubeconfig, int(IPv4Address("10.210.0.0"))) as creator:
        await measure(creator.create, 2 * PARALLEL, PARALLEL)
        await measure(lambda i: bench.add(pods[i]), size, PARALLEL)
        for turn in range(1, ROUNDS):
            batch = pods[turn * size :]
            limit = await measure(creator.create, size, PARALLEL)
            turns.append((limit, await measure(lambda i, batch=batch: bench.add(batch[i]), size, PARALLEL)))  # type: ignore[misc]
    return turns


@dataclass(frozen=True, slots=True)
class ChurnRound:
    """What one round has cost: the limit, the ADDs, and the creates that the API server has counted for them."""

    limit: Figures
    adds: Figures
    creates: float
    """Per ADD."""


def churn(bench: Bench) -> Claim:
    """ADDs from a shared pool in which the places have met at which its nodes search, while pods come and go."""
    bench.pools(_pool("churned", "10.4.0.0/16", f"10.4.0.1-{IPv4Address('10.4.0.0') + CHURN_POOL}"))
    rounds = asyncio.run(_churn(bench))
    bench.clear()
    ratio = statistics.median(each.adds.rate / each.limit.rate for each in rounds)
    rate = statistics.median(each.adds.rate for each in rounds)
    lost = statistics.mean(each.creates - 1 for each in rounds)
    failed = sum(each.adds.failed for each in rounds)
    return Claim(
        f"ADD/s at {PARALLEL} in parallel, shared pool, places that meet, {len(rounds) * CHURN_BATCH} pods replaced",
        f"{rate:.0f}/s, {lost:.3f} lost creates per ADD, {failed} failed",
        f"{statistics.median(each.limit.rate for each in rounds):.0f}/s",
        f"{ratio:.0%}",
        ">= 40%, <= 0.5 lost creates, none failed",
        ratio >= 0.40 and lost <= 0.5 and not failed,
    )


async def _churn(bench: Bench) -> list[ChurnRound]:
    """Fill the pool, then replace the oldest pods in each round."""
    kept = deque([bench.pods(CHURN_BATCH, f"fill{number}") for number in range(CHURN_HELD // CHURN_BATCH)])
    for pods in kept:
        await measure(lambda i, pods=pods: bench.add(pods[i]), len(pods), PARALLEL)  # type: ignore[misc]
    rounds = []
    async with ParallelCreator(bench.plane.admin_kubeconfig, int(IPv4Address("10.220.0.0"))) as creator:
        await measure(creator.create, 2 * PARALLEL, PARALLEL)
        for number in range(1, CHURN_ROUNDS + 1):
            await _end(bench, kept.popleft())
            kept.append(pods := bench.pods(CHURN_BATCH, f"churn{number}"))
            limit = await measure(creator.create, CHURN_BATCH, PARALLEL)
            before = bench.requests()
            adds = await measure(lambda i, pods=pods: bench.add(pods[i]), len(pods), PARALLEL)  # type: ignore[misc]
            creates = bench.requests()[CREATES] - before.get(CREATES, 0)
            rounds.append(ChurnRound(limit, adds, creates / len(pods)))
    return rounds


async def _end(bench: Bench, pods: list[Pod]) -> None:
    """Delete pods, and release their addresses."""
    bench.delete_pods(pods[0].name.rpartition("-")[0])
    await asyncio.sleep(WATCH_DELAY)
    await measure(lambda i: bench.release(pods[i]), len(pods), PARALLEL)


def seconds(call: Callable[[], bool]) -> float:
    """Duration of a call. Raises RuntimeError if it fails."""
    start = time.perf_counter()
    if not call():
        raise RuntimeError("a call failed while it was being timed")
    return time.perf_counter() - start


def shim_claim() -> Claim:
    """Run time of the CNI executable with one call over its socket, compared with /bin/true."""
    ours, true = shim_seconds()
    extra = (ours - true) * 1e3
    return Claim(
        "exec of the CNI executable, median",
        f"{ours * 1e3:.2f} ms",
        f"{true * 1e3:.2f} ms (/bin/true)",
        f"{extra:+.2f} ms",
        "<= true + 1 ms",
        extra <= 1.0,
    )


def shim_seconds() -> tuple[float, float]:
    """Median seconds of the executable and of /bin/true, run alternately, so that noise affects both."""
    with ShimTimer() as timer:
        samples = [(timer.run_shim(), timer.run_true()) for _ in range(SHIM_RUNS)]
    return statistics.median(s for s, _ in samples), statistics.median(t for _, t in samples)


def own_pools() -> tuple[str, ...]:
    """A pool for each node."""
    return tuple(
        _pool(f"own-{i}", f"10.{i}.0.0/16", f"10.{i}.0.1-10.{i}.15.254", node) for i, node in enumerate(NODES, 1)
    )


def shared_pool() -> str:
    """A pool for both nodes."""
    return _pool("shared", "10.3.0.0/16", "10.3.0.1-10.3.15.254")


@dataclass(frozen=True, slots=True)
class CountedCalls:
    """``count`` CNI calls, and the request counters of the API server before and after them."""

    count: int
    before: dict[str, int]
    after: dict[str, int]


def _requests(what: str, calls: CountedCalls, expected: str, *, limit_requests: int = 0) -> Claim:
    """The requests per call. ``limit_requests`` of the expected requests came from the measurement of the limit."""
    count = calls.count
    spent = {key: calls.after.get(key, 0) - calls.before.get(key, 0) for key in calls.after}
    spent[expected] = spent.get(expected, 0) - limit_requests
    listing = ("pods", "GET", "LIST")
    relevant = {
        key: n for key, n in spent.items() if n and not (key.endswith("pods") and key.split()[0] not in listing)
    }
    text = ", ".join(f"{n / count:.2f} {key}" for key, n in sorted(relevant.items()) if n >= count / 50) or "none"
    return Claim(what, text, "", "", f"1 {expected}, nothing else", text == f"1.00 {expected}")


def _pool(name: str, subnet: str, ips: str, node: str = "", version: int = 4) -> str:
    bound = f", nodeName: [{node}]" if node else ""
    labels = f"{{ipam.spidernet.io/node: {node}}}" if node else "{}"
    return (
        "apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderIPPool\n"
        f"metadata: {{name: {name}, labels: {labels}}}\n"
        f"spec: {{subnet: '{subnet}', ipVersion: {version}, default: true, ips: ['{ips}']{bound}}}"
    )


def _node(name: str) -> str:
    """A Node object. Without it, the control plane would delete the pods of the node during the measurement."""
    return f"apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}"


def _pool_of(size: str) -> str:
    """The annotation by which a pod names the pool of a size."""
    family = "ipv6" if "fd00" in size else "ipv4"
    name = SIZES[size].partition("name: ")[2].partition(",")[0]
    return f'{{ipam.spidernet.io/ippool: \'{{"{family}": ["{name}"]}}\'}}'


def _pod(name: str, node: str, annotations: str) -> str:
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{bench: {name.rpartition('-')[0]}}}, "
        f"annotations: {annotations}}}\n"
        f"spec: {{nodeName: {node}, terminationGracePeriodSeconds: 0, tolerations: [{{operator: Exists}}], "
        "containers: [{name: c, image: none}]}"
    )


@contextmanager
def bench_cluster() -> Iterator[Bench]:
    """A control plane and two agents. Everything is stopped and removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="spiderpool-bench-"))
    processes = Processes(directory / "processes")
    plane = ControlPlane(directory, processes)
    progress: Callable[[str], None] = Console(stderr=True).print
    try:
        progress("starting the control plane …")
        plane.start(timeout=60)
        plane.apply(*chart.definitions(), chart.template("agent-rbac.yaml"), chart.template("agent-policy.yaml"))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        plane.apply("\n---\n".join(_node(node) for node in NODES))
        agents = tuple(LocalAgent(plane, processes, directory, node, AgentOptions(SETTINGS)) for node in NODES)
        progress("starting two agents …")
        for agent in agents:
            agent.start()
        yield Bench(plane, agents)
    except OSError as error:
        logs = "\n".join(f"{agent.log}:\n{agent.log.read_text()[-2000:]}" for agent in agents)
        raise RuntimeError(f"an agent ended while it was being measured\n{logs}") from error
    finally:
        processes.stop_all()
        plane.stop()
        shutil.rmtree(directory, ignore_errors=True)


SIZES = {
    "/24": _pool("small", "10.8.0.0/24", "10.8.0.1-10.8.0.254"),
    "/8": _pool("huge", "11.0.0.0/8", "11.0.0.1-11.255.255.254"),
    "fd00::/64": _pool("huge6", "fd00::/64", "fd00::1-fd00::ffff:ffff:ffff:fffe", version=6),
}
"""Size → manifest of the pool. The /8 is 11.0.0.0/8, because pools must not overlap."""


if __name__ == "__main__":
    main()
