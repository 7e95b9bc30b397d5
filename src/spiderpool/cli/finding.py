"""What is wrong with an installation: a finding of one check, and the checks in the order in which they are told.

A check that explains others stands before these: without rights no daemon is ready, without a leader no certificate is
renewed. `status` and `doctor` make the same findings by the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["critical", "error", "warning"]


@dataclass(frozen=True, slots=True)
class Check:
    """What all findings of a check have in common."""

    severity: Severity
    consequence: str
    remedy: str
    """For findings that do not name a remedy of their own."""


CHECKS: dict[str, Check] = {
    "not-installed": Check("critical", "nothing of Spiderpool works", "install it"),
    "crd-missing": Check(
        "critical",
        "objects of this kind can be neither read nor written, and the daemons that need them do not start",
        "apply the chart's custom resources: kubectl apply --server-side -f charts/spiderpool/crds",
    ),
    "kubernetes-too-old": Check(
        "critical", "admission policies and tokens of agents do not work as they need to", "update Kubernetes"
    ),
    "right-missing": Check(
        "critical",
        "the API server refuses the daemon what it has to read or write",
        "upgrade the release with helm, which writes the roles of this version again",
    ),
    "settings-wrong": Check(
        "critical", "daemons that start now end at once; those that run keep their former settings", "correct them"
    ),
    "crd-outdated": Check(
        "error",
        "the API server drops the fields that it does not know, whoever writes them",
        "apply the chart's custom resources: kubectl apply --server-side -f charts/spiderpool/crds",
    ),
    "no-leader": Check(
        "critical",
        "nobody makes pools and networks, counts addresses, collects those that are left over, or renews certificates",
        "look at the controller's pods and their logs",
    ),
    "daemon-not-ready": Check(
        "error",
        "without its agent a node gives no pod an address; nobody does the work of the other daemons",
        "look at the logs of these pods",
    ),
    "certificate-missing": Check("critical", "the webhooks do not serve", "make the Secret"),
    "certificate-ended": Check(
        "critical",
        "the API server cannot call the webhooks: it refuses each change of pools, networks and our other kinds",
        "look at the leader's log",
    ),
    "certificate-untrusted": Check(
        "critical",
        "the API server cannot call the webhooks: it refuses each change of pools, networks and our other kinds",
        "look at the leader's log",
    ),
    "webhook-unreachable": Check(
        "critical",
        "the API server cannot call the webhooks: it refuses each change of pools, networks and our other kinds",
        "see whether the Service is there, selects the controller's pods, and these are ready",
    ),
    "webhook-missing": Check("error", "manifests are not checked, and get no defaults", "look at the leader's log"),
    "address-twice": Check(
        "critical", "packets for one of the pods reach the other one", "delete one of the pods, so that it gets another"
    ),
    "node-silent": Check(
        "error",
        "new pods of the node may get no address, and addresses of ended pods are not free before it answers",
        "look at the pod of its agent and its log; if the node is lost: spiderpoolctl node fence",
    ),
    "node-network-fault": Check(
        "error", "pods of the node do not reach others, or are not reached", "do what the sentence of the agent says"
    ),
    "address-unrecorded": Check(
        "error",
        "other nodes take the address for a free one and may give it to a second pod",
        "its agent makes the record again within seconds: if not, look at its log, or delete the pod",
    ),
    "address-unregistered": Check(
        "error",
        "the cloud drops all packets of the pods with these addresses",
        "register the addresses on the ENI again, or delete the pods",
    ),
    "pod-refused": Check("error", "these pods do not start", "see spiderpoolctl explain pod"),
    "pool-names-nothing": Check(
        "error", "no pod gets an address of the pool", "correct the names, or make what they name"
    ),
    "network-missing": Check("error", "pods that name the network do not start", "look at the leader's log"),
    "not-in-force": Check("error", "the object does not do what its spec says", "do what its condition Ready says"),
    "record-wrong": Check(
        "error",
        "the record says nothing of any address",
        "delete the pod that it names, then: spiderpoolctl ip release, with the name of the SpiderIP",
    ),
    "pool-missing": Check(
        "error", "without it the pods have no gateway and no routes after a restart", "create the pool again"
    ),
    "network-differs": Check(
        "warning", "pods get another network than its SpiderMultusConfig says", "look at the leader's log"
    ),
    "mtu-differs": Check(
        "warning", "large packets from one node to another may be lost", "give the NICs of all nodes the same MTU"
    ),
    "record-leaked": Check(
        "warning",
        "nobody gets the address",
        "it is released once the agent of its node says that no sandbox has it; by hand: spiderpoolctl ip release",
    ),
    "move-left-over": Check(
        "warning", "addresses stay unused, or pods lose theirs, for a move that nobody makes", "take it back by --undo"
    ),
    "certificate-ends": Check(
        "warning", "after that, the API server refuses each change of our kinds", "look at the leader's log"
    ),
    "version-differs": Check(
        "warning",
        "fields and rights that only one of them knows are missing in the other",
        "use the spiderpoolctl of the daemons' version, or finish the upgrade",
    ),
}
"""All checks: causes before what follows from them, and what harms more before the rest."""
ORDER = {name: place for place, name in enumerate(CHECKS)}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and the object that it is about."""

    check: str
    object: str
    what: str
    hint: str = ""
    """The remedy; empty for that of the check."""
    evidence: tuple[str, ...] = ()
    node: str | None = None
    """The node that it is about; None: the whole cluster."""
    release: str | None = None
    """The address whose release mends it."""
    release_uid: str | None = None
    """The UID of the SpiderIP that is to be released: another one of the same address was not judged."""

    @property
    def text(self) -> str:
        """One sentence, with the remedy that is peculiar to it."""
        return f"{self.what}; {self.hint}" if self.hint else self.what

    @property
    def remedy(self) -> str:
        """What to do."""
        return self.hint or CHECKS[self.check].remedy
