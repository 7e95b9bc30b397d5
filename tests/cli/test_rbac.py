"""The roles of our daemons in the cluster."""

from __future__ import annotations

import pytest

from spiderpool.cli.main import FEATURES
from spiderpool.cli.rbac import documents
from spiderpool_lab import chart

pytestmark = pytest.mark.unit

ROLES = sorted(name for name in chart.templates(*chart.ALL_FEATURES) if name.endswith("-rbac.yaml"))
"""The templates with roles of the daemons."""


def test_the_chart_has_the_roles_of_all_features() -> None:
    made = chart.documents(chart.template("cloud-rbac.yaml"))
    for each in made:
        each["metadata"].pop("labels", None)
    assert made == documents(FEATURES, chart.NAMESPACE)


def test_roles_are_no_wider_than_their_features() -> None:
    rules = documents(["nodes"], "kube-system")[1]["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} == {"nodes", "events"}


def test_a_resource_that_two_features_need_has_one_rule_with_the_verbs_of_both() -> None:
    rules = documents(["addresses", "nodes"], "kube-system")[1]["rules"]
    (nodes,) = [rule for rule in rules if rule["resources"] == ["nodes"]]
    assert sorted(nodes["verbs"]) == ["delete", "get", "list", "patch", "watch"]


WAYS_TO_MORE = {
    "secrets": {"create", "update", "delete", "*"},
    "serviceaccounts": {"create", "update", "patch", "impersonate", "*"},
    "serviceaccounts/token": {"create", "*"},
    "users": {"impersonate", "*"},
    "groups": {"impersonate", "*"},
    "pods": {"create", "update", "patch", "*"},
    "pods/exec": {"get", "create", "*"},
    "nodes/proxy": {"get", "create", "*"},
    "mutatingwebhookconfigurations": {"create", "update", "delete", "*"},
    "validatingwebhookconfigurations": {"create", "update", "delete", "*"},
    "validatingadmissionpolicies": {"create", "update", "patch", "delete", "*"},
    "validatingadmissionpolicybindings": {"create", "update", "patch", "delete", "*"},
}
"""Resource → verbs that lead to the rights of others. Of the GROUPS below, all but reading does."""
GROUPS = {"apps", "batch", "rbac.authorization.k8s.io", "apiextensions.k8s.io"}
READ_ONLY = {"get", "list", "watch"}


@pytest.mark.parametrize("name", ROLES)
def test_no_daemon_has_a_right_that_leads_to_the_rights_of_others(name: str) -> None:
    roles = [each for each in chart.documents(chart.template(name)) if each["kind"] in ("Role", "ClusterRole")]
    for rule in (rule for role in roles for rule in role["rules"]):
        assert "*" not in {*rule["apiGroups"], *rule["resources"]}
        for resource in rule["resources"]:
            assert not WAYS_TO_MORE.get(resource, set()) & {*rule["verbs"]}, resource
            if {*rule["apiGroups"]} & GROUPS:
                assert {*rule["verbs"]} <= READ_ONLY, resource
            if resource == "secrets" or resource.endswith("webhookconfigurations"):
                assert len(rule["resourceNames"]) == 1, resource
