"""`migrate`: what it prints, and its commands for our chart."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from spiderpool.api.applications import Deployment
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import MultusConfigSpec, SpiderMultusConfig, VlanConfig
from spiderpool.cli.main import cli
from spiderpool.cli.migration.look import Places, read_state
from spiderpool.cli.migration.report import MigrationReport, report_of
from spiderpool.cli.migration.steps import take_over
from spiderpool.cli.migration.values import value_rows
from spiderpool.cli.printing import View, printed
from spiderpool.core.ipam.migration_groups import LABEL
from spiderpool.kube.client import Client
from spiderpool_lab import chart
from tests.cli.migration.other_release import (
    PLACES,
    REMOVED,
    SETTINGS,
    THEIR_VALUES,
    agents,
    config,
    go_cluster,
    ours,
    put,
    removed,
    state,
)
from tests.support.api_server import ApiServer
from tests.support.go_cluster import pod

pytestmark = pytest.mark.unit


def commands(report: MigrationReport) -> list[list[str]]:
    return [shlex.split(each.replace("\\\n", "")) for each in report.steps if each.startswith(" ")]


class TestReport:
    async def test_the_command_of_the_installation_is_one_of_our_chart(self, server: ApiServer, client: Client) -> None:
        server.remove(ours())
        server.put(
            config({**SETTINGS, "podResourceInject": {"namespacesInclude": ["a"]}}, clusterNetwork="ipvlan-eth0")
        )
        server.put(SpiderCoordinator(metadata=ObjectMeta(name="mine")))
        report = report_of(await state(client))
        ((*words,),) = commands(report)
        assert words[:6] == ["helm", "install", "spiderpool", "charts/spiderpool", "--namespace", "spiderpool"]
        rest = [word for word in words[6:] if word != "--create-namespace"]
        made = chart.helm("template", "spiderpool", chart.CHART, "--namespace", "spiderpool", *rest)
        (found,) = [
            each
            for each in chart.documents(made)
            if each["metadata"]["name"] == "spiderpool-agent" and "template" in each.get("spec", {})
        ]
        (container,) = found["spec"]["template"]["spec"]["containers"]
        env = {each["name"]: each.get("value") for each in container["env"]}
        assert env["MULTUS_CLUSTER_NETWORK"] == "kube-system/ipvlan-eth0"
        assert env["SPIDERPOOL_REPLACED_NETWORK_LISTS"] == "00-multus.conf"
        assert "enableIPv6: false" in made

    async def test_the_command_with_values_of_the_other_release(self, server: ApiServer, client: Client) -> None:
        server.remove(ours())
        server.put(config(clusterNetwork="shop/ipvlan"))
        ((*words,),) = commands(report_of(await state(client), file=str(THEIR_VALUES)))
        rest = [word for word in words[6:] if word != "--create-namespace"]
        made = chart.helm("template", "spiderpool", chart.CHART, "--namespace", "spiderpool", *rest)
        assert "value: shop/ipvlan" in made

    async def test_a_variable_of_the_values_is_kept(self, server: ApiServer, client: Client, tmp_path: Path) -> None:
        server.remove(ours())
        server.put(config(clusterNetwork="shop/ipvlan"))
        given = {"spiderpoolAgent": {"extraEnv": [{"name": "SPIDERPOOL_LOG_LEVEL", "value": "debug"}]}}
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(given))
        report = report_of(await state(client), values=value_rows(given, chart.CHART), file=str(file))
        ((*words,),) = commands(report)
        rest = [word for word in words[6:] if word != "--create-namespace"]
        made = chart.helm("template", "spiderpool", chart.CHART, "--namespace", "spiderpool", *rest)
        assert "value: shop/ipvlan" in made
        assert "SPIDERPOOL_LOG_LEVEL" in made

    async def test_the_commands_say_again_that_the_other_release_is_removed(
        self, server: ApiServer, client: Client
    ) -> None:
        put(server, go_cluster())
        server.remove(agents())
        removed(server)
        assert all("--removed" in words for words in commands(report_of(await read_state(client, REMOVED))))

    async def test_the_last_commands(self, server: ApiServer, client: Client) -> None:
        put(server, go_cluster())
        report = report_of(await state(client))
        assert [words[-1] for words in commands(report)] == ["n1", "n2"]
        await take_over(client, PLACES, [], 5.0)
        texts = [" ".join(words) for words in commands(report_of(await state(client)))]
        assert texts == [
            "helm uninstall spiderpool --namespace kube-system --no-hooks",
            "helm upgrade spiderpool charts/spiderpool --namespace spiderpool --reset-then-reuse-values "
            "--set migration.agentsOnly=false",
            "kubectl --namespace spiderpool rollout status daemonset/spiderpool-agent",
            f"kubectl label nodes --all {LABEL}-",
        ]
        server.remove(ours())
        elsewhere = Places("spiderpool", PLACES.former, "spiderpool-conf")
        removed = commands(report_of(await read_state(client, elsewhere)))
        assert removed[0] == ["spiderpoolctl", "migrate", "--undo", "--apply"]
        server.put(ours())
        server.remove(agents())
        server.put(Deployment(metadata=ObjectMeta(name="spiderpool-controller", namespace="spiderpool")))
        assert len(commands(report_of(await state(client)))) == 1

    async def test_a_command_holds_what_the_cluster_says_in_quotes(self, server: ApiServer, client: Client) -> None:
        named = agents()
        named.metadata.annotations = {"meta.helm.sh/release-name": "x; rm -rf \x1b[1m"}
        server.put(named)
        put(server, go_cluster())
        await take_over(client, PLACES, [], 5.0)
        report = report_of(await state(client))
        assert commands(report)[0][:3] == ["helm", "uninstall", "x; rm -rf \x1b[1m"]
        assert all(line.isprintable() for line in printed(report, "table", View()).split("\n"))

    async def test_a_long_command_is_printed_in_lines(self, server: ApiServer, client: Client) -> None:
        server.remove(ours())
        report = report_of(await state(client))
        (command,) = (each for each in report.steps if each.startswith(" "))
        assert "\n" in command
        assert command in printed(report, "table", View())

    async def test_it_is_printed_in_sections(self, server: ApiServer, client: Client) -> None:
        made = go_cluster()
        made.pools["two"].spec.ips = ["10.7.0.1-10.7.0.99"]
        for number in range(30):
            made.record(pod(f"gone-{number}", {}), {"eth0": {"two": f"10.7.0.{10 + number}"}})
        put(server, made)
        vlan = MultusConfigSpec(vlan=VlanConfig(master=["eth0"], vlanMode="auto"))
        server.put(SpiderMultusConfig(metadata=ObjectMeta(name="v", namespace="shop"), spec=vlan))
        rows = value_rows({"sriov": {"install": True}}, chart.CHART)
        report = report_of(await state(client), values=rows, done=["done"])
        text = "\n".join(report.lines(View(width=200)))
        for part in ("done", "SIDE  NODES  POOLS", "2 are taken over", "and 10 more free (-o wide)", "sriov.install"):
            assert part in text
        assert "shop/v: vlanMode auto has no counterpart" in text
        assert "! sriov.install is true: install the operator" in text
        assert "10.7.0.39 free" in "\n".join(report.lines(View(wide=True, width=200)))
        assert json.loads(json.dumps(report.document()))["findings"][0]["addresses"] == ["10.7.0.10"]
        assert [*report.names()] == [
            "spiderip.spiderpool.spidernet.io/10.6.0.1",
            "spiderip.spiderpool.spidernet.io/10.7.0.1",
        ]

    def test_options_that_are_wrong(self, tmp_path: Path) -> None:
        access = tmp_path / "kubeconfig"
        access.write_text(
            "current-context: c\ncontexts: [{name: c, context: {cluster: c}}]\n"
            "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        )
        result = CliRunner().invoke(cli, ["migrate", "--from", "x", "--kubeconfig", str(access)])
        assert result.exit_code == 1
        assert "write Namespace and name of the DaemonSet" in result.output
