"""The walkthrough from its first manifest to its last check, on a cluster of its own."""

from __future__ import annotations

import time
from collections import Counter

from rich.console import Console
from rich.table import Table

from spiderpool.errors import NotReady
from spiderpool.lab import checks
from spiderpool.lab.checks import Check
from spiderpool.lab.cluster import SOURCE_TREE, Cluster

EXAMPLE = SOURCE_TREE / "examples" / "alibaba-cloud"
SERVICE = "test-svc"
PODS = 4


class Demo:
    """Plays the walkthrough and keeps count of what passed."""

    def __init__(self, cluster: Cluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console
        self._begin = time.monotonic()

    def play(self) -> bool:
        """Whether every check passed."""
        self._apply()
        self._wait_for_pods()
        self._show_state()
        passed = self._report(list(checks.east_west(self._cluster, checks.pods(self._cluster), SERVICE)))
        return self._clean() and passed

    def say(self, text: str) -> None:
        """A line of progress with the seconds since the beginning."""
        self._console.print(f"[dim]{time.monotonic() - self._begin:5.1f} s[/dim]  {text}", highlight=False)

    def _apply(self) -> None:
        for name in ("networks", "pools", "apps"):
            self.say(f"kubectl apply -f {(EXAMPLE / name).relative_to(SOURCE_TREE)}.yaml")
            self._cluster.plane.apply(EXAMPLE / f"{name}.yaml")

    def _wait_for_pods(self) -> None:
        self.say("waiting until the pods are Running")
        wanted = "--field-selector=status.phase=Running"
        self._cluster.wait_for("all pods are Running", lambda: len(checks.pods(self._cluster, wanted)) == PODS, 90)
        self._cluster.wait_for("the pools count every address", lambda: self._counts() == [1, 1, 1, 1], 5)

    def _show_state(self) -> None:
        for command in ("get po -owide", "get spiderippool", "get spiderips"):
            self._show(command)
        self._console.print()

    def _show(self, command: str) -> None:
        self._console.print(f"\n~# kubectl {command}", highlight=False)
        self._console.print(self._cluster.plane.kubectl(*command.split()).rstrip(), highlight=False, soft_wrap=True)

    def _report(self, outcome: list[Check]) -> bool:
        """One row per topic; every failed check has a row of its own below it."""
        table = Table("check", "passed", "", title="East-west, as the walkthrough checks it", title_justify="left")
        totals = Counter(check.topic for check in outcome)
        failed = [check for check in outcome if not check.passed]
        for topic, total in totals.items():
            lost = [check for check in failed if check.topic == topic]
            table.add_row(topic, f"{total - len(lost)}/{total}", "[red]FAIL[/red]" if lost else "[green]pass[/green]")
            for check in lost:
                table.add_row(f"  {check.question}", "", check.detail or "no")
        self._console.print(table)
        self.say(f"{len(outcome) - len(failed)} of {len(outcome)} checks passed")
        return not failed

    def _clean(self) -> bool:
        """Delete the applications; every address must come back."""
        self.say("kubectl delete daemonset test-app-1 test-app-2")
        self._cluster.plane.kubectl("delete", "daemonset", "test-app-1", "test-app-2")
        try:
            self._cluster.wait_for("every address is free again", self._all_free, 60)
        except NotReady as error:
            self.say(f"[red]{error.message}[/red]")
            return False
        self._show("get spiderippool")
        self._console.print()
        self.say("all addresses are free again")
        return True

    def _all_free(self) -> bool:
        return self._counts() == [0, 0, 0, 0] and not self._cluster.objects("spiderips")

    def _counts(self) -> list[int]:
        return [pool.get("status", {}).get("allocatedIPCount", -1) for pool in self._cluster.objects("spiderippools")]
