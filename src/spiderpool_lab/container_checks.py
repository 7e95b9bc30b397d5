"""Checks of what only pods with containers can do: kubectl exec and logs, the API server's proxy, names by DNS."""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.errors import SpiderpoolError
from spiderpool_lab.checks import CheckResult
from spiderpool_lab.cluster import LabCluster
from spiderpool_lab.facts import PodFact
from spiderpool_lab.topology import CLUSTER_DOMAIN
from spiderpool_lab.walkthrough import Environment

LINE = "written by a process of the container"


def check_containers(cluster: LabCluster, environment: Environment) -> Iterator[CheckResult]:
    """``kubectl exec``, ``logs`` and the API server's proxy for a pod of each application; names of all Services."""
    pods = list({pod.app: pod for pod in environment.pods}.values())
    for pod in pods:
        name = _name(pod)
        yield _check("kubectl exec", pod, name, _exec(cluster, pod, f"hostname; echo {LINE} > /proc/1/fd/1"))
        yield _check("kubectl logs", pod, LINE, _kubectl(cluster, "logs", name))
        path = f"/api/v1/namespaces/default/pods/{name}/proxy/"
        yield _check("API server → pod", pod, f'"pod": "{pod.key}"', _kubectl(cluster, "get", "--raw", path))
    yield from _check_names(cluster, environment, pods[0])


def dns_is_ready(cluster: LabCluster) -> bool:
    """Whether the cluster's DNS has a pod that is ready."""
    deployments = cluster.objects("deployments", "-n", "kube-system", "-l", "k8s-app=kube-dns")
    return all(deployment.get("status", {}).get("readyReplicas") for deployment in deployments)


def _check_names(cluster: LabCluster, environment: Environment, pod: PodFact) -> Iterator[CheckResult]:
    """Every Service is resolved to its addresses of both families, all by one command."""
    services = environment.services.values()
    domains = [f"{service.name}.default.svc.{CLUSTER_DOMAIN}" for service in services]
    queries = [f"nslookup -type={kind} {domain}" for domain in domains for kind in ("a", "aaaa")]
    printed = _exec(cluster, pod, "; ".join([*queries, "true"]))
    for service in services:
        for address in service.addresses:
            yield _check(f"pod → {service.name} by its name", pod, f"Address: {address}\n", printed)


def _exec(cluster: LabCluster, pod: PodFact, script: str) -> str:
    return _kubectl(cluster, "exec", _name(pod), "--", "sh", "-c", script)


def _kubectl(cluster: LabCluster, *arguments: str) -> str:
    """What kubectl prints, or its error."""
    try:
        return cluster.plane.kubectl(*arguments)
    except SpiderpoolError as error:
        return error.message


def _name(pod: PodFact) -> str:
    return pod.key.partition("/")[2]


def _check(topic: str, pod: PodFact, expected: str, printed: str) -> CheckResult:
    return CheckResult(topic, str(pod), expected in printed, printed.strip())
