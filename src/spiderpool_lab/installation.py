"""The product in a lab as users install it: by its chart, from images that the nodes have.

Values of the lab say where its nodes keep CNI files, where its cloud is, and that what takes minutes elsewhere takes
seconds.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spiderpool.errors import NotReady
from spiderpool_lab import chart
from spiderpool_lab.chart import CHART, NAMESPACE, RELEASE
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.node import CNI_CONFIGURATION, CNI_EXECUTABLES

WALKTHROUGH = ("ipam.enableStatefulSet=false", "multus.multusCNI.defaultCniCRName=ipvlan-eth0")
"""Values that the walkthrough sets by ``--set``."""
WORKLOADS = ("daemonset/spiderpool-agent", "deployment/spiderpool-controller", "deployment/spiderpool-cloud")
AUTHORITY = "cloud-authority"
"""ConfigMap with the certificate of the authority of the cloud's API. That of a real cloud is a public one."""
HOOK_TIMEOUT = 300
"""Seconds that helm waits for a Job of the chart."""
ROLLOUT_TIMEOUT = 180
"""Seconds until all pods of a workload are ready: nodes start containers one after the other."""

GC_INTERVAL = "2"
"""Seconds between two looks of the controller at what has ended."""

_AUTHORITY_FOLDER = "/etc/cloud-authority"


class Installation:
    """The release of the chart in a lab. ``directory`` gets its values, and helm's files."""

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self._plane = plane
        self._directory = directory

    @property
    def values(self) -> Path:
        """The file with the values of the lab."""
        return self._directory / "values.yaml"

    def command(self, verb: str = "install") -> str:
        """The command as a user types it."""
        flags = " ".join(f"--set {value}" for value in WALKTHROUGH)
        return f"helm {verb} {RELEASE} charts/spiderpool --namespace {NAMESPACE} {flags} --values {self.values.name}"

    def install(self, values: Mapping[str, Any], authority: bytes) -> str:
        """Install the release with these values, and return what helm says; pods may not run yet.

        ``authority`` is the certificate of the authority of the cloud's API. Raises BadConfig if helm fails.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        self.values.write_text(yaml.safe_dump(dict(values), sort_keys=False))
        data = {"ca.crt": authority.decode()}
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": AUTHORITY, "namespace": NAMESPACE}}
        self._plane.apply(yaml.safe_dump({**config_map, "data": data}))
        return self._helm("install", RELEASE, CHART, *self._flags())

    def upgrade(self, *arguments: str) -> str:
        """Upgrade the release, with further arguments of helm. Raises BadConfig if helm fails."""
        return self._helm("upgrade", RELEASE, CHART, *self._flags(), *arguments)

    def uninstall(self) -> str:
        """Remove the release, and wait until the nodes are cleaned. Raises BadConfig if helm fails."""
        return self._helm("uninstall", RELEASE)

    def wait(self) -> None:
        """Wait until all pods of the release are ready. Raises NotReady with the state of its pods."""
        for workload in WORKLOADS:
            try:
                self._kubectl("rollout", "status", workload, f"--timeout={ROLLOUT_TIMEOUT}s")
            except Exception as error:
                pods = self._kubectl("get", "pods", "--output", "wide")
                raise NotReady(f"{workload} is not ready: {error}\n{pods}") from error

    def logs(self) -> str:
        """What the daemons have logged, each line with its pod."""
        selector = f"app.kubernetes.io/instance={RELEASE}"
        return self._kubectl("logs", "--selector", selector, "--prefix", "--all-containers", "--tail=-1")

    def _flags(self) -> list[str | Path]:
        return [*(word for value in WALKTHROUGH for word in ("--set", value)), "--values", self.values]

    def _helm(self, verb: str, *arguments: str | Path) -> str:
        common = ["--namespace", NAMESPACE, "--kubeconfig", self._plane.admin_kubeconfig]
        try:
            return chart.helm(verb, *arguments, *common, f"--timeout={HOOK_TIMEOUT}s", timeout=2 * HOOK_TIMEOUT)
        except subprocess.TimeoutExpired as late:
            raise NotReady(f"helm {verb} has not ended after {late.timeout:.0f} s") from late

    def _kubectl(self, *arguments: str) -> str:
        return self._plane.kubectl(*arguments, "--namespace", NAMESPACE, timeout=ROLLOUT_TIMEOUT + 10)


def lab_values(cloud: Mapping[str, Any], endpoint: str, periods: Mapping[str, str]) -> dict[str, Any]:
    """Values of a lab whose cloud is described by ``cloud``, and whose API is at ``endpoint``.

    ``periods`` are variables of spiderpool-cloud and of agents that say how often they look at the cloud.
    """
    environment = {"SPIDERPOOL_CLOUD_ENDPOINT": endpoint, "SPIDERPOOL_CLOUD_CA": f"{_AUTHORITY_FOLDER}/ca.crt"}
    return {
        "global": {"cniBinHostPath": str(CNI_EXECUTABLES), "cniConfHostPath": str(CNI_CONFIGURATION)},
        "cloud": {"enabled": True, "provider": "alibaba", **cloud},
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
