"""Whether the ServiceAccounts of our daemons may do what this version of them needs, by roles and bindings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from spiderpool.api.rbac_v1 import (
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleBindingObject,
    RoleObject,
)
from spiderpool.cli import rbac
from spiderpool.cli.finding import Finding
from spiderpool.cli.installation import AGENT, CLOUD, CONTROLLER, LEASES
from spiderpool.cli.printing import object_reference


@dataclass(frozen=True, slots=True)
class Roles:
    """Roles and bindings that may concern our ServiceAccounts."""

    cluster_roles: tuple[ClusterRole, ...]
    cluster_bindings: tuple[ClusterRoleBinding, ...]
    roles: tuple[Role, ...]
    """Of the daemons' Namespace."""
    bindings: tuple[RoleBinding, ...]
    """Of the daemons' Namespace."""


@dataclass(frozen=True, slots=True)
class DaemonRight:
    """One verb on one resource; ``name``: on the object of this name alone."""

    group: str
    resource: str
    verb: str
    name: str | None = None

    @property
    def place(self) -> str:
        """The resource, as `kubectl auth can-i` takes it."""
        resource, slash, sub = self.resource.partition("/")
        whole = f"{resource}.{self.group}{slash}{sub}" if self.group else self.resource
        return f"{whole} {self.name}" if self.name else whole


def right_findings(roles: Roles | None, components: Iterable[str], namespace: str) -> Iterator[Finding]:
    """Rights that daemons need and do not have; none where roles may not be read."""
    for account in components if roles is not None else ():
        assert roles is not None
        bound = [each for each in roles.cluster_bindings if each.is_for(account, namespace)]
        local = [each for each in roles.bindings if each.is_for(account, namespace)]
        everywhere = granted(bound, roles.cluster_roles, roles.roles)
        here = everywhere + granted(local, roles.cluster_roles, roles.roles)
        missing = [*_missing(needed(account), everywhere), *_missing(_needed_here(account), here)]
        if missing:
            yield _finding(account, namespace, missing, is_bound=bool(bound))


def granted(
    bindings: Iterable[RoleBindingObject], cluster_roles: Iterable[ClusterRole], roles: Iterable[Role]
) -> list[PolicyRule]:
    """The rules of all roles that some bindings name."""
    known: dict[tuple[str, str], RoleObject] = {("ClusterRole", each.name): each for each in cluster_roles}
    known |= {("Role", each.name): each for each in roles}
    found = (known.get((each.roleRef.kind, each.roleRef.name)) for each in bindings)
    return [rule for role in found if role for rule in role.rules or ()]


def needed(account: str) -> list[dict[str, Any]]:
    """The rules that a daemon needs for all Namespaces; of spiderpool-cloud those that it needs with any feature."""
    return {AGENT: rbac.AGENT_RULES, CONTROLLER: rbac.CONTROLLER_RULES, CLOUD: rbac.RULES["nodes"]}[account]


def _needed_here(account: str) -> list[dict[str, Any]]:
    return rbac.leases(LEASES[account]) if account in LEASES else []


def _missing(rules: Iterable[dict[str, Any]], found: Sequence[PolicyRule]) -> list[DaemonRight]:
    return [right for rule in rules for right in _rights(rule) if not any(_allows(each, right) for each in found)]


def _rights(rule: dict[str, Any]) -> Iterator[DaemonRight]:
    each = msgspec.convert(rule, PolicyRule)
    for group in each.apiGroups:
        for resource in each.resources:
            for verb in each.verbs:
                yield from (DaemonRight(group, resource, verb, name) for name in each.resourceNames or (None,))


def _allows(rule: PolicyRule, right: DaemonRight) -> bool:
    _, slash, sub = right.resource.partition("/")
    return (
        not {right.group, "*"}.isdisjoint(rule.apiGroups)
        and not {right.resource, "*", *({f"*/{sub}"} if slash else ())}.isdisjoint(rule.resources)
        and not {right.verb, "*"}.isdisjoint(rule.verbs)
        and (not rule.resourceNames or right.name in rule.resourceNames)
    )


def _finding(account: str, namespace: str, missing: Iterable[DaemonRight], *, is_bound: bool) -> Finding:
    verbs: dict[str, list[str]] = {}
    for right in missing:
        verbs.setdefault(right.place, []).append(right.verb)
    evidence = tuple(f"{place}: {', '.join(dict.fromkeys(found))}" for place, found in verbs.items())
    who = f"ServiceAccount {namespace}/{account}"
    if not is_bound:
        what = f"{who} has no rights: no ClusterRoleBinding names it"
        return Finding("right-missing", object_reference(ClusterRoleBinding, account), what)
    text = f"{who} lacks {sum(map(len, verbs.values()))} rights that {account} needs: {evidence[0]}"
    more = f" and on {len(evidence) - 1} other resources" if len(evidence) > 1 else ""
    return Finding("right-missing", object_reference(ClusterRole, account), text + more, evidence=evidence)
