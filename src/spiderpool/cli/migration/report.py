"""What `migrate` answers: what a cluster has, what becomes of it, and what is to be done next."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from spiderpool.api.ip import SpiderIP
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.cli.migration.look import DEFAULT_PLACES, MigrationState
from spiderpool.cli.migration.obstacles import obstacles, unready
from spiderpool.cli.migration.steps import conversion, is_limited
from spiderpool.cli.migration.values import REFUSED, SERVED, UNKNOWN, SettingRow, flags, setting_rows
from spiderpool.cli.printing import View, alerts, object_reference, plain, sentence, table
from spiderpool.core.addresses import FAMILIES
from spiderpool.core.ipam.migration import AddressFate, Fate, held_name
from spiderpool.core.ipam.migration_groups import LABEL, Side

MANY = 20
"""Findings that are shown of each fate, unless all are asked for."""
WIDEST = 32
"""Characters of a value that a table shows at most."""
AS_IT_IS = "as it is"
HELD_NAMES = frozenset(map(held_name, FAMILIES))


@dataclass(frozen=True, slots=True)
class GroupRow:
    """Nodes that change hands together."""

    nodes: tuple[str, ...]
    pools: tuple[str, ...]
    side: str


@dataclass(frozen=True, slots=True)
class KindRow:
    """What becomes of the objects of one kind."""

    kind: str
    count: int
    outcome: str


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """The state of a migration."""

    done: tuple[str, ...]
    groups: tuple[GroupRow, ...]
    kinds: tuple[KindRow, ...]
    settings: tuple[SettingRow, ...]
    values: tuple[SettingRow, ...]
    addresses: tuple[str, ...]
    """Names of the SpiderIPs that are still to be made."""
    findings: tuple[AddressFate, ...]
    steps: tuple[str, ...]
    """What to do next: sentences, and commands, which are indented."""
    problems: tuple[str, ...]

    def lines(self, view: View) -> Iterable[str]:
        """All sections that have something to say."""
        yield from self.done
        yield from self._section("Nodes that change hands together", self._group_table(view))
        yield from self._section("Objects", self._kind_table(view))
        yield from self._section("Settings of the other release (conf.yml)", _setting_table(self.settings, view))
        yield from self._section("Values of the other release", self._value_lines(view))
        yield from self._section("Addresses", self._address_lines(view))
        yield from self._section("Next", self._step_lines(view))
        yield from alerts(self.problems, view)

    def _section(self, title: str, lines: Iterable[str]) -> Iterator[str]:
        found = list(lines)
        if found:
            yield from ("", f"{title}:", *found)

    def _group_table(self, view: View) -> Iterator[str]:
        rows = [(each.side, " ".join(each.nodes), " ".join(each.pools)) for each in self.groups]
        if rows:
            yield from table(("SIDE", "NODES", "POOLS"), rows, view)

    def _kind_table(self, view: View) -> Iterator[str]:
        rows = [(each.kind, each.count, each.outcome) for each in self.kinds]
        yield from table(("KIND", "COUNT", "WHAT BECOMES OF THEM"), rows, view)

    def _value_lines(self, view: View) -> Iterator[str]:
        """What is not served, and how many are; all of them where they are asked for."""
        shown = [each for each in self.values if view.wide or each.outcome != SERVED]
        yield from _setting_table(shown, view)
        if served := len(self.values) - len(shown):
            yield f"{served} more are served (-o wide)"

    def _address_lines(self, view: View) -> Iterator[str]:
        yield f"{len(self.addresses)} are taken over"
        for fate in Fate:
            found = [each for each in self.findings if each.fate is fate]
            for each in found if view.wide or fate is Fate.HELD else found[:MANY]:
                yield from sentence(f"{each.subject} {each.fate}: {each.reason}", view, "  ")
            if not view.wide and fate is not Fate.HELD and len(found) > MANY:
                yield f"  and {len(found) - MANY} more {fate} (-o wide)"

    def _step_lines(self, view: View) -> Iterator[str]:
        for each in self.steps:
            if each.startswith(" "):
                yield from each.split("\n")
            else:
                yield from sentence(each, view)

    def document(self) -> Any:
        """All of it; findings with the ranges of their addresses."""
        found = plain({name: getattr(self, name) for name in self.__slots__ if name != "findings"})
        found["findings"] = [
            {
                "subject": each.subject,
                "fate": str(each.fate),
                "reason": each.reason,
                "pools": sorted(each.pools),
                "addresses": each.addresses.ranges() if each.addresses else [],
            }
            for each in self.findings
        ]
        return found

    def names(self) -> Iterable[str]:
        """The SpiderIPs that are still to be made."""
        return (object_reference(SpiderIP, name) for name in self.addresses)


def _setting_table(rows: Iterable[SettingRow], view: View) -> Iterator[str]:
    found = [(each.name, textwrap.shorten(each.value, WIDEST), each.outcome, each.remedy) for each in rows]
    if found:
        yield from table(("NAME", "VALUE", "HERE", "HOW"), found, view)


def report_of(
    state: MigrationState, *, values: Iterable[SettingRow] = (), file: str | None = None, done: Iterable[str] = ()
) -> MigrationReport:
    """What is known of a migration; ``file`` is the values file of which ``values`` are the rows."""
    found, values = conversion(state), tuple(values)
    existing = {record.name for record in state.go.records}
    held = sum(each.size for each in found.held.values())
    problems = [
        *obstacles(state),
        *(unready(state, state.labels) if state.old is not None else ()),
        *(f"{each.name} is {each.value}: {each.remedy}" for each in values if each.outcome in (REFUSED, UNKNOWN)),
        *([f"addresses that would be held back, since it is not clear whose they are: {held}"] if held else []),
        *_unlimited(state),
        *_reserved(state),
    ]
    return MigrationReport(
        done=tuple(done),
        groups=tuple(GroupRow(each.nodes, each.pools, state.side(each)) for each in state.groups),
        kinds=tuple(_kinds(state)),
        settings=tuple(setting_rows(state.settings or {})),
        values=values,
        addresses=tuple(each.name for each in found.records if each.name not in existing),
        findings=found.findings,
        steps=tuple(_steps(state, file, _variables_of(values))),
        problems=tuple(problems),
    )


def _unlimited(state: MigrationState) -> Iterator[str]:
    """That the other release's agents may be on nodes that have moved."""
    has_moved = any(labels.get(LABEL) in (Side.NEW, Side.MOVING) for labels in state.labels.values())
    if state.old is not None and has_moved and not is_limited(state.old.affinity):
        yield (
            f"DaemonSet {state.old.key} is no longer limited to nodes that have not moved, so its agents may be on "
            "others: somebody has upgraded or changed it. Any --apply limits it again; see then who has which address"
        )


def _reserved(state: MigrationState) -> Iterator[str]:
    """What is held back already."""
    for each in state.reserved:
        if each.name in HELD_NAMES:
            yield (
                f"SpiderReservedIP {each.name} holds back {', '.join(each.spec.ips or ())}: see who has them, and "
                "delete it, or what you have seen to in it"
            )


def _kinds(state: MigrationState) -> Iterator[KindRow]:
    yield KindRow("SpiderIPPool", len(state.go.pools), f"{AS_IT_IS}; status is written by our controller later")
    yield KindRow("SpiderEndpoint", len(state.go.endpoints), "its addresses become SpiderIPs; later a view of them")
    yield KindRow("SpiderSubnet", len(state.subnets), AS_IT_IS)
    yield KindRow("SpiderReservedIP", len(state.reserved), AS_IT_IS)
    unserved = [each.key for each in state.networks if _has_provider(each)]
    networks = f"{AS_IT_IS}, with their NetworkAttachmentDefinitions"
    if unserved:
        networks += f"; {', '.join(unserved)}: vlanMode auto has no counterpart, name a vlanID"
    yield KindRow("SpiderMultusConfig", len(state.networks), networks)
    yield KindRow("SpiderCoordinator", len(state.coordinators), AS_IT_IS)
    yield KindRow("ConfigMap", int(state.settings is not None), "replaced by that of our chart, see the settings below")


def _has_provider(network: SpiderMultusConfig) -> bool:
    return network.spec is not None and network.spec.vlan is not None and network.spec.vlan.vlanMode == "auto"


def _variables_of(values: Iterable[SettingRow]) -> int:
    """How many variables of agents a values file has: helm would overwrite one that has the same place."""
    return next((len(json.loads(each.value)) for each in values if each.name == "spiderpoolAgent.extraEnv"), 0)


def _steps(state: MigrationState, file: str | None, variables: int) -> Iterator[str]:
    """What a person does next; the commands are for our chart in a checkout. ``file`` has so many ``variables``."""
    if state.ours is None:
        if state.begun:
            yield "Our agents are removed while nodes have moved: give these back, or install our agents again:"
            yield f"  spiderpoolctl migrate --undo --apply{_options(state)}"
        else:
            yield "Install our agents, which run on no node yet:"
        yield from _installation(state, file, variables)
    elif not state.finished:
        yield from _moves(state)
    else:
        yield from _last_steps(state)


def _moves(state: MigrationState) -> Iterator[str]:
    """What moves each group that has not moved; our agents must be limited to nodes that have."""
    if state.ours is None or not state.ours.is_for_new_nodes:
        return
    yield "Move the nodes, group by group or all at once; pods that start there wait meanwhile:"
    for group in state.groups:
        if state.side(group) != Side.NEW:
            yield f"  spiderpoolctl migrate --apply{_options(state)} --node {group.nodes[0]}"


def _last_steps(state: MigrationState) -> Iterator[str]:
    namespace, former = shlex.quote(state.places.namespace), shlex.quote(state.places.former[0])
    if state.old is not None:
        yield (
            "All nodes have moved. Remove the other release without its hooks, which would delete all pools and "
            "custom resources. From then on nothing can be given back:"
        )
        yield f"  helm uninstall {shlex.quote(state.old.release)} --namespace {former} --no-hooks"
    if not state.has_controller:
        yield "Then install our controller, and let agents run on all nodes:"
        yield (
            f"  helm upgrade spiderpool charts/spiderpool --namespace {namespace} --reset-then-reuse-values "
            "--set migration.agentsOnly=false"
        )
        yield f"  kubectl --namespace {namespace} rollout status daemonset/spiderpool-agent"
    if state.begun:
        yield "At last take the label from the nodes:"
        yield f"  kubectl label nodes --all {LABEL}-"


def _options(state: MigrationState) -> str:
    """Where both releases are, as options, but for the defaults of the command."""
    places = state.places
    given = {
        "--namespace": (places.namespace, DEFAULT_PLACES.namespace),
        "--from": ("/".join(places.former), "/".join(DEFAULT_PLACES.former)),
        "--config": (places.config, DEFAULT_PLACES.config),
    }
    named = "".join(f" {name} {shlex.quote(value)}" for name, (value, default) in given.items() if value != default)
    return f"{named} --removed" if places.removed else named


def _installation(state: MigrationState, file: str | None, variables: int) -> Iterator[str]:
    namespace, (former, _) = state.places.namespace, state.places.former
    words = [
        f"helm install spiderpool charts/spiderpool --namespace {shlex.quote(namespace)} --create-namespace",
        "--set migration.agentsOnly=true",
        "--set 'migration.replacedNetworkLists={00-multus.conf}'",
    ]
    if state.default_network:
        network = state.default_network
        network = network if "/" in network else f"{former}/{network}"
        variable = f"spiderpoolAgent.extraEnv[{variables}]"
        words.append(f"--set '{variable}.name=MULTUS_CLUSTER_NETWORK'")
        words.append(f"--set {shlex.quote(f'{variable}.value={network}')}")
        if file:  # the chart would look for the network in our Namespace
            words.append("--set multus.multusCNI.defaultCniCRName=")
    names = [each.name for each in state.coordinators]
    if len(names) == 1 and names != ["default"]:
        words.append(f"--set coordinator.name={names[0]}")
    words += [f"--values {shlex.quote(file)}"] if file else flags(state.settings or {})
    yield "  " + " \\\n    ".join(words)
