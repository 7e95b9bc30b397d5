"""Policies that are printed for the features of a file or of the options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from spiderpool.cli.main import cli
from spiderpool.cli.rbac import documents
from spiderpool.cloud.alibaba.policy import ACTIONS

pytestmark = pytest.mark.unit


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


def test_roles_for_load_balancers_name_the_policy_that_limits_them() -> None:
    assert "spiderpool-readiness-gates" in run("--kind", "rbac", "--feature", "balancers")
    assert "spiderpool-readiness-gates" not in run("--kind", "rbac", "--feature", "nodes")


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]\n- x", "cloud: {}", "kind: ConfigMap\ndata: {}", "[" * 5000, "a: 2026-99-99", "true: 1"),
        *("cloud: foo", "cloud: {provider: alibaba, alibaba: foo}", "cloud: {provider: alibaba, loadBalancers: [1]}"),
        "cloud: {provider: alibaba, loadBalancers: {enabled: 'false'}}",  # spiderpool-cloud refuses it as well
    ],
)
def test_a_file_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(text)
    result = CliRunner().invoke(cli, ["policy", "print", "--values", str(values)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


COMMANDS_WITH_FILES = [
    *(
        ["explain", "-f"],
        ["plan", "-f"],
        ["service", "plan", "-f"],
        ["policy", "print", "--values"],
        ["migrate", "--values"],
    ),
    ["service", "plan", "-f", "-", "--values"],
    *(["cloud", "verify", "--replay"], ["cloud", "verify", "--no-cluster", "--values"]),
]


@pytest.mark.parametrize("words", COMMANDS_WITH_FILES, ids=" ".join)
def test_a_binary_file_is_named(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\x7fELF\xff\xfe\x00")
    result = CliRunner().invoke(cli, [*words, str(file)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {file} cannot be read as ")


def test_roles_are_printed_as_yaml() -> None:
    printed = list(yaml.safe_load_all(run("--kind", "rbac", "--feature", "nodes", "--namespace", "cloud")))
    assert printed == documents(["nodes"], "cloud")
