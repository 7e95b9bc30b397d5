"""What the chart takes: its own values, those of Spiderpool's chart, and what it says about a wrong one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts import generate_chart_schema as generator

from spiderpool.errors import BadConfig
from spiderpool.settings import table
from spiderpool.settings.setting import Setting
from spiderpool_lab import chart

pytestmark = pytest.mark.unit

SPIDERPOOL_VALUES = Path(__file__).with_name("spiderpool_values.yaml")


def paths(block: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """All values of a values file, also the empty ones."""
    for key, inner in block.items():
        if isinstance(inner, dict) and inner:
            yield from paths(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def refusal(*values: str) -> str:
    """What helm says about values."""
    with pytest.raises(BadConfig) as error:
        chart.templates(*values)
    return error.value.message


OURS = {value.path: value for value in generator.values()}
REFUSED = generator.compatibility()["refused"]


class TestSchema:
    def test_it_and_the_page_are_up_to_date(self) -> None:
        again = "run: python -m scripts.generate_chart_schema"
        assert json.loads(generator.SCHEMA.read_text()) == generator.schema(), again
        assert generator.PAGE.read_text() == generator.page(), again

    def test_what_it_knows_is_in_the_values(self) -> None:
        assert {*generator.SERVED, *generator.RULES, *generator.OPEN, *generator.DIFFERENT_DEFAULTS} <= {*OURS}

    @pytest.mark.parametrize("path", generator.SERVED)
    def test_a_value_has_the_default_of_its_setting(self, path: str) -> None:
        setting: Setting[Any] = generator.SERVED[path]
        default = OURS[path].default
        expected = list(setting.default) if isinstance(setting.default, tuple) else setting.default
        expected = "" if expected is None else expected
        assert (default == expected) is (path not in generator.DIFFERENT_DEFAULTS)

    def test_every_key_of_the_settings_can_be_set_by_a_value(self) -> None:
        keys = {key for setting in table.SETTINGS if setting not in generator.SERVED.values() for key in setting.keys}
        assert keys == {"ipamUnixSocketPath"}, "the CNI executable has it built in"

    def test_every_value_is_explained(self) -> None:
        leaves = [value for path, value in OURS.items() if not generator.is_block(path, value.default)]
        assert [value.path for value in leaves if not generator.meaning(value)] == []


WRONG = [
    ("ipam.enableIPv4=maybe", "/ipam/enableIPv4': got string, want boolean"),
    ("ipam.gc.gcAll.intervalInSecond=-1", "/ipam/gc/gcAll/intervalInSecond': minimum: got -1, want 0"),
    ("spiderpoolAgent.httpPort=65536", "/spiderpoolAgent/httpPort': maximum: got 65,536, want 65,535"),
    ("spiderpoolAgent.debug.logLevel=loud", "logLevel': 'loud' does not match pattern '^(debug|info|warn|"),
    ("cloud.provider=aws", "/cloud/provider': 'aws' does not match pattern '^(|alibaba)$'"),
    ("coordinator.mode=none", "/coordinator/mode': 'none' does not match pattern '^(auto|underlay|overlay|disabled)$'"),
    ("global.cniBinHostPath=opt", "/global/cniBinHostPath': 'opt' does not match pattern '^/'"),
    ("clusterDefaultPool.ipv6Subnet=10.0.0.0/8", "/clusterDefaultPool/ipv6Subnet': '10.0.0.0/8' does not match"),
    ("spiderpoolController.image.digest=abc", "/spiderpoolController/image/digest': 'abc' does not match"),
    ("coordinator.hijackCIDR=10.0.0.0/8", "/coordinator/hijackCIDR': got string, want array"),
    ("global.commonLabels=x", "/global/commonLabels': got string, want object"),
    ("ipam.enableIpv4=true", "/ipam': additional properties 'enableIpv4' not allowed"),
]


@pytest.mark.parametrize(("value", "told"), WRONG, ids=[value for value, _ in WRONG])
def test_a_wrong_value_of_each_type_is_named_with_what_is_allowed(value: str, told: str) -> None:
    assert told in refusal(value)


IPV6_POOL = "clusterDefaultPool.installIPv6IPPool=true"
GATES = "cloud.loadBalancers.injectReadinessGates"
BUDGET = "spiderpoolController.podDisruptionBudget"
URL = "spiderpoolController.extraEnv[0].name=SPIDERPOOL_WEBHOOK_URL,spiderpoolController.extraEnv[0]"
DO_NOT_FIT = [
    (["ipam.enableIPv4=false", "ipam.enableIPv6=false"], "set at least one to true"),
    (["clusterDefaultPool.installIPv4IPPool=true"], "clusterDefaultPool.ipv4Subnet is empty"),
    (
        [
            "ipam.enableIPv6=false",
            "clusterDefaultPool.installIPv6IPPool=true",
            "clusterDefaultPool.ipv6Subnet=fd00::/64",
        ],
        "set ipam.enableIPv6=true as well",
    ),
    (["spiderpoolAgent.updateStrategy.rollingUpdate.maxSurge=1"], "maxSurge is 1: two agents of a node"),
    (["spiderpoolController.podDisruptionBudget.enabled=true"], "no node that has one could be drained"),
    ([f"{BUDGET}.enabled=true", f"{BUDGET}.minAvailable=100%"], "minAvailable is 100% with 1 replicas: no node"),
    (
        [f"{BUDGET}.enabled=true", "spiderpoolController.replicas=2", f"{BUDGET}.minAvailable=51%"],
        "minAvailable is 51% with 2 replicas: no node that has one could be drained",
    ),
    ([f"{URL}.valueFrom.configMapKeyRef.name=x"], "write the URL as its value"),
    (["cloud.enabled=true"], "set cloud.provider to alibaba"),
    ([f"{GATES}=true"], "gates that nobody opens; set both to true, or this to false"),
    (
        ["cloud.enabled=true", "cloud.provider=alibaba", "cloud.loadBalancers.enabled=false", f"{GATES}=true"],
        "gates that nobody opens; set both to true, or this to false",
    ),
    (["cloud.alibaba.minFreeAddresses=20"], "write a maximum that is not below the minimum"),
    (["cloud.loadBalancers.zoneMaps=h:vsw-1\\,h:vsw-2"], "one vSwitch in a zone"),
    (["cloud.credentials.oidc.roleARN=acs:ram::1:role/x"], "set both, or neither"),
]


@pytest.mark.parametrize(("values", "told"), DO_NOT_FIT, ids=[values[-1] for values, _ in DO_NOT_FIT])
def test_values_that_do_not_fit_each_other_are_refused_with_the_remedy(values: list[str], told: str) -> None:
    assert told in refusal(*values)


class TestSpiderpoolsChart:
    """Every value is served, or refused with what replaces it, or named in the notes: never silently without effect."""

    def test_every_value_is_known(self) -> None:
        known = [*OURS, *(row["value"] for rows in generator.compatibility().values() for row in rows)]
        theirs = [*paths(yaml.safe_load(SPIDERPOOL_VALUES.read_text()))]
        inside = list(generator.OPEN)
        unknown = [
            path
            for path in theirs
            if not any(path == each or (path.startswith(f"{each}.") and each not in inside) for each in known)
            and not path.startswith(tuple(f"{each}." for each in inside))
        ]
        assert unknown == []

    def test_its_defaults_are_accepted(self) -> None:
        made = chart.helm("template", "x", chart.CHART, "--values", SPIDERPOOL_VALUES)
        assert "image: ghcr.io/spidernet-io/spiderpool/spiderpool-agent:v0.1.0" in made

    @pytest.mark.parametrize("row", REFUSED, ids=[row["value"] for row in REFUSED])
    def test_what_is_not_served_is_refused_with_what_replaces_it(self, row: dict[str, Any]) -> None:
        told = f"{row['value']} is {_json(other(row))}, which this chart does not serve: {row['instead']}"
        assert told in refusal(f"{row['value']}={_flag(other(row))}")

    def test_what_has_no_effect_is_named_in_the_notes(self, tmp_path: Path) -> None:
        values = {"plugins": {"installOvsCNI": False}, "multus": {"multusCNI": {"log": {"logLevel": "info"}}}}
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        given: tuple[tuple[tuple[str | Path, ...], bool], ...] = (((), False), (("--values", file), True))
        for extra, named in given:
            notes = chart.helm("install", "x", chart.CHART, "--dry-run=client", *extra).partition("NOTES:")[2]
            assert ("have no effect" in notes, "plugins.installOvsCNI" in notes) == (named, named)
            assert ("multus.multusCNI.log" in notes) is named


def other(row: dict[str, Any]) -> Any:
    """A value that a row does not accept."""
    match row["accepts"]:
        case [bool() as accepted]:
            return not accepted
        case [int() as accepted]:
            return accepted + 1
        case [[]]:
            return ["x"]
        case []:
            return True
        case _:
            return "x"


def _json(value: Any) -> str:
    return json.dumps(value)


def _flag(value: Any) -> str:
    return "{x}" if value == ["x"] else str(value).lower()
