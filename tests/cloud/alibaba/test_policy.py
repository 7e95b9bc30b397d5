"""The RAM policy of spiderpool-cloud: all that it calls, and nothing else."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import spiderpool.cloud.alibaba
from spiderpool.cloud.alibaba.policy import ACTIONS, document

pytestmark = pytest.mark.unit

SOURCES = Path(spiderpool.cloud.alibaba.__file__).parent
WORD = re.compile(r'"([A-Z]\w+)"')
CLIENTS = {"ecs": "ecs20140526", "vpc": "vpc20160428", "slb": "slb20140515", "nlb": "nlb20220430"}


def known(product: str) -> set[str]:
    """The actions that the official client of a product knows."""
    spec = find_spec(f"alibabacloud_{CLIENTS[product]}.client")
    assert spec is not None
    assert spec.origin is not None
    return set(re.findall(r"action = '(\w+)'", Path(spec.origin).read_text()))


def called(module: str, *products: str) -> set[str]:
    """Actions that a module and its parts name; that a word is one, the official clients say."""
    actions = {action for product in products for action in known(product)}
    files = [SOURCES / f"{module}.py", *SOURCES.glob(f"{module}_*.py")]
    return actions.intersection(word for file in files for word in WORD.findall(file.read_text()))


def listed(*features: str) -> set[str]:
    """Actions that the policy of features allows."""
    return {action for feature in features for action in ACTIONS[feature]}


def test_everything_called_is_allowed_and_nothing_else() -> None:
    servers = called("ecs", "ecs", "vpc")
    assert servers == {action.partition(":")[2] for action in listed("nodes", "addresses")}
    balancers = {
        *(f"slb:{action}" for action in called("clb", "slb") | called("clb_domains", "slb")),
        *(f"nlb:{action}" for action in called("nlb", "nlb") | called("nlb_settings", "nlb")),
        *(f"ecs:{action}" for action in called("pod_enis", "ecs") | called("security_groups", "ecs")),
        *(f"vpc:{action}" for action in called("elastic_ips", "vpc")),
    }
    assert balancers == listed("balancers")


def test_every_action_exists() -> None:
    for product, _, action in (each.partition(":") for each in listed(*ACTIONS)):
        assert action in known(product), f"{product}:{action}"


def test_a_document_allows_the_actions_of_its_features_once_and_in_order() -> None:
    statement = document(["addresses", "balancers"])["Statement"][0]
    assert statement["Action"] == sorted({*ACTIONS["addresses"], *ACTIONS["balancers"]})
    assert (statement["Effect"], statement["Resource"]) == ("Allow", "*")


def test_who_only_looks_may_change_nothing() -> None:
    actions = document(ACTIONS, read_only=True)["Statement"][0]["Action"]
    assert {action.partition(":")[2][:3] for action in actions} == {"Des", "Lis", "Get"}
    assert {"slb:DescribeLoadBalancers", "nlb:ListServerGroups", "ecs:DescribeNetworkInterfaces"} <= {*actions}


def test_actions_are_named_with_their_product() -> None:
    named = {action.partition(":")[0] for actions in ACTIONS.values() for action in actions}
    assert named == {"ecs", "vpc", "slb", "nlb"}
