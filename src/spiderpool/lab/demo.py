"""The walkthrough from its first manifest to its last check, on a cluster of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from spiderpool.errors import NotReady
from spiderpool.lab import facts, proofs, walkthrough
from spiderpool.lab.checks import Check
from spiderpool.lab.cluster import SOURCE_TREE, Cluster
from spiderpool.lab.walkthrough import World

EXAMPLE = SOURCE_TREE / "examples" / "alibaba-cloud"
NETWORKS = ("networks", "pools", "pools-ipv6")
APPLICATIONS = ("apps", "two-cards", "host", "services")
PODS_A_NODE = 4


class Demo:
    """Plays the walkthrough and keeps count of what passed."""

    def __init__(self, cluster: Cluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console
        self._begin = time.monotonic()
        self._outcome: list[Check] = []

    def play(self) -> bool:
        """Whether every check passed."""
        self._apply(NETWORKS)
        self._report("Why macvlan is no way", proofs.macvlan(self._cluster))
        self._apply(APPLICATIONS)
        self._wait_for_pods()
        self._show_state()
        self._check(walkthrough.look(self._cluster))
        clean = self._clean()
        return clean and self._verdict()

    def say(self, text: str) -> None:
        """A line of progress with the seconds since the beginning."""
        self._console.print(f"[dim]{time.monotonic() - self._begin:5.1f} s[/dim]  {text}", highlight=False)

    def _check(self, world: World) -> None:
        cluster = self._cluster
        self._report("Addresses", walkthrough.check_addresses(cluster, world))
        self._report("East-west", walkthrough.check(cluster, walkthrough.east_west(world)))
        self._report("North-south", walkthrough.check(cluster, walkthrough.north_south(world)))
        self._report("What the cloud does not know does not pass", proofs.unregistered(cluster, world))
        self._report("What the mark rules are for", proofs.marks(cluster, world))

    def _apply(self, names: Iterable[str]) -> None:
        for name in names:
            self.say(f"kubectl apply -f {(EXAMPLE / name).relative_to(SOURCE_TREE)}.yaml")
        self._cluster.plane.apply(*(EXAMPLE / f"{name}.yaml" for name in names))

    def _wait_for_pods(self) -> None:
        self.say("waiting until the pods are Running")
        wanted = PODS_A_NODE * len(self._cluster.fabric.topology.nodes)
        running = "--field-selector=status.phase=Running"
        self._cluster.wait_for("all pods are Running", lambda: len(facts.pods(self._cluster, running)) == wanted, 90)
        self._cluster.wait_for("the pools count every address", lambda: set(self._counts()) == {3}, 10)

    def _show_state(self) -> None:
        for command in ("get po -owide", "get svc", "get spiderippool", "get spiderips"):
            self._show(command)
        self._console.print()

    def _show(self, command: str) -> None:
        self._console.print(f"\n~# kubectl {command}", highlight=False)
        self._console.print(self._cluster.plane.kubectl(*command.split()).rstrip(), highlight=False, soft_wrap=True)

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

    def _clean(self) -> bool:
        """Delete the applications; every address must come back."""
        self.say("kubectl delete daemonsets --all")
        self._cluster.plane.kubectl("delete", "daemonsets", "--all")
        try:
            self._cluster.wait_for("every address is free again", self._all_free, 60)
        except NotReady as error:
            self.say(f"[red]{error.message}[/red]")
            return False
        self._show("get spiderippool")
        self._console.print()
        self.say("all addresses are free again")
        return True

    def _verdict(self) -> bool:
        failed = [check for check in self._outcome if not check.passed]
        self.say(f"{len(self._outcome) - len(failed)} of {len(self._outcome)} checks passed in all")
        return not failed

    def _all_free(self) -> bool:
        return set(self._counts()) == {0} and not self._cluster.objects("spiderips")

    def _counts(self) -> list[int]:
        return [pool.get("status", {}).get("allocatedIPCount", -1) for pool in self._cluster.objects("spiderippools")]
