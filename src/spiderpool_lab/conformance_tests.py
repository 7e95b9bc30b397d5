"""Which of Kubernetes' own tests judge a network, how each is run, and what is known of those that cannot pass here.

Values in, values out. The names are those of ``e2e.test --list-tests``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

SUBJECTS = ("[sig-network]", "[sig-node] Pods ", "[sig-node] Probing container ", "[sig-apps] StatefulSet Basic ")
"""Beginnings of the names of the tests that are about a network, or about what the life of a pod does to it."""

LEFT_OUT = {
    "Netpol ": "NetworkPolicy is not supported",
    "NetworkPolicyLegacy": "NetworkPolicy is not supported",
    "[Feature:SCTPConnectivity]": "needs SCTP, which the kernel of the lab's nodes does not have",
    "[Feature:OffByDefault]": "needs a feature gate that Kubernetes leaves off",
    "[Alpha]": "needs a feature gate that Kubernetes leaves off",
    "[Feature:ServiceCIDRs]": "needs a feature gate that Kubernetes leaves off",
    "[Provider:gce]": "is for Google's cloud",
    "[Provider:GCE]": "is for Google's cloud",
    "GCE [Slow]": "is for Google's cloud",
    "Firewall rule ": "is for Google's cloud",
    "[Feature:KubeProxyDaemonSet": "upgrades kube-proxy as a script of Google's cloud installs it",
    "[Disruptive]": "restarts programs of the control plane or of a node over SSH",
    "[Feature:KubeProxyNFAcct]": "needs nfacct, which the kernel of the lab's nodes does not have",
    "[Feature:LocalhostNodePorts]": "needs a registry of images for the nodes",
    "[Feature:PerformanceDNS]": "makes ten thousand Services to measure a DNS server",
    "[Feature:Networking-Performance]": "measures throughput, which a simulated network has not",
    "[Feature:Networking-IPv4]": "asks servers in the real internet",
    "[Feature:Networking-IPv6]": "asks servers in the real internet",
    "[Feature:Networking-DNS]": "asks servers in the real internet",
    "ClusterDns [Feature:Example]": "needs the examples folder of Kubernetes' repository",
}
"""Part of a name → why tests with it do not run. Each such test is named in the report."""

IN_LAB = {
    "should only target nodes with endpoints": (
        "asks the health check port at every address of a node; of a Service with one family kube-proxy "
        "serves it in that family only, and the lab's nodes have two"
    ),
    "should be rejected for evicted pods": "the lab's kubelet evicts no pod for its disk",
    "evicted pods should be terminal": "the lab's kubelet evicts no pod for its disk",
    "invalid conntrack state bug": "no image with the program of this test",
    "stateful pod should be recreated": "needs volumes, and the lab has no StorageClass",
    "configMap nameserver": "replaces the configuration of a DNS that Kubernetes' own scripts have installed",
}
"""Part of a name → why a failure of that test is one of the lab."""

DIFFERENCES = {
    "should preserve source pod IP for traffic thru service cluster IP": (
        "what pods send to a Service is masqueraded: docs/reference/data-path.md"
    ),
    "should set TCP CLOSE_WAIT timeout": (
        "asks the client's node for a connection of its pod to another node, which passes it by: "
        "docs/reference/data-path.md"
    ),
    "should handle load balancer cleanup finalizer": (
        "the finalizer is that of Alibaba Cloud's controller: docs/usage/load-balancers.md"
    ),
}
"""Part of a name → the documented difference by which that test fails."""

SMOKE = (
    "[sig-network] DNS should provide DNS for services [Conformance]",
    "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http",
    "[sig-network] Services should serve a basic endpoint from pods",
    "[sig-network] [Feature:IPv6DualStack] should create pod, add ipv6 and ipv4 ip to pod ips",
)
"""Beginnings of the names of a few tests that take some minutes."""

LIMIT = 600.0
"""Seconds that a test has, unless the caller says otherwise."""
SLOW = 4
"""Times that limit is what a test has that calls itself slow; one waits 20 minutes for pauses between restarts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The tests that run, in order, and those that do not with the reason; ``available`` are all that there are."""

    run: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    available: int = 0


def listed(text: str) -> list[str]:
    """The names in what ``e2e.test --list-tests`` prints: a line for each, after the place in the source."""
    return re.findall(r"^\s+\S+\.go:\d+: (.+?)\s*$", text, re.MULTILINE)


def plan(names: Sequence[str], focus: str = "") -> Plan:
    """Choose from all tests those that judge a network; ``focus`` is a regular expression that limits them further.

    Those of ``[Conformance]`` come first, those that need the cluster for themselves last.
    """
    chosen = sorted({name for name in names if name.startswith(SUBJECTS) and re.search(focus, name)})
    reasons = {name: reason for name in chosen if (reason := reason_to_leave_out(name))}
    return Plan(tuple(sorted((name for name in chosen if name not in reasons), key=_turn)), reasons, len(names))


def _turn(name: str) -> tuple[bool, bool]:
    return needs_cluster_alone(name), "[Conformance]" not in name


def reason_to_leave_out(name: str) -> str | None:
    """Why a test does not run; None if it does."""
    return next((reason for part, reason in LEFT_OUT.items() if part in name), None)


def smoke(names: Sequence[str]) -> Plan:
    """The plan of the few tests of :data:`SMOKE`."""
    return Plan(tuple(name for name in names if name.startswith(SMOKE)), available=len(names))


def needs_cluster_alone(name: str) -> bool:
    """Whether no other test may run at the same time."""
    return "[Serial]" in name


def limit_of(name: str, limit: float) -> float:
    """Seconds that a test has, where ordinary ones have ``limit``."""
    return limit * SLOW if "[Slow]" in name else limit


def is_from_internet(name: str) -> bool:
    """Whether the test is a client of load balancers, which serve the internet."""
    return "LoadBalancers" in name


def focus_of(name: str) -> str:
    """The regular expression of Go that matches this name alone, which may have a blank at its end there."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", name) + r"\s*$"


def subject(name: str) -> str:
    """The heading under which a test is counted: its group's name."""
    if name.startswith("[sig-network]") and "[Conformance]" in name:
        return "[sig-network] … [Conformance]"
    first_words = re.match(r"\[sig-[a-z]+\] (\[Feature:[^]]+\]|\S+)", name)
    return first_words[0] if first_words else name


def cause_outside(name: str) -> str | None:
    """Why a failure of this test is not one of the network: a fault of the lab, or a difference by design."""
    lab = next((f"lab: {reason}" for part, reason in IN_LAB.items() if part in name), None)
    return lab or next((f"by design: {reason}" for part, reason in DIFFERENCES.items() if part in name), None)
