"""`spiderpoolctl doctor`: daemons, their settings, networks and webhooks."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.core_v1 import Event, ObjectReference
from spiderpool.api.daemon_pods import DaemonPod
from spiderpool.api.discovery_v1 import Endpoint, EndpointSlice
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.multusconfig import IpvlanConfig, MultusConfigSpec, SpiderMultusConfig
from spiderpool.api.nad import NADSpec
from spiderpool.cli.doctor.look import WebhookService
from spiderpool.core.network.nads import attachment
from tests.cli.doctor.snapshots import HOME, account, daemon, diagnosed, found, pod, pool, record, sandbox, written

pytestmark = pytest.mark.unit


def test_a_daemon_that_is_not_ready_says_why() -> None:
    status = {"containerStatuses": [{"name": "agent", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
    metadata = {"name": "a", "namespace": HOME, "labels": {"app.kubernetes.io/component": "spiderpool-agent"}}
    failing = {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": status}
    (one,) = diagnosed(daemon("", 1), msgspec.convert(failing, DaemonPod)).findings
    assert one.what == "1 of 2 pods of spiderpool-agent are not ready"
    assert one.evidence == ("pod kube-system/a on node n1: container agent: CrashLoopBackOff",)


class TestNetworks:
    """Networks, webhooks, and what agents report."""

    CONFIG = SpiderMultusConfig(
        metadata=ObjectMeta(name="net", namespace="default"),
        spec=MultusConfigSpec(cniType="ipvlan", ipvlan=IpvlanConfig(master=["eth1"])),
    )

    def test_its_attachment_is_as_it_says(self) -> None:
        assert found(self.CONFIG, attachment(self.CONFIG)) == []

    def test_its_attachment_is_missing(self) -> None:
        what = "NetworkAttachmentDefinition default/net of SpiderMultusConfig default/net does not exist"
        assert found(self.CONFIG) == [("network-missing", what)]
        assert found(self.CONFIG, networks=None) == []

    def test_its_attachment_was_edited(self) -> None:
        edited = msgspec.structs.replace(attachment(self.CONFIG), spec=NADSpec("{}"))
        assert found(self.CONFIG, edited)[0][0] == "network-differs"

    def test_it_cannot_be_made(self) -> None:
        broken = msgspec.structs.replace(self.CONFIG, spec=MultusConfigSpec(cniType="ipvlan"))
        assert found(broken)[0][0] == "not-in-force"

    def test_a_pool_names_nothing_that_exists(self) -> None:
        assert found(pool(nodeName=["n1", "gone"])) == []
        what = "pool blue is for Node gone alone, and there is none"
        assert found(pool(nodeName=["gone"])) == [("pool-names-nothing", what)]
        what = "pool blue is for NetworkAttachmentDefinition kube-system/net alone, and there is none"
        assert found(pool(multusName=["net"])) == [("pool-names-nothing", what)]
        assert found(pool(multusName=["net"]), networks=None) == []

    def test_mtus_differ(self) -> None:
        objects = [record(5, "a", "u"), record(6, "b", "v", "n2"), pod("a", "u", "10.0.0.5"), pod("b", "v", "10.0.0.6")]
        one = account("n1", sandbox("a", "u", "10.0.0.5", 1500))
        assert found(*objects, one, account("n2", sandbox("b", "v", "10.0.0.6", 1500))) == []
        what = "pods of network default/net have different MTUs: 1450 on n2; 1500 on n1"
        assert found(*objects, one, account("n2", sandbox("b", "v", "10.0.0.6", 1450))) == [("mtu-differs", what)]

    def test_webhooks_need_a_ready_endpoint(self) -> None:
        def service(exists: bool, *ready: bool) -> tuple[WebhookService]:
            endpoints = [Endpoint(["10.0.0.1"]) for _ in ready]
            for endpoint, is_ready in zip(endpoints, ready, strict=True):
                endpoint.conditions.ready = is_ready
            return (WebhookService(HOME, "w", exists, (EndpointSlice(addressType="IPv4", endpoints=endpoints),)),)

        assert found(services=service(True, False, True)) == []
        begin = "Service kube-system/w, by which the API server calls the webhooks,"
        assert found(services=service(True, False)) == [("webhook-unreachable", f"{begin} has no ready endpoint")]
        assert found(services=service(False)) == [("webhook-unreachable", f"{begin} does not exist")]

    def test_what_an_agent_says_of_its_node_counts_for_an_hour(self) -> None:
        def told(ago: float, reason: str = "NodeNetworkFault", kind: str = "Node") -> Event:
            about = ObjectReference(kind=kind, name="n1")
            event = Event(involvedObject=about, reason=reason, message="forwarding is off", type="Warning", count=3)
            event.lastTimestamp = written(ago)
            return event

        assert found(told(60), told(90)) == [("node-network-fault", "node n1: forwarding is off")]
        assert found(told(4000)) == found(told(60, "Other")) == found(told(60, kind="Pod")) == []
        (one,) = diagnosed(told(60)).findings
        assert one.evidence == ("Event NodeNetworkFault of node n1: 3 times, last 60s ago",)


def test_settings_that_the_agents_refuse_come_before_agents_that_do_not_run() -> None:
    broken = found(daemon("", 1), settings_error="key enableIPv4 in conf.yml is 'maybe'")
    assert broken == [
        ("settings-wrong", "ConfigMap kube-system/spiderpool-conf is wrong: key enableIPv4 in conf.yml is 'maybe'"),
        ("daemon-not-ready", "1 of 2 pods of spiderpool-agent are not ready"),
    ]
