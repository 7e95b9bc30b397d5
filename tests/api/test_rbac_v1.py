"""Whom a binding of roles is for."""

from __future__ import annotations

import pytest

from spiderpool.api.meta import ObjectMeta
from spiderpool.api.rbac_v1 import RoleBinding, RoleReference, Subject

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("subject", "is_for"),
    [
        (Subject("ServiceAccount", "agent", "home"), True),
        (Subject("ServiceAccount", "agent", "other"), False),
        (Subject("ServiceAccount", "other", "home"), False),
        (Subject("User", "agent"), False),
        (Subject("Group", "system:serviceaccounts:home"), True),
        (Subject("Group", "system:serviceaccounts:other"), False),
        (Subject("Group", "system:authenticated"), True),
    ],
)
def test_a_binding_names_an_account_or_a_group_of_it(subject: Subject, is_for: bool) -> None:
    binding = RoleBinding(metadata=ObjectMeta(name="b"), roleRef=RoleReference("Role", "r"), subjects=[subject])
    assert binding.is_for("agent", "home") is is_for


def test_a_binding_without_subjects_is_for_nobody() -> None:
    assert not RoleBinding(roleRef=RoleReference("Role", "r")).is_for("agent", "home")
