"""What spiderpool-cloud must be allowed: all that it calls, and nothing else."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import spiderpool.cloud.alibaba
from spiderpool.cli.main import cli
from spiderpool.cloud.alibaba.policy import ACTIONS

pytestmark = pytest.mark.unit

SOURCES = Path(spiderpool.cloud.alibaba.__file__).parent
CHART = Path(__file__).parents[2] / "charts" / "spiderpool" / "templates" / "cloud-rbac.yaml"
WORD = re.compile(r'"([A-Z]\w+)"')
CLIENTS = {"ecs": "ecs20140526", "vpc": "vpc20160428", "slb": "slb20140515", "nlb": "nlb20220430"}


def known(product: str) -> set[str]:
    """The actions that the official client of a product knows."""
    spec = find_spec(f"alibabacloud_{CLIENTS[product]}.client")
    assert spec is not None
    assert spec.origin is not None
    return set(re.findall(r"action = '(\w+)'", Path(spec.origin).read_text()))


def called(module: str, *products: str) -> set[str]:
    """Actions that a module names; that a word is one, the official clients say."""
    actions = {action for product in products for action in known(product)}
    return actions.intersection(WORD.findall((SOURCES / f"{module}.py").read_text()))


def listed(*features: str) -> set[str]:
    """Actions that the policy of features allows."""
    return {action for feature in features for action in ACTIONS[feature]}


def run(*words: str) -> str:
    result = CliRunner().invoke(cli, ["policy", "print", *words])
    assert result.exit_code == 0, result.output
    return result.output


def allowed(*words: str) -> list[str]:
    document = json.loads(run(*words))
    assert document["Version"] == "1"
    found: list[str] = document["Statement"][0]["Action"]
    return found


def test_everything_called_is_allowed_and_nothing_else() -> None:
    servers = called("ecs", "ecs", "vpc")
    assert servers == {action.partition(":")[2] for action in listed("nodes", "addresses")}
    balancers = {
        *(f"slb:{action}" for action in called("clb", "slb")),
        *(f"nlb:{action}" for action in called("nlb", "nlb")),
        *(f"ecs:{action}" for action in called("pod_enis", "ecs")),
    }
    assert balancers == listed("balancers")


def test_every_action_exists() -> None:
    for product, _, action in (each.partition(":") for each in listed(*ACTIONS)):
        assert action in known(product), f"{product}:{action}"


def test_each_feature_has_its_own_actions() -> None:
    assert allowed("--feature", "nodes") == ["ecs:DescribeInstances"]
    assert "ecs:DescribeInstances" not in allowed("--feature", "addresses")
    assert set(allowed()) == {action for actions in ACTIONS.values() for action in actions}


def test_a_values_file_says_what_is_on(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("cloud: {provider: alibaba}")
    assert "ecs:AssignPrivateIpAddresses" not in allowed("--values", str(values))
    values.write_text("cloud: {provider: alibaba, alibaba: {assign: true}, loadBalancers: {enabled: false}}")
    assert set(allowed("--values", str(values))) == listed("nodes", "addresses")


@pytest.mark.parametrize("text", ["{", "[]\n- x", "cloud: {}"])
def test_a_file_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(text)
    result = CliRunner().invoke(cli, ["policy", "print", "--values", str(values)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_the_chart_has_the_roles_that_are_printed() -> None:
    assert list(yaml.safe_load_all(CHART.read_text())) == list(yaml.safe_load_all(run("--kind", "rbac")))


def test_roles_are_no_wider_than_their_features() -> None:
    rules = list(yaml.safe_load_all(run("--kind", "rbac", "--feature", "nodes")))[1]["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} == {"nodes", "events"}
