"""Settings: defaults, where values come from, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.errors import BadConfig
from spiderpool.settings import ProviderSettings, agent_settings, controller_settings, load_source

pytestmark = pytest.mark.unit

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
        ("[1, 2]", "not a mapping"),
        ("a: b: c", "cannot be read as YAML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadConfig) as caught:
        agent_settings(load_source(with_file(tmp_path, text)))
    assert message in caught.value.message


def test_discovery_is_off_until_a_cloud_is_named(tmp_path: Path) -> None:
    assert agent_settings(load_source(NODE)).common.cloud == ProviderSettings()
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


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CLOUD_PROVIDER": "other"}, "the cloud provider is 'other'; write '' or 'alibaba'"),
        ({"SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS": "0.5"}, "SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS is 0.5"),
    ],
)
def test_a_cloud_that_cannot_be_right_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        agent_settings(load_source(NODE | variables))
