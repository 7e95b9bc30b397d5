"""`migrate`: what it says of values and settings of the other release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spiderpool.cli.files import values_at
from spiderpool.cli.migration.values import REFUSED, SERVED, UNKNOWN, WITHOUT_EFFECT, flags, setting_rows, value_rows
from spiderpool.errors import BadConfig
from spiderpool.kube.client import Client
from spiderpool_lab import chart
from tests.cli.migration.other_release import SETTINGS, THEIR_VALUES, config, state
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit


class TestValues:
    def test_every_value_of_the_other_chart_is_known(self) -> None:
        rows = value_rows(yaml.safe_load(THEIR_VALUES.read_text()), chart.CHART)
        assert {row.outcome for row in rows} == {SERVED, WITHOUT_EFFECT, REFUSED}
        images = {
            f"spiderpool{each}.image.{name}"
            for each in ("Agent", "Controller", "Init")
            for name in ("registry", "repository")
        }
        assert {row.name for row in rows if row.outcome == REFUSED} == images
        assert len(rows) > 200

    def test_it_says_what_the_chart_says(self) -> None:
        given = {
            "coordinator": {"enabled": False, "detectGateway": True},
            "sriov": {"install": True, "image": {"a": 1}},
        }
        rows = {row.name: row for row in value_rows(given, chart.CHART)}
        refused = {name: row.remedy for name, row in rows.items() if row.outcome == REFUSED}
        with pytest.raises(BadConfig) as error:
            chart.templates("coordinator.enabled=false,coordinator.detectGateway=true,sriov.install=true")
        assert {*refused} == {"coordinator.enabled", "coordinator.detectGateway", "sriov.install"}
        assert all(
            f"{name} is" in error.value.message and text in error.value.message for name, text in refused.items()
        )
        assert rows["sriov.image"].outcome == SERVED

    @pytest.mark.parametrize(
        ("given", "path", "outcome"),
        [
            ({"ipam": {"enableIpv4": True}}, "ipam.enableIpv4", UNKNOWN),
            ({"global": {"imageRegistryOverride": "ghcr.m.daocloud.io"}}, "global.imageRegistryOverride", REFUSED),
            ({"spiderpoolAgent": {"image": {"pullPolicy": "Always"}}}, "spiderpoolAgent.image.pullPolicy", SERVED),
            ({"some": {"thing": 1}}, "some.thing", UNKNOWN),
            ({"global": {"commonLabels": {"a.b": "c"}}}, "global.commonLabels", SERVED),
            ({"multus": {"multusCNI": {"log": {"logLevel": "x"}}}}, "multus.multusCNI.log", WITHOUT_EFFECT),
            ({"spiderpoolAgent": {"affinity": {"nodeAffinity": {}}}}, "spiderpoolAgent.affinity", SERVED),
            ({"multus": {"enableMultusConfig": 1}}, "multus.enableMultusConfig", REFUSED),
        ],
    )
    def test_one_value(self, given: dict[str, Any], path: str, outcome: str) -> None:
        (row,) = value_rows(given, chart.CHART)
        assert (row.name, row.outcome) == (path, outcome)

    def test_a_folder_that_is_no_chart(self, tmp_path: Path) -> None:
        with pytest.raises(BadConfig, match="name its folder by --chart"):
            value_rows({}, tmp_path)

    @pytest.mark.parametrize("text", ["", "refused: 5", "refused: [{}]\nunused: []", "[", "[" * 5000])
    def test_a_table_that_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "compatibility.yaml").write_text(text)
        (tmp_path / "values.schema.json").write_text("{}")
        with pytest.raises(BadConfig, match="name its folder by --chart"):
            value_rows({}, tmp_path)

    async def test_what_yaml_takes_for_a_date_is_a_text_as_for_helm(
        self, server: ApiServer, client: Client, tmp_path: Path
    ) -> None:
        file = tmp_path / "values.yaml"
        file.write_text("global: {commonLabels: {since: 2026-01-02}}\n2026-01-02: 1")
        rows = {row.name: row.value for row in value_rows(values_at(file), chart.CHART)}
        assert rows == {"global.commonLabels": '{"since": "2026-01-02"}', "2026-01-02": "1"}
        server.put(config("a: 2026-01-02"))
        assert (await state(client)).settings == {"a": "2026-01-02"}

    def test_settings(self) -> None:
        conf = {
            **SETTINGS,
            "podResourceInject": {"enabled": True, "namespacesExclude": ["a b"]},
            "agent": {"networkResourcePlugin": {"enabled": False}},
            "iaasNetworkProvider": {"serverUrl": ""},
            "newer": 1,
        }
        rows = {row.name: (row.outcome, row.remedy) for row in setting_rows(conf)}
        assert rows["enableIPv6"] == (SERVED, "ipam.enableIPv6")
        assert rows["podResourceInject.enabled"] == (SERVED, "spiderpoolController.podResourceInject.enabled")
        assert rows["agent.networkResourcePlugin"][0] == WITHOUT_EFFECT
        assert rows["iaasNetworkProvider.serverUrl"][0] == WITHOUT_EFFECT
        assert rows["newer"] == (UNKNOWN, "")
        assert "--set-json ipam.enableIPv6=false" in flags(conf)
        assert """--set-json 'spiderpoolController.podResourceInject.namespacesExclude=["a b"]'""" in flags(conf)
