"""The roles of spiderpool-cloud in the cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spiderpool.cli.main import FEATURES
from spiderpool.cli.rbac import documents

pytestmark = pytest.mark.unit

CHART = Path(__file__).parents[2] / "charts" / "spiderpool" / "templates" / "cloud-rbac.yaml"


def test_the_chart_has_the_roles_of_all_features() -> None:
    assert list(yaml.safe_load_all(CHART.read_text())) == documents(FEATURES, "kube-system")


def test_roles_are_no_wider_than_their_features() -> None:
    rules = documents(["nodes"], "kube-system")[1]["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} == {"nodes", "spiderservers", "events"}


def test_a_resource_that_two_features_need_has_one_rule_with_the_verbs_of_both() -> None:
    rules = documents(["addresses", "nodes"], "kube-system")[1]["rules"]
    (nodes,) = [rule for rule in rules if rule["resources"] == ["nodes"]]
    assert sorted(nodes["verbs"]) == ["delete", "get", "list", "patch", "watch"]
