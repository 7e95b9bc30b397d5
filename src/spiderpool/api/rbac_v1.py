"""Roles and their bindings (rbac.authorization.k8s.io/v1), in part: read by commands alone."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from spiderpool.api.meta import Kind, Object, Scope

GROUP = "rbac.authorization.k8s.io"


class PolicyRule(msgspec.Struct, frozen=True):
    """rbac.authorization.k8s.io/v1 PolicyRule, of resources alone."""

    verbs: tuple[str, ...] = ()
    apiGroups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    resourceNames: tuple[str, ...] = ()


class RoleReference(msgspec.Struct):
    """rbac.authorization.k8s.io/v1 RoleRef, in part."""

    kind: str
    name: str


class Subject(msgspec.Struct):
    """rbac.authorization.k8s.io/v1 Subject, in part."""

    kind: str
    name: str
    namespace: str | None = None


class RoleObject(Object, kw_only=True):
    """Base of the two kinds of roles."""

    rules: list[PolicyRule] | None = None


class RoleBindingObject(Object, kw_only=True):
    """Base of the two kinds of bindings."""

    roleRef: RoleReference
    subjects: list[Subject] | None = None

    def is_for(self, account: str, namespace: str) -> bool:
        """Whether a ServiceAccount has the role, by its own name or by a group of ServiceAccounts."""
        groups = {"system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"}
        return any(
            (each.kind == "ServiceAccount" and (each.name, each.namespace) == (account, namespace))
            or (each.kind == "Group" and each.name in groups)
            for each in self.subjects or ()
        )


class ClusterRole(RoleObject, kw_only=True):
    """rbac.authorization.k8s.io/v1 ClusterRole."""

    KIND: ClassVar[Kind] = Kind(GROUP, "v1", "ClusterRole", "clusterroles", Scope.CLUSTER)


class Role(RoleObject, kw_only=True):
    """rbac.authorization.k8s.io/v1 Role."""

    KIND: ClassVar[Kind] = Kind(GROUP, "v1", "Role", "roles", Scope.NAMESPACED)


class ClusterRoleBinding(RoleBindingObject, kw_only=True):
    """rbac.authorization.k8s.io/v1 ClusterRoleBinding."""

    KIND: ClassVar[Kind] = Kind(GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings", Scope.CLUSTER)


class RoleBinding(RoleBindingObject, kw_only=True):
    """rbac.authorization.k8s.io/v1 RoleBinding."""

    KIND: ClassVar[Kind] = Kind(GROUP, "v1", "RoleBinding", "rolebindings", Scope.NAMESPACED)
