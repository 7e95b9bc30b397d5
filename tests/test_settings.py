"""Settings: one table for all, where values come from, and how a wrong one is named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts import generate_settings

from spiderpool.errors import BadConfig
from spiderpool.settings import (
    AgentSettings,
    CloudSettings,
    ControllerSettings,
    LoadBalancerSettings,
    PreallocationSettings,
    ProviderSettings,
    SettingsSource,
    agent_settings,
    cloud_settings,
    controller_settings,
    kinds,
    load_source,
    table,
    unread_variables,
)
from spiderpool.settings.fields import rows_of
from spiderpool.settings.setting import Daemon, Setting

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
SHAPES: dict[Daemon, type[Any]] = {
    Daemon.AGENT: AgentSettings,
    Daemon.CONTROLLER: ControllerSettings,
    Daemon.CLOUD: CloudSettings,
}

NODE = {"SPIDERPOOL_NODE_NAME": "master", "SPIDERPOOL_CONFIG": "/nonexistent"}


def with_file(folder: Path, text: str) -> dict[str, str]:
    path = folder / "conf.yml"
    path.write_text(text)
    return NODE | {"SPIDERPOOL_CONFIG": str(path)}


def test_defaults_need_nothing_but_the_node() -> None:
    settings = agent_settings(load_source(NODE))
    assert settings.socket == Path("/var/run/spidernet/spiderpool.sock")
    assert (settings.common.kubeconfig, settings.common.namespace, settings.metrics_port) == (None, "kube-system", None)
    assert controller_settings(load_source(NODE)).webhook_port == 5722


def test_file_and_environment_are_read(tmp_path: Path) -> None:
    environment = with_file(tmp_path, "ipamUnixSocketPath: /run/x.sock\nenableIPv6: true\nenableStatefulSet: false\n")
    settings = agent_settings(load_source(environment | {"KUBECONFIG": "/k", "MULTUS_CLUSTER_NETWORK": " a/b "}))
    assert (str(settings.socket), settings.common.enable_ipv6) == ("/run/x.sock", True)
    assert settings.common.enable_statefulset is False
    assert (settings.common.kubeconfig, settings.default_network) == (Path("/k"), "a/b")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SPIDERPOOL_NODE_NAME": " "}, "SPIDERPOOL_NODE_NAME is missing"),
        ({"SPIDERPOOL_ADD_TIMEOUT_SECONDS": "soon"}, "SPIDERPOOL_ADD_TIMEOUT_SECONDS='soon' is not a number"),
        ({"SPIDERPOOL_ADD_TIMEOUT_SECONDS": "-1"}, "SPIDERPOOL_ADD_TIMEOUT_SECONDS='-1' is not a number"),
        ({"SPIDERPOOL_ADD_TIMEOUT_SECONDS": "nan"}, "SPIDERPOOL_ADD_TIMEOUT_SECONDS='nan' is not a number"),
        ({"SPIDERPOOL_HEALTH_PORT": "65536"}, "SPIDERPOOL_HEALTH_PORT='65536' is not a TCP port of at most 65535"),
        ({"SPIDERPOOL_ADD_TIMEOUT_SECONDS": "inf"}, "SPIDERPOOL_ADD_TIMEOUT_SECONDS='inf' is not a number"),
        ({"SPIDERPOOL_HEALTH_PORT": "80.5"}, "SPIDERPOOL_HEALTH_PORT='80.5' is not a whole number"),
        ({"SPIDERPOOL_LOG_LEVEL": "loud"}, "SPIDERPOOL_LOG_LEVEL is 'loud'; write 'debug' or 'info' or 'warn' or"),
        ({"SPIDERPOOL_CNI_BIN_DIR": "opt/cni"}, "SPIDERPOOL_CNI_BIN_DIR='opt/cni' is not an absolute path"),
        ({"SPIDERPOOL_INSTALL_CNI": "perhaps"}, "SPIDERPOOL_INSTALL_CNI='perhaps' is neither true nor false"),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(BadConfig) as caught:
        agent_settings(load_source(NODE | environment))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("enableIPv4: maybe", "key enableIPv4"),
        ("ipamUnixSocketPath: [a]", "key ipamUnixSocketPath"),
        ("ipamUnixSocketPath: run/x.sock", "ipamUnixSocketPath in conf.yml is 'run/x.sock', not an absolute path"),
        (f"ipamUnixSocketPath: /{'x' * 107}", "longer than the 107 bytes that Linux allows"),
        (
            "enableIPv5: true",
            "key enableIPv5 in conf.yml is True, but there is no such key: did you mean enableIPv6 or enableIPv4",
        ),
        (
            "cloud: {alibaba: {asign: true}}",
            "key cloud.alibaba.asign in conf.yml is True, but there is no such key: did",
        ),
        (
            "7: {}",
            "key 7 in conf.yml is {}, but there is no such key: the keys are agent.networkResourcePlugin.enabled",
        ),
        ("{enableIPv4: false, enableIPv6: false}", "enableIPv4 and enableIPv6 in conf.yml are both false"),
        ("[1, 2]", "not a mapping"),
        ("kind: ConfigMap\ndata: {conf.yml: ''}", "is a whole ConfigMap: give the text of its key conf.yml alone"),
        ("a: b: c", "cannot be read as YAML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadConfig) as caught:
        agent_settings(load_source(with_file(tmp_path, text)))
    assert message in caught.value.message


def test_keys_that_spiderpool_has_and_nobody_reads_here_are_accepted(tmp_path: Path) -> None:
    text = """
    tuneSysctlConfig: true
    enableCleanOutdatedEndpoint: false
    networkMode: legacy
    iaasNetworkProvider: {serverUrl: "", httpRequestTimeout: 50}
    agent:
      networkResourcePlugin:
        enabled: false
        kubeletRootDir: /var/lib/kubelet
        devicePluginAffinity: {nodeAffinity: {}}
        resourceAdvertisement: [{masterNIC: {names: [eth0]}}]
    cloud:
    podResourceInject: 5
    """
    assert agent_settings(load_source(with_file(tmp_path, text))) == AgentSettings(node="master")
    assert not {*table.UNUSED_KEYS} & {key for row in table.SETTINGS for key in row.keys}


def test_a_variable_that_is_nearly_one_is_told() -> None:
    right = {name: "" for row in (*table.SETTINGS, table.CONFIG_FILE) for name in row.variables}
    services = {"SPIDERPOOL_CONTROLLER_SERVICE_HOST": "", "SPIDERPOOL_CONTROLLER_PORT_5722_TCP": "tcp://10.96.0.7:5722"}
    others = {"PATH": "", "SPIDERPOOL_SOCKET": "", "SPIDERPOOL_GC_HTTP_REQUEST_TIME_GAP": "1"}
    assert list(unread_variables(right | services | others)) == []
    assert list(unread_variables({"SPIDERPOOL_LOG_LEVL": "debug", "MULTUS_CLUSTER_NETWORKS": "a"})) == [
        "environment variable MULTUS_CLUSTER_NETWORKS is not read; did you mean MULTUS_CLUSTER_NETWORK?",
        "environment variable SPIDERPOOL_LOG_LEVL is not read; did you mean SPIDERPOOL_LOG_LEVEL?",
    ]


def test_discovery_is_off_until_a_cloud_is_named(tmp_path: Path) -> None:
    assert agent_settings(load_source(NODE)).common.cloud == ProviderSettings()
    assert not ProviderSettings().discovers
    environment = with_file(tmp_path, "cloud: {provider: alibaba, primaryCard: false}\n")
    assert controller_settings(load_source(environment)).common.cloud == ProviderSettings("alibaba", primary_eni=False)
    variables = {
        "CLOUD_PROVIDER": "Alibaba",
        "METADATA_ENDPOINT": "127.0.0.1:8080",
        "SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS": "5",
    }
    assert agent_settings(load_source(NODE | variables)).common.cloud == ProviderSettings(
        "alibaba", "127.0.0.1:8080", 5.0
    )


@pytest.mark.parametrize("wanted", [True, False])
def test_a_cloud_is_named_without_discovery_where_pools_are_written_by_hand(tmp_path: Path, wanted: bool) -> None:
    environment = NODE | with_file(tmp_path, f"cloud: {{provider: alibaba, discovery: {str(wanted).lower()}}}\n")
    for cloud in (
        agent_settings(load_source(environment)).common.cloud,
        controller_settings(load_source(environment)).common.cloud,
    ):
        assert (cloud.provider, cloud.discovers) == ("alibaba", wanted)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CLOUD_PROVIDER": "other"}, "CLOUD_PROVIDER is 'other'; write '' or 'alibaba'"),
        ({"SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS": "0.5"}, "INTERVAL_SECONDS is 0.5; write at least 1: the metadata"),
    ],
)
def test_a_cloud_that_cannot_be_right_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        agent_settings(load_source(NODE | variables))


class TestTable:
    """Every setting stands in one row, and every row is read."""

    def test_every_field_has_rows_and_every_row_is_read_by_the_daemons_that_it_names(self) -> None:
        readers: dict[int, list[Daemon]] = {}
        for daemon, shape in SHAPES.items():
            for row in rows_of(shape):
                readers.setdefault(id(row), []).append(daemon)
        assert [(row.names, row.readers) for row in table.SETTINGS] == [
            (row.names, tuple(readers.get(id(row), ()))) for row in table.SETTINGS
        ]

    @pytest.mark.parametrize("daemon", Daemon)
    def test_no_name_stands_for_two_settings_of_a_daemon(self, daemon: Daemon) -> None:
        names = Counter(name for row in table.SETTINGS if daemon in row.readers for name in row.names)
        assert {name for name, times in names.items() if times > 1} == set()

    @pytest.mark.parametrize("row", table.SETTINGS, ids=lambda row: row.names[0])
    def test_a_row_has_a_name_one_line_of_help_and_a_default_within_its_bounds(self, row: Setting[Any]) -> None:
        assert row.names
        assert row.help
        assert "\n" not in row.help
        assert not row.choices or row.default in row.choices
        assert not isinstance(row.default, float | int) or row.default >= row.minimum
        assert not row.page or (ROOT / "docs" / row.page).exists()

    def test_the_reference_page_is_made_from_the_table(self) -> None:
        assert generate_settings.PAGE.read_text() == generate_settings.page(), (
            "run .venv/bin/python -m scripts.generate_settings"
        )

    def test_the_defaults_that_other_pages_give_are_those_of_the_table(self) -> None:
        rows = [row for row in table.SETTINGS if row.kind in (kinds.FLAG, kinds.SECONDS, kinds.PORT)]
        defaults = {
            name: {generate_settings.default_text(row) for row in rows if name in row.names}
            for each in rows
            for name in each.names
        }
        given = [
            (page.name, *found)
            for page in (ROOT / "docs").rglob("*.md")
            for found in re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|", page.read_text(), re.MULTILINE)
            if found[0] in defaults and page != generate_settings.PAGE
        ]
        assert len(given) > 10
        assert [each for each in given if each[2] not in defaults[each[1]]] == []

    def test_the_cni_executable_has_the_default_socket_of_the_agent(self) -> None:
        assert f'"{table.SOCKET.default}"' in (ROOT / "src/spiderpool/cni/shim.c").read_text()

    def test_every_variable_that_the_documentation_names_is_in_the_table(self) -> None:
        known = {name for row in (*table.SETTINGS, table.CONFIG_FILE) for name in row.variables}
        of_the_executable = {"SPIDERPOOL_SOCKET"}
        for page in (ROOT / "docs").rglob("*.md"):
            named = set(re.findall(r"\b(?:SPIDERPOOL|MULTUS)_[A-Z_]+[A-Z]\b", page.read_text()))
            assert named - known - of_the_executable == set(), page


def _sample(row: Setting[Any]) -> Any:
    """A value of conf.yml that is not the default."""
    if row.choices:
        return next(choice for choice in row.choices if choice != row.default)
    samples = {kinds.FLAG: not row.default, kinds.COUNT: 7, kinds.NAMES: ["x"], kinds.OBJECTS: [{"masterNIC": {}}]}
    samples[kinds.ZONES] = "a:vsw-1,b:vsw-2"
    return samples.get(row.kind, "/x")


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("row", "name"), [(row, name) for row in table.SETTINGS for name in row.names], ids=lambda each: str(each)[:60]
)
def test_every_name_is_read(row: Setting[Any], name: str) -> None:
    value = _sample(row)
    text = {kinds.SECONDS: "7", kinds.NUMBER: "7", kinds.PORT: "7"}.get(row.kind, str(value))
    environ = {name: text} if name in row.variables else {}
    read = SettingsSource(environ, _nested(name, value) if name in row.keys else {}).read(row)
    assert read != row.default


def test_a_variable_goes_before_a_key_and_an_earlier_name_before_a_later_one() -> None:
    environ = {"SPIDERPOOL_CLOUD_REGION": "a", "SPIDERPOOL_GC_INTERVAL_SECONDS": "1"}
    source = SettingsSource(
        environ, {"cloud": {"region": "b"}, "clusterSubnetDefaultFlexibleIPNumber": 3, "enableIPv4": True}
    )
    assert (source.read(table.CLOUD_REGION), source.read(table.GC_INTERVAL)) == ("a", 1.0)
    assert source.read(table.REDUNDANT_IPS) == 3
    later = SettingsSource(environ | {"SPIDERPOOL_GC_TRACE_POD_GAP_DURATION": "2"}, {})
    assert later.read(table.GC_INTERVAL) == 2.0


def test_a_wrong_value_is_named_also_where_another_place_precedes_it() -> None:
    source = SettingsSource({"SPIDERPOOL_CLOUD_REGION": "a"}, {"cloud": {"region": 5}})
    with pytest.raises(BadConfig, match=r"key cloud\.region in conf\.yml is 5, not text; correct the ConfigMap"):
        source.read(table.CLOUD_REGION)


def test_a_wrong_flag_is_told_with_its_whole_key_and_what_may_stand_there() -> None:
    source = SettingsSource({}, {"podResourceInject": {"enabled": "yes please"}})
    whole = r"key podResourceInject\.enabled in conf\.yml is 'yes please', not true or false; correct the ConfigMap"
    with pytest.raises(BadConfig, match=whole):
        source.read(table.INJECT)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"cloud": 5}, "key cloud in conf.yml is 5, not a mapping of keys"),
        ({"cloud": {"alibaba": "x"}}, "key cloud.alibaba in conf.yml is 'x', not a mapping of keys"),
        ({"cloud": {"alibaba": {"assign": None}}}, "key cloud.alibaba.assign in conf.yml is None, not true or false"),
        ({"cloud": {"alibaba": {"minFreeAddresses": 0}}}, "cloud.alibaba.minFreeAddresses in conf.yml is 0; write at"),
        ({"cloud": {"alibaba": {"minFreeAddresses": True}}}, "minFreeAddresses in conf.yml is True, not a number"),
        (
            {"cloud": {"alibaba": {"minFreeAddresses": 9, "maxFreeAddresses": 8}}},
            "cloud.alibaba.minFreeAddresses 9 and cloud.alibaba.maxFreeAddresses 8; write a maximum",
        ),
        ({"cloud": {"credentials": "key"}}, "cloud.credentials in conf.yml is 'key'; write 'auto' or 'role' or"),
        ({"cloud": {"loadBalancers": {"backendType": "pods"}}}, "backendType in conf.yml is 'pods'; write 'ecs' or"),
    ],
)
def test_a_wrong_key_is_named_with_its_path_and_the_remedy(document: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=re.escape(message)):
        cloud_settings(SettingsSource({}, document))


def test_a_list_that_is_none_is_named() -> None:
    with pytest.raises(BadConfig, match=r"podResourceInject\.namespacesExclude in conf\.yml is 'x', not a list"):
        controller_settings(SettingsSource({}, {"podResourceInject": {"namespacesExclude": "x"}}))


@pytest.mark.parametrize("document", [{}, {"cloud": None}, {"cloud": {"alibaba": {}, "region": ""}}])
def test_what_is_empty_leaves_the_defaults(document: dict[str, Any]) -> None:
    source = SettingsSource({"SPIDERPOOL_POD_NAME": "x", "SPIDERPOOL_NODE_NAME": "n", "KUBECONFIG": " "}, document)
    assert cloud_settings(source) == CloudSettings(identity="x")
    assert controller_settings(source) == ControllerSettings(identity="x")
    assert agent_settings(source) == AgentSettings(node="n")


def test_computed_values() -> None:
    environ = {
        "SPIDERPOOL_ENABLED_METRIC": "T",
        "SPIDERPOOL_HEALTH_PORT": "80",
        "SPIDERPOOL_WAIT_SUBNET_POOL_MAX_RETRIES": "1.5",
    }
    settings = agent_settings(SettingsSource(NODE | environ, {}))
    assert (settings.metrics_port, settings.health_port, settings.auto_pool_wait) == (5711, 80, 3.0)
    assert re.fullmatch(r".+_\d+", controller_settings(SettingsSource({}, {})).identity)
    plugin = {"enabled": True, "resourceAdvertisement": ["x", {"masterNIC": {}}]}
    assert controller_settings(SettingsSource({}, {"agent": {"networkResourcePlugin": plugin}})).pod_inject.enis


def test_the_examples_are_read() -> None:
    manifest = yaml.safe_load((ROOT / "examples/alibaba-cloud/settings.yaml").read_text())
    source = SettingsSource(NODE, yaml.safe_load(manifest["data"]["conf.yml"]))
    agent, cloud = agent_settings(source), cloud_settings(source)
    assert agent == replace(AgentSettings(node="master"), common=cloud.common)
    assert (cloud.common.enable_ipv6, cloud.common.enable_statefulset) == (True, False)
    assert (cloud.common.cloud, cloud.cluster_id) == (ProviderSettings("alibaba"), "walkthrough")
    assert (cloud.balancing, cloud.preallocation) == (LoadBalancerSettings(vpc="vpc-lab"), PreallocationSettings())


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_the_blocks_of_conf_yml_in_the_documentation_hold_known_keys(page: Path) -> None:
    known = {key for row in table.SETTINGS for key in row.keys}
    for document in _blocks(page.read_text()):
        paths = set(_paths(document))
        assert paths <= known, page
        for shape in (agent_settings, controller_settings, cloud_settings):
            assert shape(SettingsSource(NODE, document))


def _blocks(text: str) -> Iterator[dict[str, Any]]:
    """YAML blocks, indented or fenced, whose top keys belong to conf.yml."""
    tops = {key.split(".")[0] for row in table.SETTINGS for key in row.keys}
    for block in re.findall(r"(?:^    .*\n|^ *\n)+|^```yaml\n(?:.*\n)*?```", text, re.MULTILINE):
        try:
            document = yaml.safe_load(block.replace("```yaml", "").replace("```", ""))
        except yaml.YAMLError:
            continue
        if isinstance(document, dict) and set(document) <= tops:
            yield document


def _paths(document: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in document.items():
        yield from _paths(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
