"""The RAM policy of spiderpool-cloud."""

from __future__ import annotations

import pytest

from spiderpool.cloud.alibaba.policy import ACTIONS, document

pytestmark = pytest.mark.unit


def test_a_document_allows_the_actions_of_its_features_once_and_in_order() -> None:
    statement = document(["addresses", "balancers"])["Statement"][0]
    assert statement["Action"] == sorted({*ACTIONS["addresses"], *ACTIONS["balancers"]})
    assert (statement["Effect"], statement["Resource"]) == ("Allow", "*")


def test_actions_are_named_with_their_product() -> None:
    named = {action.partition(":")[0] for actions in ACTIONS.values() for action in actions}
    assert named == {"ecs", "vpc", "slb", "nlb"}
