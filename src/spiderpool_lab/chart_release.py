"""The product in a lab as users install it: by its chart, from images that the nodes have.

Values of the lab say where its nodes keep CNI files, where its cloud is, and that what takes minutes elsewhere takes
seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spiderpool.errors import NotReady, SpiderpoolError
from spiderpool_lab import chart
from spiderpool_lab.chart import CHART, NAMESPACE, RELEASE
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.node import CNI_CONFIGURATION, CNI_EXECUTABLES
from spiderpool_lab.ports import free_ports, is_free
from spiderpool_lab.processes import Processes

WALKTHROUGH = ("ipam.enableStatefulSet=false", "multus.multusCNI.defaultCniCRName=ipvlan-eth0")
"""Values that the walkthrough sets by ``--set``."""
WORKLOADS = ("daemonset/spiderpool-agent", "deployment/spiderpool-controller", "deployment/spiderpool-cloud")
AUTHORITY = "cloud-authority"
"""ConfigMap with the certificate of the authority of the cloud's API. That of a real cloud is a public one."""
REPOSITORY = "spiderpool"
"""Name of the repository of charts, as in the walkthrough."""
SERVER = "chart-repository"
SERVER_TIMEOUT = 10.0
"""Seconds until the repository of charts listens."""
HELM_TIMEOUT = 600
"""Seconds for one command of helm, which waits at most 300 s for each of the chart's Jobs."""
ROLLOUT_TIMEOUT = 180
"""Seconds until all pods of a workload are ready: nodes start containers one after the other."""

GC_INTERVAL = "2"
"""Seconds between two looks of the controller at what has ended."""

_AUTHORITY_FOLDER = "/etc/cloud-authority"


@dataclass(frozen=True, slots=True)
class EarlierVersion:
    """A chart of an earlier version, and the archives of its images, which ``registry`` tells from today's."""

    chart: Path
    archives: tuple[Path, ...]
    registry: str


class ChartRelease:
    """The release of the chart in a lab, from a repository of charts on loopback. ``directory`` gets all files."""

    def __init__(
        self, plane: ControlPlane, processes: Processes, directory: Path, *, namespace: str = NAMESPACE
    ) -> None:
        self._plane = plane
        self._processes = processes
        self._directory = directory
        self.namespace = namespace
        self.sets: tuple[str, ...] = WALKTHROUGH

    def elsewhere(self, namespace: str) -> ChartRelease:
        """The release in another Namespace, of the same lab."""
        other = ChartRelease(self._plane, self._processes, self._directory, namespace=namespace)
        other.sets = self.sets
        return other

    @property
    def values(self) -> Path:
        """The file with the values of the lab."""
        return self._directory / "values.yaml"

    def install(
        self,
        values: Mapping[str, Any],
        authority: bytes,
        progress: Callable[[str], None],
        *arguments: str,
        version: EarlierVersion | None = None,
    ) -> None:
        """Install the release with these values by the commands of a user, which ``progress`` gets.

        Pods may not run yet. ``authority`` is the certificate of the authority of the cloud's API. ``arguments`` are
        further ones of helm. Raises BadConfig if helm fails.
        """
        url = self._serve_repository()
        self.values.write_text(yaml.safe_dump(dict(values), sort_keys=False))
        config_map = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": AUTHORITY, "namespace": self.namespace},
        }
        self._plane.apply(yaml.safe_dump({**config_map, "data": {"ca.crt": authority.decode()}}))
        self._helm("repo", "add", REPOSITORY, url, shown=progress)
        self._helm("repo", "update", REPOSITORY, shown=progress)
        self._helm("install", *self._of_chart(version), *arguments, shown=progress)

    def upgrade(self, *arguments: str) -> None:
        """Upgrade the release, with further arguments of helm. Raises BadConfig if helm fails."""
        self._helm("upgrade", *self._of_chart(), *arguments)

    def rollback(self) -> None:
        """Go back to the revision before. Raises BadConfig if helm fails."""
        self._helm("rollback", *self._named)

    def uninstall(self) -> None:
        """Remove the release, and wait until the nodes are cleaned. Raises BadConfig if helm fails."""
        self._helm("uninstall", *self._named)

    def restart(self) -> None:
        """Have all pods of the release replaced."""
        self._kubectl("rollout", "restart", *WORKLOADS)

    def wait(self) -> None:
        """Wait until all pods of the release are ready. Raises NotReady with the state of its pods."""
        for workload in WORKLOADS:
            try:
                self._kubectl("rollout", "status", workload, f"--timeout={ROLLOUT_TIMEOUT}s")
            except SpiderpoolError as error:
                pods = self._kubectl("get", "pods", "--output", "wide")
                raise NotReady(f"{workload} is not ready: {error.message}\n{pods}") from error

    def logs(self) -> str:
        """What the daemons have logged, each line with its pod."""
        selector = f"app.kubernetes.io/instance={RELEASE}"
        return self._kubectl(
            "logs", "--selector", selector, "--prefix", "--all-containers", "--tail=-1", "--ignore-errors"
        )

    def _serve_repository(self) -> str:
        """Serve a repository with our chart until the lab goes down; its URL."""
        url = self._directory / "repository"
        if self._processes.pid(SERVER) is not None:
            return url.read_text()
        folder = self._directory / "charts"
        folder.mkdir(parents=True, exist_ok=True)
        self._helm("package", CHART, "--destination", folder)
        self._helm("repo", "index", folder)
        (port,) = free_ports(1, self._processes.directory)
        command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), str(port)]
        self._processes.start(SERVER, command)
        deadline = time.monotonic() + SERVER_TIMEOUT
        while is_free(port):
            if time.monotonic() > deadline:
                raise NotReady(f"the repository of charts does not listen after {SERVER_TIMEOUT:.0f} s")
            time.sleep(0.05)
        url.write_text(f"http://127.0.0.1:{port}")
        return url.read_text()

    @property
    def _named(self) -> tuple[str, ...]:
        return RELEASE, "--namespace", self.namespace

    def _of_chart(self, version: EarlierVersion | None = None) -> list[str | Path]:
        """The release, its chart, and its values."""
        name, *namespace = self._named
        chart = version.chart if version else f"{REPOSITORY}/{CHART.name}"
        images = (f"global.imageRegistryOverride={version.registry}",) if version else ()
        flags = [word for value in (*self.sets, *images) for word in ("--set", value)]
        return [name, chart, *namespace, *flags, "--values", self.values]

    def _helm(self, *arguments: str | Path, shown: Callable[[str], None] | None = None) -> None:
        """Run helm, whose files are the lab's; ``shown`` gets the command."""
        if shown is not None:
            shown(" ".join(map(str, ("helm", *arguments))).replace(f"{self._directory}/", ""))
        variables = {f"HELM_{name}_HOME": str(self._directory / "helm") for name in ("CACHE", "CONFIG", "DATA")}
        variables["KUBECONFIG"] = str(self._plane.admin_kubeconfig)
        try:
            chart.helm(*arguments, environment=variables, timeout=HELM_TIMEOUT)
        except subprocess.TimeoutExpired as late:
            raise NotReady(f"helm {arguments[0]} has not ended after {late.timeout:.0f} s") from late

    def _kubectl(self, *arguments: str) -> str:
        return self._plane.kubectl(*arguments, "--namespace", self.namespace, timeout=ROLLOUT_TIMEOUT + 10)


def sets(values: Mapping[str, Any], further: Sequence[str]) -> tuple[str, ...]:
    """What is set by ``--set``: that of the walkthrough where a user's values do not say it, and then ``further``."""
    return (*(each for each in WALKTHROUGH if not _says(values, each.partition("=")[0].split("."))), *further)


def _says(values: Any, path: Sequence[str]) -> bool:
    if not path:
        return True
    return isinstance(values, Mapping) and path[0] in values and _says(values[path[0]], path[1:])


def lab_values(cloud: Mapping[str, Any], endpoint: str, periods: Mapping[str, str]) -> dict[str, Any]:
    """Values of a lab whose cloud is described by ``cloud``, and whose API is at ``endpoint``.

    ``periods`` are variables of spiderpool-cloud and of agents that say how often they look at the cloud.
    """
    environment = {"SPIDERPOOL_CLOUD_ENDPOINT": endpoint, "SPIDERPOOL_CLOUD_CA": f"{_AUTHORITY_FOLDER}/ca.crt"}
    return {
        "global": {"cniBinHostPath": str(CNI_EXECUTABLES), "cniConfHostPath": str(CNI_CONFIGURATION)},
        "cloud": {**cloud, "enabled": True, "provider": "alibaba"},
        "spiderpoolAgent": {"extraEnv": _variables(periods)},
        "spiderpoolController": {"extraEnv": _variables({"SPIDERPOOL_GC_INTERVAL_SECONDS": GC_INTERVAL})},
        "spiderpoolCloud": {
            "extraEnv": _variables({**environment, **periods}),
            "extraVolumes": [{"name": AUTHORITY, "configMap": {"name": AUTHORITY}}],
            "extraVolumeMounts": [{"name": AUTHORITY, "mountPath": _AUTHORITY_FOLDER, "readOnly": True}],
        },
    }


def _variables(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]
