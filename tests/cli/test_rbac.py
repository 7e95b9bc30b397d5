"""The roles of our daemons in the cluster."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.cli.cloud_settings import FEATURES
from spiderpool.cli.rbac import AGENT_RULES, CONTROLLER_RULES, documents, leases
from spiderpool_lab import chart

pytestmark = pytest.mark.unit

ROLES = sorted(name for name in chart.templates(*chart.ALL_FEATURES) if name.endswith("-rbac.yaml"))
"""The templates with roles of the daemons."""
READ = {"get", "list", "watch"}


OPTIONAL = {"addresses": "cloud.alibaba.assign", "balancers": "cloud.loadBalancers.enabled"}
"""Feature → the value of the chart that switches it on; nodes are always served."""


@pytest.mark.parametrize("features", [[], ["addresses"], ["balancers"], ["addresses", "balancers"]], ids="+".join)
def test_the_chart_has_the_roles_of_the_features_that_are_on(features: list[str]) -> None:
    switches = [f"{value}={str(feature in features).lower()}" for feature, value in OPTIONAL.items()]
    made = chart.documents(chart.template("cloud-rbac.yaml", *chart.ALL_FEATURES, *switches))
    for each in made:
        del each["metadata"]["labels"]
    assert made == documents(["nodes", *features], chart.NAMESPACE)
    assert {"nodes", *OPTIONAL} == {*FEATURES}


def granted(rules: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """Group, resource, verb, and the names that it is limited to."""
    return {
        (group, resource, verb, *rule.get("resourceNames", ()))
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_chart_gives_agents_what_they_are_said_to_need() -> None:
    (role,) = (each for each in _documents("agent-rbac") if each["kind"] == "ClusterRole")
    assert granted(role["rules"]) == granted(AGENT_RULES)


def test_the_chart_gives_the_controller_what_it_is_said_to_need() -> None:
    template = chart.template("controller-rbac.yaml", "spiderpoolController.removeStartupTaint=false")
    made = chart.documents(template)
    (role,) = (each for each in made if each["kind"] == "ClusterRole")
    assert granted(role["rules"]) == granted(CONTROLLER_RULES)
    (here,) = (each for each in made if each["kind"] == "Role")
    assert granted(leases("spiderpool-controller-leases")) <= granted(here["rules"])


def test_an_agent_writes_objects_of_ours_and_events() -> None:
    (role,) = (each for each in _documents("agent-rbac") if each["kind"] == "ClusterRole")
    written = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb not in READ
    }
    own = {("spidernodes", verb) for verb in ("create", "patch")} | {("spidernodes/status", "patch")}
    own |= {("spiderservers", verb) for verb in ("create", "patch")}
    own |= {("spiderips", verb) for verb in ("create", "update", "delete")}
    assert written == own | {("events", verb) for verb in ("create", "patch")}


def test_a_policy_limits_all_that_an_agent_writes_to_its_node() -> None:
    limited = {
        (resource, verb)
        for policy in _documents("agent-policy")
        if policy["kind"] == "ValidatingAdmissionPolicy"
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]
        for resource in rule["resources"]
        for verb in rule["operations"]
    }
    operations = {"create": "CREATE", "patch": "UPDATE", "update": "UPDATE", "delete": "DELETE"}
    (role,) = (each for each in _documents("agent-rbac") if each["kind"] == "ClusterRole")
    for rule in role["rules"]:
        for verb in {*rule["verbs"]} - READ:
            assert {(resource, operations[verb]) for resource in rule["resources"]} <= limited


def _documents(name: str) -> list[dict[str, Any]]:
    return chart.documents(chart.template(f"{name}.yaml"))


def test_roles_are_no_wider_than_their_features() -> None:
    rules = documents(["nodes"], "kube-system")[1]["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} == {"nodes", "spiderservers", "events"}


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
LIMITED = {("controller-rbac.yaml", "pods"): {"patch"}}
"""Template and resource → verbs that a policy limits to what leads nowhere: of pods to one annotation."""
GROUPS = {"apps", "batch", "rbac.authorization.k8s.io", "apiextensions.k8s.io"}


@pytest.mark.parametrize("name", ROLES)
def test_no_daemon_has_a_right_that_leads_to_the_rights_of_others(name: str) -> None:
    roles = [each for each in chart.documents(chart.template(name)) if each["kind"] in ("Role", "ClusterRole")]
    for rule in (rule for role in roles for rule in role["rules"]):
        assert "*" not in {*rule["apiGroups"], *rule["resources"]}
        for resource in rule["resources"]:
            limited = LIMITED.get((name, resource), set())
            assert not WAYS_TO_MORE.get(resource, set()) & {*rule["verbs"]} - limited, resource
            if {*rule["apiGroups"]} & GROUPS:
                assert {*rule["verbs"]} <= READ, resource
            if resource == "secrets" or resource.endswith("webhookconfigurations"):
                assert len(rule["resourceNames"]) == 1, resource
