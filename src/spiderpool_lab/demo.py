"""The walkthrough from its first manifest to its last check, shown on a terminal."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from spiderpool.errors import NotReady
from spiderpool_lab import audit, cloud_checks, container_checks, facts, negative_checks, walkthrough
from spiderpool_lab.checks import CheckResult
from spiderpool_lab.cloud_checks import Growth
from spiderpool_lab.cluster import EXAMPLE, SOURCE_TREE, LabCluster
from spiderpool_lab.topology import NodeKind
from spiderpool_lab.walkthrough import Environment

NETWORKS = ("networks", "pools", "pools-ipv6")
"""The manifests that are applied where pools are not discovered."""
APPLICATIONS = ("apps", "two-cards", "host", "services")
BALANCERS = ("load-balancers", "load-balancer-ipv6")
GROWTH = "growth"
PODS_PER_NODE, PODS_PER_ENI = 4, 3
"""Pods of the applications on each node, and addresses of each pool that they have."""
GROWING_PODS = 3
"""Pods of the application that needs one more address."""
WRITTEN_POOLS = ("master-172", "master-172-v6")
"""The pools of the ENI that gets one more address, where they are not discovered."""
DISCOVERY_TIMEOUT = 60.0
"""Seconds within which pools must follow the cloud."""
PODS_TIMEOUT = 180.0
"""Seconds within which all pods must run, or have ended: a node starts containers one after the other."""


class Demo:
    """Runs the walkthrough on a cluster that is up and keeps the results of its checks."""

    def __init__(self, cluster: LabCluster, console: Console) -> None:
        self._cluster = cluster
        self._console = console
        self._started = time.monotonic()
        self._results: list[CheckResult] = []

    def run(self) -> bool:
        """Run everything and return whether every check passed."""
        self._make_networks()
        self._report("Which server is which", cloud_checks.check_identities(self._cluster))
        self._report("Why macvlan is no way", negative_checks.macvlan(self._cluster))
        self._apply(*APPLICATIONS)
        self._wait_for_pods()
        self._show_state()
        environment = walkthrough.observe(self._cluster)
        self._report("Addresses", walkthrough.check_addresses(self._cluster, environment))
        self._check_containers(environment)
        self._apply(*BALANCERS)
        self._check_traffic(environment)
        self._check_growth(self._register_address())
        clean = self._delete_everything()
        self._report("What the daemons called at the API server", audit.check_calls(self._cluster.plane))
        return clean and self._verdict()

    def progress(self, text: str) -> None:
        """Print a line with the seconds since the beginning."""
        self._console.print(f"[dim]{time.monotonic() - self._started:5.1f} s[/dim]  {text}", highlight=False)

    # --- networks and pools

    def _make_networks(self) -> None:
        """Wait for discovered networks and pools, or apply written ones, and providerIDs for spiderpool-cloud."""
        if self._cluster.discovery:
            self.progress("no network and no pool is written: they are made from what the servers' ENIs have")
            self._cluster.wait_for("every ENI has its pools", self._pools_are_made, DISCOVERY_TIMEOUT)
        else:
            self._apply(*NETWORKS)
            self._write_provider_ids()
        self._show("get spidermultusconfigs,network-attachment-definitions -n kube-system")
        self._show("get spiderippool")
        self._console.print()

    def _pools_are_made(self) -> bool:
        enis = (eni for node in self._cluster.fabric.topology.nodes for eni in node.enis)
        expected = sum(len(eni.address_configs) for eni in enis)
        counts = self._allocated_counts()
        return len(counts) == expected and set(counts) == {0}

    def _write_provider_ids(self) -> None:
        for node in self._cluster.fabric.topology.nodes:
            patch = json.dumps({"spec": {"providerID": cloud_checks.provider_id(self._cluster, node)}})
            self._patch("node", node.name, "-p", patch)

    # --- applications

    def _apply(self, *names: str) -> None:
        for name in names:
            self.progress(f"kubectl apply -f {(EXAMPLE / name).relative_to(SOURCE_TREE)}.yaml")
        self._cluster.plane.apply(*(EXAMPLE / f"{name}.yaml" for name in names))

    def _patch(self, kind: str, name: str, *arguments: str) -> None:
        quoted = (f"'{argument}'" if '"' in argument else argument for argument in arguments)
        self._print(f"~# kubectl patch {kind} {name} {' '.join(quoted)}")
        self._cluster.plane.kubectl("patch", kind, name, *arguments)

    def _wait_for_pods(self) -> None:
        cluster = self._cluster
        self.progress("waiting until the pods are Running")
        expected = PODS_PER_NODE * len(cluster.fabric.topology.nodes)
        cluster.wait_for("all pods are Running", lambda: len(facts.running_pods(cluster)) == expected, PODS_TIMEOUT)
        cluster.wait_for("the pools count every address", lambda: set(self._allocated_counts()) == {PODS_PER_ENI}, 10)

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

    def _check_containers(self, environment: Environment) -> None:
        """What pods with containers can do. Shown once by the commands that a user types."""
        cluster = self._cluster
        if cluster.nodes is not NodeKind.REAL:
            return
        cluster.wait_for("the cluster's DNS is ready", lambda: container_checks.dns_is_ready(cluster), 60)
        pod = environment.pods[0]
        self._print(f"\n~# kubectl exec {pod.key.partition('/')[2]} -- {container_checks.REQUEST}")
        self._print(container_checks.execute(cluster, pod, container_checks.REQUEST) + "\n")
        self._report("Containers", container_checks.check_containers(cluster, environment))

    def _check_traffic(self, environment: Environment) -> None:
        cluster = self._cluster
        self.progress("waiting until kube-proxy serves every Service on every node")
        cluster.wait_for("kube-proxy serves", lambda: walkthrough.services_answer(cluster, environment), 60)
        self._report("East-west", walkthrough.run(cluster, walkthrough.east_west(environment)))
        self._report("North-south", walkthrough.run(cluster, walkthrough.north_south(environment)))
        self._check_balancers(environment)
        unregistered = negative_checks.unregistered(cluster, environment)
        self._report("What the cloud does not know does not pass", unregistered)
        self._report("What the mark rules are for", negative_checks.mark_rules(cluster, environment))

    def _check_balancers(self, environment: Environment) -> None:
        cluster = self._cluster
        self.progress("waiting until the load balancers serve")
        cluster.wait_for("the load balancers serve", lambda: cloud_checks.balancers_serve(cluster), 60)
        cluster.wait_for("the Event on IPv6", lambda: cloud_checks.ipv6_event(cluster), 30)
        self._show("get svc")
        for url, answer in cloud_checks.request_balancers(cluster).items():
            self._print(f"\n$ curl {url}    # on the internet\nHTTP {answer.status} {answer.body}")
        self._show("get events --field-selector=involvedObject.name=lb-ipv6")
        self._console.print()
        self._report("Load balancers", walkthrough.run(cluster, cloud_checks.load_balancers(cluster, environment)))
        inside = cloud_checks.pods_to_load_balancers(cluster, environment)
        self._report("Load balancers from inside", walkthrough.run(cluster, inside))
        self._report("What load balancers cannot do", cloud_checks.check_ipv6_refused(cluster))

    def _report(self, title: str, results: Iterable[CheckResult]) -> None:
        """Print one row per topic, and one for each failed check below its topic."""
        reported = list(results)
        table = Table("check", "passed", "", title=title, title_justify="left")
        for topic, total in Counter(result.topic for result in reported).items():
            failed = [result for result in reported if result.topic == topic and not result.passed]
            verdict = "[red]FAIL[/red]" if failed else "[green]pass[/green]"
            table.add_row(topic, f"{total - len(failed)}/{total}", verdict)
            for result in failed:
                table.add_row(f"  {result.text}", "", result.detail or "no")
        self._console.print(table)
        self.progress(f"{sum(result.passed for result in reported)} of {len(reported)} checks passed")
        self._results += reported

    # --- one more address

    def _register_address(self) -> Growth:
        """Wait until a pod finds no address, then let the cloud register one."""
        cluster = self._cluster
        self._apply(GROWTH)
        cluster.wait_for("a pod finds no address", lambda: cloud_checks.refusal_event(cluster), 60)
        self._print(f"\n{cloud_checks.refusal_event(cluster)}\n")
        growth = cloud_checks.register(cluster)
        self.progress(f"registered in the cloud, on {growth.eni}: {' and '.join(growth.addresses)}")
        if not cluster.discovery:
            for pool, address in zip(WRITTEN_POOLS, growth.addresses, strict=True):
                patch = json.dumps([{"op": "add", "path": "/spec/ips/-", "value": address}])
                self._patch("spiderippool", pool, "--type=json", "-p", patch)
        return growth

    def _check_growth(self, growth: Growth) -> None:
        cluster = self._cluster
        self.progress("waiting until the pool has the new address, and a pod")
        cluster.wait_for(
            "the pod is Running", lambda: len(cloud_checks.growing_pods(cluster)) == GROWING_PODS, PODS_TIMEOUT
        )
        self._show("get spiderippool")
        self._console.print()
        self._report("An address more", cloud_checks.check_growth(cluster, growth))

    # --- the end

    def _delete_everything(self) -> bool:
        """Delete the applications; whether every address is free again and no load balancer is left."""
        files = [str(EXAMPLE / f"{name}.yaml") for name in (*APPLICATIONS, *BALANCERS, GROWTH)]
        self.progress("kubectl delete -f … of all applications and load balancers")
        self._cluster.plane.kubectl("delete", "--wait=false", *(f"--filename={file}" for file in files))
        try:
            self._cluster.wait_for("every address is free again", self._all_free, PODS_TIMEOUT)
            self._cluster.wait_for("no load balancer is left", self._no_balancer, 60)
        except NotReady as error:
            self.progress(f"[red]{error.message}[/red]")
            return False
        self._show("get spiderippool")
        self._console.print()
        self.progress("all addresses are free again, the load balancers are gone")
        return True

    def _verdict(self) -> bool:
        failed = [result for result in self._results if not result.passed]
        self.progress(f"{len(self._results) - len(failed)} of {len(self._results)} checks passed in all")
        return not failed

    def _all_free(self) -> bool:
        return set(self._allocated_counts()) == {0} and not self._cluster.objects("spiderips")

    def _no_balancer(self) -> bool:
        return not self._cluster.cloud.admin.state()["clbs"]

    def _allocated_counts(self) -> list[int]:
        """How many addresses of each pool are in use; -1 for a pool without a status."""
        return [pool.get("status", {}).get("allocatedIPCount", -1) for pool in self._cluster.objects("spiderippools")]
