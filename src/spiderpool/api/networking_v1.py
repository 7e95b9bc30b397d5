"""NetworkPolicy (networking.k8s.io/v1), in part: which pods it selects. Nobody here enforces one."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from spiderpool.api.meta import Kind, LabelSelector, Object, Scope


class NetworkPolicySpec(msgspec.Struct, omit_defaults=True, gc=False):
    """networking.k8s.io/v1 NetworkPolicySpec, in part."""

    podSelector: LabelSelector = msgspec.field(default_factory=LabelSelector)


class NetworkPolicy(Object, kw_only=True):
    """networking.k8s.io/v1 NetworkPolicy."""

    KIND: ClassVar[Kind] = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", Scope.NAMESPACED)

    spec: NetworkPolicySpec = msgspec.field(default_factory=NetworkPolicySpec)
