"""The walkthrough from its first manifest to its last check, on a cluster of its own."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from spiderpool.errors import NotReady
from spiderpool_lab import cloud_checks, facts, negative_checks, walkthrough
from spiderpool_lab.checks import Check
from spiderpool_lab.cloud_checks import Growth
from spiderpool_lab.cluster import EXAMPLE, SOURCE_TREE, LabCluster
from spiderpool_lab.walkthrough import Environment

NETWORKS = ("networks", "pools", "pools-ipv6")
"""What is written where nobody discovers it."""
APPLICATIONS = ("apps", "two-cards", "host", "services")
BALANCERS = ("load-balancers", "load-balancer-ipv6")
GROWTH = "growth"
PODS_A_NODE, PODS_A_ENI = 4, 3
GROWING_PODS = 3
WRITTEN_POOLS = ("master-172", "master-172-v6")
"""Those of the ENI that grows, where pools are written."""
FOLLOWED = 60.0
"""Seconds within which a pool follows the cloud."""


class Demo:
    """Plays the walkthrough and keeps count of what passed."""

    def __init__(self, cluster: LabCluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console
        self._begin = time.monotonic()
        self._outcome: list[Check] = []

    def play(self) -> bool:
        """Whether every check passed."""
        self._make_networks()
        self._report("Which server is which", cloud_checks.identities(self._cluster))
        self._report("Why macvlan is no way", negative_checks.macvlan(self._cluster))
        self._apply(*APPLICATIONS)
        self._wait_for_pods()
        self._show_state()
        world = walkthrough.look(self._cluster)
        self._report("Addresses", walkthrough.check_addresses(self._cluster, world))
        self._apply(*BALANCERS)
        self._check(world)
        self._check_growth(self._register_more())
        clean = self._clean()
        return clean and self._verdict()

    def say(self, text: str) -> None:
        """A line of progress with the seconds since the beginning."""
        self._console.print(f"[dim]{time.monotonic() - self._begin:5.1f} s[/dim]  {text}", highlight=False)

    # --- networks and pools

    def _make_networks(self) -> None:
        """Discovered, or written by hand together with what tells the cloud's controller which server a Node is."""
        if self._cluster.discovery:
            self.say("no network and no pool is written: they are made from what the servers' ENIs have")
            self._cluster.wait_for("every ENI has its pools", self._pools_are_made, FOLLOWED)
        else:
            self._apply(*NETWORKS)
            self._write_identities()
        self._show("get spidermultusconfigs,network-attachment-definitions -n kube-system")
        self._show("get spiderippool")
        self._console.print()

    def _pools_are_made(self) -> bool:
        legs = sum(len(eni.legs) for node in self._cluster.fabric.topology.nodes for eni in node.enis)
        return len(self._counts()) == legs and set(self._counts()) == {0}

    def _write_identities(self) -> None:
        for node in self._cluster.fabric.topology.nodes:
            patch = json.dumps({"spec": {"providerID": cloud_checks.provider_id(self._cluster, node)}})
            self._patch("node", node.name, "-p", patch)

    # --- applications

    def _apply(self, *names: str) -> None:
        for name in names:
            self.say(f"kubectl apply -f {(EXAMPLE / name).relative_to(SOURCE_TREE)}.yaml")
        self._cluster.plane.apply(*(EXAMPLE / f"{name}.yaml" for name in names))

    def _patch(self, kind: str, name: str, *arguments: str) -> None:
        quoted = (f"'{each}'" if '"' in each else each for each in arguments)
        self._print(f"~# kubectl patch {kind} {name} {' '.join(quoted)}")
        self._cluster.plane.kubectl("patch", kind, name, *arguments)

    def _wait_for_pods(self) -> None:
        self.say("waiting until the pods are Running")
        wanted = PODS_A_NODE * len(self._cluster.fabric.topology.nodes)
        running = "--field-selector=status.phase=Running"
        self._cluster.wait_for("all pods are Running", lambda: len(facts.pods(self._cluster, running)) == wanted, 90)
        self._cluster.wait_for("the pools count every address", lambda: set(self._counts()) == {PODS_A_ENI}, 10)

    def _show_state(self) -> None:
        for command in ("get po -owide", "get svc", "get spiderippool", "get spiderips"):
            self._show(command)
        self._console.print()

    def _show(self, command: str) -> None:
        self._print(f"\n~# kubectl {command}")
        self._print(self._cluster.plane.kubectl(*command.split()).rstrip())

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    # --- checks

    def _check(self, world: Environment) -> None:
        cluster = self._cluster
        self._report("East-west", walkthrough.check(cluster, walkthrough.east_west(world)))
        self._report("North-south", walkthrough.check(cluster, walkthrough.north_south(world)))
        self._check_balancers(world)
        self._report("What the cloud does not know does not pass", negative_checks.unregistered(cluster, world))
        self._report("What the mark rules are for", negative_checks.marks(cluster, world))

    def _check_balancers(self, world: Environment) -> None:
        cluster = self._cluster
        self.say("waiting until the load balancers serve")
        cluster.wait_for("the load balancers serve", lambda: cloud_checks.balancers_serve(cluster), 60)
        cluster.wait_for("the Event on IPv6", lambda: cloud_checks.ipv6_event(cluster), 30)
        self._show("get svc")
        for url, answer in cloud_checks.knock(cluster).items():
            self._print(f"\n$ curl {url}    # on the internet\nHTTP {answer.status} {answer.body}")
        self._show("get events --field-selector=involvedObject.name=lb-ipv6")
        self._console.print()
        self._report("Load balancers", walkthrough.check(cluster, cloud_checks.load_balancers(cluster, world)))
        self._report("What load balancers cannot do", cloud_checks.ipv6_refused(cluster))

    def _report(self, title: str, checks: Iterable[Check]) -> None:
        """One row per topic; every failed check has a row of its own below it."""
        outcome = list(checks)
        table = Table("check", "passed", "", title=title, title_justify="left")
        totals = Counter(check.topic for check in outcome)
        for topic, total in totals.items():
            lost = [check for check in outcome if check.topic == topic and not check.passed]
            table.add_row(topic, f"{total - len(lost)}/{total}", "[red]FAIL[/red]" if lost else "[green]pass[/green]")
            for check in lost:
                table.add_row(f"  {check.question}", "", check.detail or "no")
        self._console.print(table)
        self.say(f"{sum(check.passed for check in outcome)} of {len(outcome)} checks passed")
        self._outcome += outcome

    # --- one address more

    def _register_more(self) -> Growth:
        """Let a pod wait for an address that is not there, and have the cloud register one."""
        self._apply(GROWTH)
        self._cluster.wait_for("a pod finds no address", lambda: cloud_checks.refusal(self._cluster), 60)
        self._print(f"\n{cloud_checks.refusal(self._cluster)}\n")
        growth = cloud_checks.register(self._cluster)
        self.say(f"registered in the cloud, on {growth.eni}: {' and '.join(growth.addresses)}")
        if not self._cluster.discovery:
            for pool, address in zip(WRITTEN_POOLS, growth.addresses, strict=True):
                patch = json.dumps([{"op": "add", "path": "/spec/ips/-", "value": address}])
                self._patch("spiderippool", pool, "--type=json", "-p", patch)
        return growth

    def _check_growth(self, growth: Growth) -> None:
        cluster = self._cluster
        self.say("waiting until the pool has the new address, and a pod")
        cluster.wait_for(
            "the pod is Running", lambda: len(cloud_checks.growing_pods(cluster)) == GROWING_PODS, FOLLOWED
        )
        self._show("get spiderippool")
        self._console.print()
        self._report("An address more", cloud_checks.grown(cluster, growth))

    # --- the end

    def _clean(self) -> bool:
        """Delete the applications; every address must come back, and no load balancer stay."""
        files = [str(EXAMPLE / f"{name}.yaml") for name in (*APPLICATIONS, *BALANCERS, GROWTH)]
        self.say("kubectl delete -f … of all applications and load balancers")
        self._cluster.plane.kubectl("delete", "--wait=false", *(f"--filename={file}" for file in files))
        try:
            self._cluster.wait_for("every address is free again", self._all_free, 60)
            self._cluster.wait_for("no load balancer is left", self._no_balancer, 60)
        except NotReady as error:
            self.say(f"[red]{error.message}[/red]")
            return False
        self._show("get spiderippool")
        self._console.print()
        self.say("all addresses are free again, the load balancers are gone")
        return True

    def _verdict(self) -> bool:
        failed = [check for check in self._outcome if not check.passed]
        self.say(f"{len(self._outcome) - len(failed)} of {len(self._outcome)} checks passed in all")
        return not failed

    def _all_free(self) -> bool:
        return set(self._counts()) == {0} and not self._cluster.objects("spiderips")

    def _no_balancer(self) -> bool:
        return not self._cluster.cloud.console.state()["clbs"]

    def _counts(self) -> list[int]:
        return [pool.get("status", {}).get("allocatedIPCount", -1) for pool in self._cluster.objects("spiderippools")]
