"""Checks of what only pods with containers can do: kubectl exec and logs, the API server's proxy, names by DNS."""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.errors import SpiderpoolError
from spiderpool_lab.checks import CheckResult
from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.facts import PodFact
from spiderpool_lab.topology import CLUSTER_DOMAIN
from spiderpool_lab.walkthrough import Environment

LINE = "written-by-the-container"


def check_containers(cluster: LabCluster, environment: Environment) -> Iterator[CheckResult]:
    """``kubectl exec`` and ``logs``, the API server's proxy, and names of Services, for one pod of each application."""
    for pod in {pod.app: pod for pod in environment.pods}.values():
        name = pod.key.partition("/")[2]
        yield _check(cluster, "kubectl exec", pod, name, _exec(pod, "hostname"))
        yield _check(cluster, "kubectl logs", pod, LINE, _exec(pod, f"echo {LINE} > /proc/1/fd/1"), ("logs", name))
        path = f"/api/v1/namespaces/default/pods/{name}/proxy/"
        yield _check(cluster, "API server → pod", pod, f'"pod": "{pod.key}"', ("get", "--raw", path))
        for service in environment.services.values():
            domain = f"{service.name}.default.svc.{CLUSTER_DOMAIN}"
            for address in service.addresses:
                kind = "aaaa" if ":" in address else "a"
                query = _exec(pod, f"nslookup -type={kind} {domain}")
                yield _check(cluster, "pod → name of a Service", pod, f"Address: {address}", query)


def dns_is_ready(cluster: LabCluster) -> bool:
    """Whether the cluster's DNS has a pod that is ready."""
    deployments = cluster.objects("deployments", "-n", "kube-system", "-l", "k8s-app=kube-dns")
    return all(deployment.get("status", {}).get("readyReplicas") for deployment in deployments)


def _exec(pod: PodFact, script: str) -> tuple[str, ...]:
    return ("exec", pod.key.partition("/")[2], "--", "sh", "-c", script)


def _check(cluster: LabCluster, topic: str, pod: PodFact, expected: str, *commands: tuple[str, ...]) -> CheckResult:
    """Run commands of kubectl; the last one must print what is expected."""
    try:
        printed = [cluster.plane.kubectl(*command) for command in commands][-1]
    except SpiderpoolError as error:
        return CheckResult(topic, str(pod), False, error.message)
    return CheckResult(topic, str(pod), expected in printed, printed.strip())
