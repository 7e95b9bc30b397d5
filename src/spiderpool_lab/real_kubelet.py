"""Starts a real kubelet on a node: waits for containerd, and becomes the kubelet.

``python -m spiderpool_lab.real_kubelet FILE`` reads the node's :class:`~spiderpool_lab.node.NodeConfig`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.core.network.startup_taint import STARTUP_TAINT
from spiderpool_lab import container_runtime, node
from spiderpool_lab.node import ClusterServices, NodeConfig
from spiderpool_lab.topology import CLUSTER_DNS, CLUSTER_DOMAIN

ROOT = Path("/var/lib/kubelet")
STATIC_PODS = ROOT / "manifests"
"""The folder with the manifests of static pods."""


def configuration(client_ca: str) -> dict[str, Any]:
    """The KubeletConfiguration (kubelet.config.k8s.io/v1beta1).

    ``client_ca`` is the authority of clients of the kubelet's own API, whom the API server authorizes.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": client_ca},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": list(CLUSTER_DNS),
        "clusterDomain": CLUSTER_DOMAIN,
        "containerRuntimeEndpoint": container_runtime.ENDPOINT,
        "evictionHard": {"memory.available": "1Mi"},  # a node's file systems are in memory, or sparse
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,  # no registry could give an image again
        "localStorageCapacityIsolation": False,  # it looks for the disk of a root file system
        "nodeStatusUpdateFrequency": "10s",
        "podLogsDir": "/var/log/pods",
        "resolvConf": "",
        "shutdownGracePeriod": "0s",
        "staticPodPath": str(STATIC_PODS),
        "syncFrequency": "10s",
        "volumePluginDir": str(ROOT / "plugins"),
    }


def command(config: NodeConfig, services: ClusterServices, file: Path) -> list[str]:
    """The kubelet's command, with the file of its configuration."""
    assert services.real is not None, "only a real node has a kubelet"
    addresses = ",".join(config.node.enis[0].own_addresses)
    flags = [
        f"--config={file}",
        f"--kubeconfig={services.kubelet_kubeconfig}",
        f"--hostname-override={config.name}",
        f"--node-ip={addresses}",
        f"--root-dir={ROOT}",
        f"--cert-dir={ROOT}/pki",
    ]
    if services.external_cloud:
        flags.append("--cloud-provider=external")
    if services.startup_taint:
        flags.append(f"--register-with-taints={STARTUP_TAINT}=:NoSchedule")
    return [services.real.kubelet, *flags]


def main() -> None:
    """Entry point of the ``kubelet`` child of a real node."""
    config = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=NodeConfig)
    services = config.services
    assert services is not None, "only a node of a cluster has a kubelet"
    assert services.real is not None, "only a real node has a kubelet"
    STATIC_PODS.mkdir(parents=True, exist_ok=True)
    file = node.STATE / "kubelet.json"
    file.write_text(json.dumps(configuration(services.real.client_ca)))
    container_runtime.wait_until_listening()
    argv = command(config, services, file)
    os.execv(argv[0], argv)  # noqa: S606  # the same process, so that signals reach the kubelet


if __name__ == "__main__":
    main()
