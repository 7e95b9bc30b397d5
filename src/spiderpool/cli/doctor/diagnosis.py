"""`doctor`: what is wrong with an installation, the cause first, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from spiderpool.api.core_v1 import ConfigMap
from spiderpool.cli import attention
from spiderpool.cli.connection import Cluster
from spiderpool.cli.doctor.checks_addresses import address_findings, suspects
from spiderpool.cli.doctor.checks_definitions import definition_findings, version_findings
from spiderpool.cli.doctor.checks_moves import move_findings
from spiderpool.cli.doctor.checks_networks import network_findings
from spiderpool.cli.doctor.checks_pods import UNREAD, Controllers, read_controllers, refusal_findings, waiting_pods
from spiderpool.cli.doctor.checks_rights import right_findings
from spiderpool.cli.doctor.look import ClusterSnapshot, confirmed, known_node, read_snapshot
from spiderpool.cli.finding import CHECKS, ORDER, Finding
from spiderpool.cli.installation import AGENT, CLOUD, COMPONENTS, CONTROLLER, Installation, component_of
from spiderpool.cli.policies import CONFIG
from spiderpool.cli.printing import View, alerts, facts, object_reference, plain, sentence
from spiderpool.kube.owners import OwnerReader

INDENT = "    "


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, causes before what follows from them."""

    namespace: str
    node: str | None
    findings: tuple[Finding, ...]
    unseen: tuple[str, ...]
    """What may not be read, so that nothing is known about it."""
    unread: tuple[str, ...] = ()
    """Kinds of which something could not be read, though the cluster has them."""

    def lines(self, view: View) -> Iterator[str]:
        """Each finding, with its evidence, consequence and remedy."""
        where = f"Spiderpool in {self.namespace}{f', node {self.node}' if self.node else ''}"
        yield from sentence(f"{where}: {self._summary()}", view)
        for each in self.findings:
            yield ""
            yield from alerts([f"{CHECKS[each.check].severity}, {each.check}: {each.what}"], view)
            yield from _details(each, view)

    def _summary(self) -> str:
        count, hidden = len(self.findings), len(self.unread)
        kinds = f"{hidden} kind{'s' if hidden > 1 else ''} could not"
        if count:
            found = f"{count} finding{'s' if count > 1 else ''}, causes first"
            return f"{found}; there may be more, as {kinds} be read" if hidden else found
        return f"nothing is found wrong in what could be read ({kinds})" if hidden else "nothing is found wrong"

    def document(self) -> Any:
        """All of it."""
        return {
            "namespace": self.namespace,
            "node": self.node,
            "findings": [_document(each) for each in self.findings],
            "unseen": [*self.unseen],
            "unread": [*self.unread],
        }

    def names(self) -> Iterable[str]:
        """The objects that something is wrong with."""
        return dict.fromkeys(each.object for each in self.findings if each.object)

    @property
    def mendable(self) -> tuple[Finding, ...]:
        """Findings that `--fix` can mend."""
        return tuple(each for each in self.findings if each.release)


def _details(each: Finding, view: View) -> Iterator[str]:
    narrow = View(view.wide, width=view.width - len(INDENT) if view.width else None)
    shown = {
        "Object": each.object if view.wide else None,
        "Evidence": "; ".join(each.evidence),
        "Consequence": CHECKS[each.check].consequence,
        "Remedy": each.remedy,
        "--fix": f"releases {each.release}, if its node says that no sandbox has it" if each.release else None,
    }
    yield from (f"{INDENT}{line}" for line in facts(shown, narrow))


def _document(each: Finding) -> dict[str, Any]:
    check = CHECKS[each.check]
    return {
        "check": each.check,
        "severity": check.severity,
        "object": each.object,
        "node": each.node,
        "what": each.what,
        "evidence": plain(each.evidence),
        "consequence": check.consequence,
        "remedy": each.remedy,
        "fixable": each.release is not None,
    }


async def examine(cluster: Cluster, namespace: str | None, node: str | None, now: datetime) -> Diagnosis:
    """Read a cluster, and what looks wrong a second time, and judge it. What cannot be read is left out.

    Raises ApiUnavailable where nothing answers, Refused for a node that does not exist.
    """
    await cluster.go_on()
    await known_node(cluster, node)
    snapshot = await read_snapshot(cluster, namespace, node)
    snapshot = await confirmed(cluster, snapshot, suspects(snapshot))
    controllers = await read_controllers(OwnerReader(cluster.client), waiting_pods(snapshot, now), cluster.timeout)
    for key, (_, error) in controllers.items():
        if isinstance(error, UNREAD):
            cluster.leave_out("owners of pods", f"the owners of pod {key} could not be read: {error.message}")
    found = diagnosis(snapshot, controllers, now, cluster.left_out)
    return replace(found, unread=tuple(sorted(cluster.unread)))


def diagnosis(
    snapshot: ClusterSnapshot, controllers: Controllers, now: datetime, unseen: Iterable[str] = ()
) -> Diagnosis:
    """What is wrong with a cluster at ``now``."""
    found = snapshot.installation
    if not found.served:
        return Diagnosis(found.namespace, snapshot.node, tuple(attention.absence_findings(found)), tuple(unseen))
    findings = (
        *attention.installation_findings(found, now, snapshot.daemon_pods),
        *definition_findings(snapshot.definitions),
        *version_findings(found),
        *_settings_findings(snapshot),
        *right_findings(snapshot.roles, _components(found), found.namespace),
        *address_findings(snapshot),
        *network_findings(snapshot, now),
        *move_findings(found, now),
        *refusal_findings(snapshot, controllers, now),
    )
    chosen = (each for each in findings if snapshot.node is None or each.node in (None, snapshot.node))
    return Diagnosis(
        found.namespace, snapshot.node, tuple(sorted(chosen, key=lambda each: ORDER[each.check])), tuple(unseen)
    )


def _settings_findings(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """What the daemons would not start with."""
    if snapshot.settings_error:
        subject = object_reference(ConfigMap, CONFIG)
        what = f"ConfigMap {snapshot.installation.namespace}/{CONFIG} is wrong: {snapshot.settings_error}"
        yield Finding("settings-wrong", subject, what)


def _components(found: Installation) -> list[str]:
    """The daemons whose rights are judged: those that are installed, or that have led or told something."""
    seen = {component_of(each) for each in found.workloads or ()}
    seen |= {name for name in (CONTROLLER, CLOUD) if attention.lease_of(found, name) is not None}
    seen |= {AGENT} if found.accounts else set()
    return [each for each in COMPONENTS if each in seen]
