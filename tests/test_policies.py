"""What the settings of agents say about pods."""

from __future__ import annotations

import pytest
import yaml

from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.policies import address_policy, attachment_policy, requirement_policies
from spiderpool.settings import agent_settings, controller_settings, text_source

pytestmark = pytest.mark.unit

ENVIRONMENT = {
    "SPIDERPOOL_NODE_NAME": "n1",
    "SPIDERPOOL_POD_NAMESPACE": "here",
    "MULTUS_CLUSTER_NETWORK": "here/underlay",
    "MULTUS_NAMESPACE_ISOLATION": "true",
    "MULTUS_GLOBAL_NAMESPACES": "shared,other",
}
FLAGS = {
    "enableSpiderSubnet": "subnets",
    "enableAutoPoolForApplication": "automatic",
    "enableStatefulSet": "statefulsets",
    "enableKubevirtStaticIP": "machines",
}
"""Key of conf.yml → what it decides."""


def test_networks() -> None:
    found = attachment_policy(agent_settings(text_source("", "test", ENVIRONMENT)))
    assert found == AttachmentPolicy(
        "here/underlay", namespace="here", isolated=True, shared_namespaces=found.shared_namespaces
    )
    assert set(found.shared_namespaces) == {"shared", "other"}


def test_who_counts_knows_the_same_networks_and_families() -> None:
    networks, addresses = requirement_policies(
        controller_settings(text_source("enableIPv6: true", "test", ENVIRONMENT))
    )
    assert networks == AttachmentPolicy("here/underlay", namespace="here")
    assert addresses == address_policy(agent_settings(text_source("enableIPv6: true", "test", ENVIRONMENT)))


@pytest.mark.parametrize(("v4", "v6", "families"), [(True, False, (4,)), (False, True, (6,)), (True, True, (4, 6))])
def test_families(v4: bool, v6: bool, families: tuple[int, ...]) -> None:
    text = yaml.safe_dump({"enableIPv4": v4, "enableIPv6": v6})
    assert address_policy(agent_settings(text_source(text, "test", ENVIRONMENT))).families == families


@pytest.mark.parametrize("flag", FLAGS)
def test_each_switch_decides_one_thing(flag: str) -> None:
    def found(value: str) -> AddressPolicy:
        return address_policy(agent_settings(text_source(f"{flag}: {value}", "test", ENVIRONMENT)))

    on, off = found("true"), found("false")
    differ = {name for name in AddressPolicy.__slots__ if getattr(on, name) != getattr(off, name)}
    assert differ == {FLAGS[flag]}
    assert getattr(on, FLAGS[flag]) is True
