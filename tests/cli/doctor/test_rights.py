"""`spiderpoolctl doctor`: what daemons may do against what they need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from spiderpool.api.meta import ObjectMeta
from spiderpool.api.rbac_v1 import (
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleReference,
    Subject,
)
from spiderpool.cli import rbac
from spiderpool.cli.doctor.checks_rights import Roles, right_findings
from spiderpool.cli.doctor.diagnosis import diagnosis
from spiderpool.cli.finding import Finding
from tests.cli.doctor.snapshots import HOME, NOW, found, snapshot

pytestmark = pytest.mark.unit


class TestRights:
    """Roles and bindings against what daemons need."""

    def roles(self, *rules: PolicyRule, **changes: Any) -> Roles:
        subjects = [Subject("ServiceAccount", "spiderpool-agent", HOME)]
        reference = RoleReference("ClusterRole", "any")
        binding = ClusterRoleBinding(metadata=ObjectMeta(name="b"), roleRef=reference, subjects=subjects)
        whole = Roles((ClusterRole(metadata=ObjectMeta(name="any"), rules=[*rules]),), (binding,), (), ())
        return replace(whole, **changes)

    def judged(self, roles: Roles | None, account: str = "spiderpool-agent") -> list[Finding]:
        return [*right_findings(roles, [account], HOME)]

    def test_all_rules_suffice(self) -> None:
        assert self.judged(self.roles(*(msgspec.convert(each, PolicyRule) for each in rbac.AGENT_RULES))) == []
        assert self.judged(self.roles(PolicyRule(("*",), ("*",), ("*",)))) == []
        assert self.judged(None) == []

    def test_a_verb_is_missing(self) -> None:
        rules = [msgspec.convert(each, PolicyRule) for each in rbac.AGENT_RULES]
        rules[0] = msgspec.structs.replace(rules[0], verbs=("get", "list", "watch", "create"))
        (one,) = self.judged(self.roles(*rules))
        assert one.what == (
            "ServiceAccount kube-system/spiderpool-agent lacks 2 rights that spiderpool-agent needs:"
            " spiderips.spiderpool.spidernet.io: update, delete"
        )

    def test_a_rule_for_other_names_is_not_enough(self) -> None:
        every = PolicyRule(("*",), ("*",), ("*",), ("other",))
        assert "and on" in self.judged(self.roles(every))[0].what

    def test_without_a_binding_there_are_none(self) -> None:
        (one,) = self.judged(self.roles(cluster_bindings=()))
        assert one.what == "ServiceAccount kube-system/spiderpool-agent has no rights: no ClusterRoleBinding names it"

    def test_a_leader_needs_its_lease_in_its_namespace(self) -> None:
        everything = PolicyRule(("*",), ("spiderpool.spidernet.io", ""), ("*",))
        subjects = [Subject("ServiceAccount", "spiderpool-cloud", HOME)]
        binding = ClusterRoleBinding(roleRef=RoleReference("ClusterRole", "any"), subjects=subjects)
        roles = self.roles(everything, cluster_bindings=(binding,))
        (one,) = self.judged(roles, "spiderpool-cloud")
        assert one.evidence == (
            "leases.coordination.k8s.io spiderpool-cloud-leases: get, update",
            "leases.coordination.k8s.io: create",
        )
        role = Role(
            metadata=ObjectMeta(name="r"),
            rules=[msgspec.convert(each, PolicyRule) for each in rbac.leases("spiderpool-cloud-leases")],
        )
        local = RoleBinding(roleRef=RoleReference("Role", "r"), subjects=subjects)
        assert self.judged(replace(roles, roles=(role,), bindings=(local,)), "spiderpool-cloud") == []


def test_daemons_that_are_not_there_need_no_rights() -> None:
    """As the controller where agents alone are installed."""
    nobody = Roles((), (), (), ())
    bare = replace(snapshot().installation, leases=(), accounts=(), workloads=())
    none = diagnosis(replace(snapshot(roles=nobody), installation=bare), {}, NOW).findings
    assert "right-missing" not in [each.check for each in none]
    assert [check for check, _ in found(roles=nobody)] == ["right-missing", "right-missing"]
