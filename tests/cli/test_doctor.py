"""`spiderpoolctl doctor`: each check by the objects that it judges, and the order of what they find."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from spiderpool.api.apiextensions_v1 import CustomResourceDefinition
from spiderpool.api.applications import DaemonSet, WorkloadStatus
from spiderpool.api.coordination_v1 import Lease, LeaseSpec
from spiderpool.api.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStatus,
    Event,
    Node,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
    ObjectReference,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Taint,
)
from spiderpool.api.crd import KINDS, crd
from spiderpool.api.daemon_pods import DaemonPod
from spiderpool.api.discovery_v1 import Endpoint, EndpointSlice
from spiderpool.api.ip import FormerPod, IPOwner, IPSpec, SpiderIP
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.multusconfig import IpvlanConfig, MultusConfigSpec, SpiderMultusConfig
from spiderpool.api.nad import NADSpec, NetworkAttachmentDefinition, NetworkDNS, NetworkStatusEntry
from spiderpool.api.rbac_v1 import (
    ClusterRole,
    ClusterRoleBinding,
    PolicyRule,
    Role,
    RoleBinding,
    RoleReference,
    Subject,
)
from spiderpool.api.scheduling import ScheduledDaemonSet, SchedulingSpec
from spiderpool.api.spidernode import NodeAccount, NodeSandbox, SandboxInterface, SpiderNode
from spiderpool.cli import installation, rbac
from spiderpool.cli.attention import silent_nodes
from spiderpool.cli.connection import Cluster
from spiderpool.cli.doctor.checks_addresses import suspects
from spiderpool.cli.doctor.checks_definitions import definition_findings, version_findings
from spiderpool.cli.doctor.checks_pods import refusal_findings
from spiderpool.cli.doctor.checks_rights import Roles, right_findings
from spiderpool.cli.doctor.diagnosis import Diagnosis, diagnosis, examine
from spiderpool.cli.doctor.fix import Fixing
from spiderpool.cli.doctor.look import ClusterSnapshot, WebhookService, confirmed
from spiderpool.cli.finding import CHECKS, Finding
from spiderpool.cli.installation import Installation, WebhookCertificate, look
from spiderpool.cli.policies import AgentPolicies
from spiderpool.cli.printing import View, printed
from spiderpool.cli.status import status_of
from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.core.network.nads import attachment
from spiderpool.errors import ApiUnavailable, Refused
from spiderpool.kube.client import Forbidden, Unauthorized
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

HOME = "kube-system"
NOW = datetime.now(UTC)


def written(ago: float = 0) -> str:
    return (NOW - timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def lease() -> Lease:
    metadata = ObjectMeta(name="spiderpool-controller-leases", namespace=HOME)
    return Lease(metadata=metadata, spec=LeaseSpec("controller-1", 15, renewTime=written()))


def account(node: str, *sandboxes: NodeSandbox) -> SpiderNode:
    return SpiderNode(metadata=ObjectMeta(name=node), status=NodeAccount(sandboxes=list(sandboxes)))


def sandbox(pod: str, uid: str, address: str, mtu: int | None = None) -> NodeSandbox:
    networks = [NetworkStatusEntry("default/net", "eth0", NetworkDNS(), mtu=mtu)]
    return NodeSandbox(uid, "shop", pod, "c1", [SandboxInterface("eth0", None, [address, "fe80::1"])], networks)


def pod(name: str, uid: str, address: str, node: str = "n1") -> Pod:
    status = PodStatus("Running", [PodIP(address)])
    status.containerStatuses = [ContainerStatus(ContainerState(ContainerStateRunning()))]
    return Pod(metadata=ObjectMeta(name=name, namespace="shop", uid=uid), spec=PodSpec(node), status=status)


def record(last: int, pod: str, uid: str, node: str = "n1", **changes: Any) -> SpiderIP:
    spec = IPSpec(f"10.0.0.{last}/24", "blue", node, "shop", pod, uid, "eth0")
    return SpiderIP(metadata=ObjectMeta(name=f"10.0.0.{last}"), spec=msgspec.structs.replace(spec, **changes))


def pool(name: str = "blue", **spec: Any) -> SpiderIPPool:
    whole = {"subnet": "10.0.0.0/24", "ips": ["10.0.0.5-10.0.0.20"]} | spec
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(**whole))


def snapshot(*objects: Object, node: str | None = None, **changes: Any) -> ClusterSnapshot:
    """A cluster with these objects; its nodes n1 and n2 have said what they hold."""
    accounts = {"n1": account("n1"), "n2": account("n2")}
    accounts |= {each.name: each for each in objects if isinstance(each, SpiderNode)}

    def of(kind: type[Any]) -> tuple[Any, ...]:
        return tuple(each for each in objects if isinstance(each, kind))

    found = Installation(
        namespace=HOME,
        kubernetes="v1.37.2",
        served=True,
        workloads=of(DaemonSet),
        leases=(lease(),),
        nodes=tuple(Node(metadata=ObjectMeta(name=each)) for each in ("n1", "n2")),
        accounts=tuple(accounts.values()),
        pools=of(SpiderIPPool) or (pool(),),
        reserved=(),
        others=of(SpiderMultusConfig),
        webhooks=None,
        certificate=WebhookCertificate("s", True, None, True),
        events=of(Event),
    )
    whole = ClusterSnapshot(
        installation=found,
        node=node,
        records=of(SpiderIP),
        pods=of(Pod),
        networks=of(NetworkAttachmentDefinition),
        namespaces=(),
        quotas=(),
        servers=(),
        definitions=None,
        roles=None,
        daemon_pods=of(DaemonPod),
        services=(),
        policies=None,
    )
    return replace(whole, **changes)


def diagnosed(*objects: Object, node: str | None = None, **changes: Any) -> Diagnosis:
    return diagnosis(snapshot(*objects, node=node, **changes), {}, NOW)


def found(*objects: Object, node: str | None = None, **changes: Any) -> list[tuple[str, str]]:
    return [(each.check, each.what) for each in diagnosed(*objects, node=node, **changes).findings]


def test_nothing_is_wrong() -> None:
    held = pod("web", "u", "10.0.0.5"), record(5, "web", "u"), account("n1", sandbox("web", "u", "10.0.0.5"))
    assert found(*held) == []


class TestRecords:
    """Records against pods and sandboxes."""

    def test_a_record_without_its_pod_is_left_over(self) -> None:
        (one,) = diagnosed(record(5, "web", "u")).findings
        assert (one.check, one.release, one.node) == ("record-leaked", "10.0.0.5", "n1")
        assert one.what == "10.0.0.5 is kept for pod shop/web, which does not hold it any more"

    def test_a_record_whose_name_another_pod_has_is_left_over(self) -> None:
        assert found(record(5, "web", "u"), pod("web", "other", "10.0.0.6"), record(6, "web", "other"))[0][0] == (
            "record-leaked"
        )

    @pytest.mark.parametrize(
        "changes",
        [{"releasedAt": "2026-01-01T00:00:00Z"}, {"owner": IPOwner("StatefulSet", "shop", "db")}],
        ids=["cools down", "has an owner"],
    )
    def test_a_record_that_is_kept_is_not(self, changes: dict[str, Any]) -> None:
        assert found(record(5, "web", "u", **changes)) == []

    def test_a_record_whose_sandbox_still_runs_is_not(self) -> None:
        assert found(record(5, "web", "u"), account("n1", sandbox("web", "u", "10.0.0.5"))) == []

    def test_nothing_follows_from_pods_that_may_not_be_read(self) -> None:
        assert found(record(5, "web", "u"), pods=None) == []

    def test_a_pod_without_a_record_is_found_by_its_status_and_by_its_node(self) -> None:
        running, told = pod("web", "u", "10.0.0.5"), account("n1", sandbox("web", "u", "10.0.0.5"))
        said = [("address-unrecorded", "pod shop/web on node n1 uses 10.0.0.5 without a record")]
        assert found(running) == found(told) == found(running, told) == said

    def test_addresses_of_no_pool_are_not_ours(self) -> None:
        assert found(pod("web", "u", "10.1.0.5"), account("n1", sandbox("web", "u", "10.1.0.5"))) == []

    def test_pods_of_nodes_without_an_agent_are_not_ours(self) -> None:
        assert found(pod("web", "u", "10.0.0.5", "n3")) == []

    def test_a_record_may_be_malformed_and_its_pool_may_be_gone(self) -> None:
        wrong = record(5, "web", "u", address="nonsense")
        assert found(wrong) == [
            ("record-wrong", "SpiderIP 10.0.0.5 is wrong: spec.address 'nonsense' is not an address")
        ]
        orphan = record(5, "web", "u", pool="gone"), pod("web", "u", "10.0.0.5")
        what = "pool gone does not exist, and pods have addresses of it: 10.0.0.5 of pod shop/web"
        assert found(*orphan) == [("pool-missing", what)]

    def test_a_node_is_asked_about_alone(self) -> None:
        objects = record(5, "web", "u"), record(6, "web", "v", "n2")
        (one,) = diagnosed(*objects, node="n2").findings
        assert one.release == "10.0.0.6"


class TestTwice:
    """Addresses of two pods."""

    TWO = (
        account("n1", sandbox("a", "u", "10.0.0.5")),
        account("n2", sandbox("b", "v", "10.0.0.5")),
    )
    WHAT = "10.0.0.5 is in use twice: pod shop/a on node n1 and pod shop/b on node n2"

    def test_two_sandboxes_have_it(self) -> None:
        (one,) = diagnosed(*self.TWO, record(5, "b", "v", "n2"), pod("b", "v", "10.0.0.5", "n2")).findings
        assert (one.check, one.what) == ("address-twice", self.WHAT)
        assert one.remedy == "delete pod shop/a, so that it gets another address"

    def test_the_record_is_of_another_pod(self) -> None:
        objects = self.TWO[0], record(5, "b", "v", "n2"), pod("b", "v", "10.0.0.6", "n2")
        assert found(*objects)[0] == ("address-twice", self.WHAT)

    def test_a_virtual_machine_that_moves_has_it_twice(self) -> None:
        former = [FormerPod("n1", "a", "u", "1")]
        owner = IPOwner("VirtualMachineInstance", "shop", "vm")
        assert found(*self.TWO, record(5, "b", "v", "n2", movedFrom=former, owner=owner)) == []

    def test_a_static_pod_and_its_mirror_are_one(self) -> None:
        mirror = pod("a", "mirror", "10.0.0.5")
        mirror.metadata.annotations = {"kubernetes.io/config.hash": "u"}
        assert found(self.TWO[0], mirror, record(5, "a", "u")) == []

    @pytest.mark.parametrize("why", ["fenced", "out-of-service", "booted"])
    def test_what_a_stopped_node_had_is_in_use_no_more(self, why: str) -> None:
        boot = "later" if why == "booted" else "boot"
        told = account("n2", sandbox("db-0", "u", "10.0.0.5"))
        assert told.status is not None
        told.status.bootID = "boot"
        told.spec.fencedBootID = "boot" if why == "fenced" else None
        taints = [Taint("node.kubernetes.io/out-of-service")] if why == "out-of-service" else []
        ready = NodeCondition("Ready", "True" if why == "booted" else "Unknown")
        status = NodeStatus([ready], nodeInfo=NodeSystemInfo(boot))
        stopped = Node(metadata=ObjectMeta(name="n2"), spec=NodeSpec(taints=taints), status=status)
        whole = snapshot(record(5, "db-0", "v"), pod("db-0", "v", "10.0.0.5"), told)
        whole = replace(whole, installation=replace(whole.installation, nodes=(stopped,)))
        assert not [each.what for each in diagnosis(whole, {}, NOW).findings if each.check == "address-twice"]

    def test_a_pod_is_not_to_be_deleted_whose_name_the_healthy_one_has(self) -> None:
        both = account("n1", sandbox("db-0", "v", "10.0.0.5")), account("n2", sandbox("db-0", "u", "10.0.0.5"))
        one = next(each for each in diagnosed(record(5, "db-0", "v"), *both).findings if each.check == "address-twice")
        assert one.remedy.startswith("delete no pod: both are called shop/db-0")
        assert one.remedy.endswith("spiderpoolctl node fence n2")

    def test_it_comes_before_what_follows_from_it(self) -> None:
        assert [check for check, _ in found(*self.TWO)] == ["address-twice", "address-unrecorded"]


class TestRights:
    """Roles and bindings against what daemons need."""

    def roles(self, *rules: PolicyRule, **changes: Any) -> Roles:
        subjects = [Subject("ServiceAccount", "spiderpool-agent", HOME)]
        reference = RoleReference("ClusterRole", "any")
        binding = ClusterRoleBinding(metadata=ObjectMeta(name="b"), roleRef=reference, subjects=subjects)
        whole = Roles((ClusterRole(metadata=ObjectMeta(name="any"), rules=[*rules]),), (binding,), (), ())
        return replace(whole, **changes)

    def judged(self, roles: Roles | None, account: str = "spiderpool-agent") -> list[Finding]:
        return [*right_findings(roles, [account], HOME)]

    def test_all_rules_suffice(self) -> None:
        assert self.judged(self.roles(*(msgspec.convert(each, PolicyRule) for each in rbac.AGENT_RULES))) == []
        assert self.judged(self.roles(PolicyRule(("*",), ("*",), ("*",)))) == []
        assert self.judged(None) == []

    def test_a_verb_is_missing(self) -> None:
        rules = [msgspec.convert(each, PolicyRule) for each in rbac.AGENT_RULES]
        rules[0] = msgspec.structs.replace(rules[0], verbs=("get", "list", "watch", "create"))
        (one,) = self.judged(self.roles(*rules))
        assert one.what == (
            "ServiceAccount kube-system/spiderpool-agent lacks 2 rights that spiderpool-agent needs:"
            " spiderips.spiderpool.spidernet.io: update, delete"
        )

    def test_a_rule_for_other_names_is_not_enough(self) -> None:
        every = PolicyRule(("*",), ("*",), ("*",), ("other",))
        assert "and on" in self.judged(self.roles(every))[0].what

    def test_without_a_binding_there_are_none(self) -> None:
        (one,) = self.judged(self.roles(cluster_bindings=()))
        assert one.what == "ServiceAccount kube-system/spiderpool-agent has no rights: no ClusterRoleBinding names it"

    def test_a_leader_needs_its_lease_in_its_namespace(self) -> None:
        everything = PolicyRule(("*",), ("spiderpool.spidernet.io", ""), ("*",))
        subjects = [Subject("ServiceAccount", "spiderpool-cloud", HOME)]
        binding = ClusterRoleBinding(roleRef=RoleReference("ClusterRole", "any"), subjects=subjects)
        roles = self.roles(everything, cluster_bindings=(binding,))
        (one,) = self.judged(roles, "spiderpool-cloud")
        assert one.evidence == (
            "leases.coordination.k8s.io spiderpool-cloud-leases: get, update",
            "leases.coordination.k8s.io: create",
        )
        role = Role(
            metadata=ObjectMeta(name="r"),
            rules=[msgspec.convert(each, PolicyRule) for each in rbac.leases("spiderpool-cloud-leases")],
        )
        local = RoleBinding(roleRef=RoleReference("Role", "r"), subjects=subjects)
        assert self.judged(replace(roles, roles=(role,), bindings=(local,)), "spiderpool-cloud") == []


class TestDefinitions:
    """Custom resources, and versions."""

    ALL = tuple(msgspec.convert(crd(kind), CustomResourceDefinition) for kind in KINDS)

    def test_those_of_this_version_are_right(self) -> None:
        assert [*definition_findings(self.ALL)] == []
        assert [*definition_findings(None)] == []

    def test_one_is_missing(self) -> None:
        (one,) = definition_findings(each for each in self.ALL if not each.name.startswith("spiderips."))
        assert one.what == "CustomResourceDefinition spiderips.spiderpool.spidernet.io does not exist"

    def test_one_serves_another_version(self) -> None:
        older = crd(SpiderIP)
        older["spec"]["versions"][0]["name"] = "v1"
        others = [each for each in self.ALL if not each.name.startswith("spiderips.")]
        (one,) = definition_findings([*others, msgspec.convert(older, CustomResourceDefinition)])
        assert one.check == "crd-missing"
        assert one.what.endswith("does not serve spiderpool.spidernet.io/v2beta1")

    def test_one_lacks_fields(self) -> None:
        older = crd(SpiderIP)
        fields = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        del fields["movedFrom"]
        others = [each for each in self.ALL if not each.name.startswith("spiderips.")]
        (one,) = definition_findings([*others, msgspec.convert(older, CustomResourceDefinition)])
        assert one.check == "crd-outdated"
        assert one.what.endswith(
            "it lacks spec.movedFrom, spec.movedFrom[].node, spec.movedFrom[].pod,"
            " spec.movedFrom[].podUID, spec.movedFrom[].recordVersion"
        )

    def test_kubernetes_is_too_old(self) -> None:
        old = replace(snapshot().installation, kubernetes="v1.29.9")
        assert [each.check for each in version_findings(old)] == ["kubernetes-too-old"]
        assert [*version_findings(replace(old, kubernetes="v1.30.0"))] == []
        assert [*version_findings(replace(old, kubernetes=None))] == []

    def test_a_daemon_is_of_another_version(self) -> None:
        assert [check for check, _ in found(daemon("9.9.9"))] == ["version-differs"]


def daemon(version: str, ready: int = 2) -> DaemonSet:
    labels = {"app.kubernetes.io/component": "spiderpool-agent", "app.kubernetes.io/version": version}
    metadata = ObjectMeta(name="spiderpool-agent", namespace=HOME, labels=labels)
    return DaemonSet(metadata=metadata, status=WorkloadStatus(desiredNumberScheduled=2, numberReady=ready))


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


def test_daemons_that_are_not_there_need_no_rights() -> None:
    """As the controller where agents alone are installed."""
    nobody = Roles((), (), (), ())
    bare = replace(snapshot().installation, leases=(), accounts=(), workloads=())
    none = diagnosis(replace(snapshot(roles=nobody), installation=bare), {}, NOW).findings
    assert "right-missing" not in [each.check for each in none]
    assert [check for check, _ in found(roles=nobody)] == ["right-missing", "right-missing"]


def test_of_another_node_no_record_looks_wrong() -> None:
    assert [*suspects(snapshot(record(5, "a", "u", "n2"), node="n1"))] == []


def test_settings_that_the_agents_refuse_come_before_agents_that_do_not_run() -> None:
    broken = found(daemon("", 1), settings_error="key enableIPv4 in conf.yml is 'maybe'")
    assert broken == [
        ("settings-wrong", "ConfigMap kube-system/spiderpool-conf is wrong: key enableIPv4 in conf.yml is 'maybe'"),
        ("daemon-not-ready", "1 of 2 pods of spiderpool-agent are not ready"),
    ]


def test_what_looks_wrong_is_read_again() -> None:
    looked = snapshot(record(5, "a", "u"), pod("b", "v", "10.0.0.6"), pod("c", "w", "10.1.0.6"))
    assert [*suspects(looked)] == ["10.0.0.5", "10.0.0.6"]


async def test_a_pod_that_began_meanwhile_is_no_finding() -> None:
    async with ApiServer(SpiderIP.KIND, Pod.KIND) as server, server.client() as client:
        server.put(pod("b", "v", "10.0.0.6"))
        running = server.stored(Pod)["shop/b"]
        looked = snapshot(record(5, "a", "u"), running)
        server.put(record(6, "b", running.metadata.uid or ""))  # and the record of a is gone
        again = await confirmed(Cluster(client, 5.0), looked, suspects(looked))
    assert diagnosis(again, {}, NOW).findings == ()


@pytest.mark.parametrize("hidden", ["records", "pods"])
async def test_nothing_is_wrong_with_what_may_not_be_listed(hidden: str) -> None:
    looked = snapshot(record(5, "a", "u"), pod("b", "v", "10.0.0.6"), **{hidden: None})
    async with ApiServer(SpiderIP.KIND, Pod.KIND) as server, server.client() as client:
        again = await confirmed(Cluster(client, 5.0), looked, ["10.0.0.5", "10.0.0.6"])
    assert again == looked
    assert diagnosis(again, {}, NOW).findings == ()


async def test_what_may_be_listed_but_not_read_is_as_it_was_listed() -> None:
    looked = snapshot(record(5, "a", "u"), pod("a", "u", "10.0.0.5"))
    async with ApiServer(SpiderIP.KIND, Pod.KIND) as server, server.client() as client:
        server.put(record(5, "a", "u"))
        server.inject(Fault("get", plural="pods", status=403))
        assert await confirmed(Cluster(client, 5.0), looked, ["10.0.0.5"]) == looked


@pytest.mark.parametrize("hidden", ["pools", "nodes", "networks", "namespaces"])
def test_no_pod_is_explained_by_what_may_not_be_read(hidden: str) -> None:
    waiting = pod("web", "u", "10.0.0.5")
    waiting.metadata.creationTimestamp = written(60)
    waiting.status = PodStatus("Pending")
    policies = AgentPolicies(AttachmentPolicy("default/net", HOME), AddressPolicy())
    whole = snapshot(waiting, policies=policies)
    controllers: dict[str, Any] = {waiting.key: (None, None)}
    assert list(refusal_findings(whole, controllers, NOW))
    if hidden in ("pools", "nodes"):
        whole = replace(whole, installation=replace(whole.installation, **{hidden: None}))  # type: ignore[arg-type]
    else:
        whole = replace(whole, **{hidden: None})  # type: ignore[arg-type]
    assert not list(refusal_findings(whole, controllers, NOW))


async def test_webhooks_are_unknown_only_where_they_may_not_be_read() -> None:
    kinds = MutatingWebhookConfiguration, ValidatingWebhookConfiguration
    async with ApiServer(*(each.KIND for each in kinds)) as server, server.client() as client:
        server.inject(*(Fault("get", 2, each.KIND.plural, status=403) for each in kinds))
        cluster = Cluster(client, 5.0)
        assert [(await look(cluster, HOME)).webhooks for _ in range(2)] == [None, None]
        assert (await look(Cluster(client, 5.0), HOME)).webhooks == ()


@pytest.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ApiServer, Cluster]]:
    """A cluster with a node and a pool, of which nobody has told anything."""
    kinds = (Node, SpiderIP, SpiderIPPool, SpiderNode, Pod, Lease, CustomResourceDefinition)
    monkeypatch.setattr(installation, "SECOND_LOOK", 0.01)
    async with ApiServer(*(each.KIND for each in kinds)) as server, server.client() as client:
        server.put(
            Node(metadata=ObjectMeta(name="n1")),
            pool(),
            *(msgspec.convert(crd(each), CustomResourceDefinition) for each in KINDS),
        )
        yield server, Cluster(client, 5.0)


class TestReading:
    """What becomes of reads that fail."""

    async def test_who_may_see_nothing_is_not_told_that_all_is_well(self, cluster: tuple[ApiServer, Cluster]) -> None:
        server, ours = cluster
        server.inject(Fault("list", plural="spiderips", status=403))
        answer = await examine(ours, HOME, None, NOW)
        assert answer.unread == ("SpiderIP",)
        empty = replace(answer, findings=())
        said = "Spiderpool in kube-system: nothing is found wrong in what could be read (1 kind could not)"
        assert printed(empty, "table", View(width=120)) == said

    async def test_credentials_that_are_not_accepted_end_it(self, cluster: tuple[ApiServer, Cluster]) -> None:
        server, ours = cluster
        server.inject(Fault("list", 100, status=401), Fault("get", 100, status=401))
        with pytest.raises(Unauthorized):
            await ours.list(Node)
        with pytest.raises(Unauthorized):
            await examine(ours, HOME, None, NOW)

    @pytest.mark.parametrize("status", [410, 500])
    async def test_a_failed_read_costs_its_kind_alone(self, cluster: tuple[ApiServer, Cluster], status: int) -> None:
        server, ours = cluster
        server.inject(Fault("list", plural="spiderips", status=status))
        answer = await examine(ours, HOME, None, NOW)
        assert answer.unread == ("SpiderIP",)
        assert [each for each in answer.unseen if each.startswith("SpiderIP objects were not read: ")]
        assert "node-silent" in [each.check for each in answer.findings], "the rest is judged"

    async def test_a_server_that_does_not_answer_ends_it(self) -> None:
        async with ApiServer(Node.KIND) as server:
            url = server.client()
        async with url as client:
            with pytest.raises(ApiUnavailable):
                await examine(Cluster(client, 1.0), HOME, None, NOW)

    async def test_a_node_that_does_not_exist_is_refused(self, cluster: tuple[ApiServer, Cluster]) -> None:
        server, ours = cluster
        with pytest.raises(Refused, match="node nowhere does not exist"):
            await examine(ours, HOME, "nowhere", NOW)
        assert (await examine(ours, HOME, "n1", NOW)).node == "n1"
        server.inject(Fault("get", plural="nodes", status=403))
        assert "Node" in (await examine(ours, HOME, "nowhere", NOW)).unread

    async def test_our_definitions_are_asked_for_by_name(self, cluster: tuple[ApiServer, Cluster]) -> None:
        server, ours = cluster
        answer = await examine(ours, HOME, None, NOW)
        assert not [each for each in answer.findings if each.check == "crd-missing"]
        queries = [query for plural, query in server.list_queries if plural == "customresourcedefinitions"]
        assert queries
        assert all("fieldSelector" in each for each in queries)

    async def test_a_record_that_says_nothing_is_seen(self, cluster: tuple[ApiServer, Cluster]) -> None:
        server, ours = cluster
        named = record(6, "b", "v", address="10.0.0.7/24")
        named.metadata.name = "fd00-0000-0000-0000-0000-0000-0000-0007"
        stray = record(7, "c", "w")
        stray.metadata.name = "stray"
        server.put(record(5, "a", "u", address="nonsense"), named, stray)
        wrong = [each for each in (await examine(ours, HOME, None, NOW)).findings if each.check == "record-wrong"]
        uid = server.stored(SpiderIP)["stray"].metadata.uid
        assert {each.object.rpartition("/")[2]: each.remedy for each in wrong} == {
            "10.0.0.5": "delete pod shop/a if it is there, then: spiderpoolctl ip release 10.0.0.5",
            named.name: f"delete pod shop/b if it is there, then: spiderpoolctl ip release {named.name}",
            "stray": "delete pod shop/c if it is there, then: kubectl annotate spiderip stray"
            f" ipam.spidernet.io/release={uid}, and delete the SpiderIP",
        }

    async def test_an_owner_that_may_not_be_read_is_no_refusal(self) -> None:
        waiting = pod("web", "u", "10.0.0.5")
        waiting.metadata.creationTimestamp = written(60)
        waiting.status = PodStatus("Pending")
        whole = snapshot(waiting, policies=AgentPolicies(AttachmentPolicy("default/net", HOME), AddressPolicy()))
        assert not list(refusal_findings(whole, {waiting.key: (None, Forbidden("no"))}, NOW))


class TestAgents:
    """Which nodes are to have an agent."""

    def installed(self, *nodes: Node, **spec: Any) -> Installation:
        agents = ScheduledDaemonSet(metadata=ObjectMeta(name="spiderpool-agent", namespace=HOME))
        agents.spec.template.spec = SchedulingSpec(**spec)
        return replace(snapshot().installation, nodes=nodes, accounts=(), workloads=(agents,))

    def test_a_node_that_they_do_not_select_is_not_silent(self) -> None:
        inside = Node(metadata=ObjectMeta(name="inside", labels={"spiderpool.spidernet.io/migration": "new"}))
        outside = Node(metadata=ObjectMeta(name="outside"))
        found = self.installed(inside, outside, nodeSelector={"spiderpool.spidernet.io/migration": "new"})
        assert [each.node for each in silent_nodes(found)] == ["inside"]
        assert status_of(found, NOW).nodes == 1, "of one the account is missing"
        assert status_of(found, NOW).answered == 0
        silent = replace(found, accounts=(SpiderNode(metadata=ObjectMeta(name="outside")),))
        assert [each.node for each in silent_nodes(silent)] == ["inside", "outside"], "an agent has begun there"

    def test_a_taint_that_they_do_not_tolerate_counts(self) -> None:
        tainted = Node(metadata=ObjectMeta(name="gpu"), spec=NodeSpec(taints=[Taint("gpu", effect="NoSchedule")]))
        assert not list(silent_nodes(self.installed(tainted)))

    def test_a_node_with_a_pod_of_theirs_counts(self) -> None:
        found = self.installed(Node(metadata=ObjectMeta(name="n1")), nodeSelector={"a": "b"})
        metadata = ObjectMeta(name="a", namespace=HOME, labels={"app.kubernetes.io/component": "spiderpool-agent"})
        there = msgspec.convert({"metadata": msgspec.to_builtins(metadata), "spec": {"nodeName": "n1"}}, DaemonPod)
        assert [each.node for each in silent_nodes(found, [there])] == ["n1"]

    def test_without_a_readable_daemon_set_all_nodes_count(self) -> None:
        found = replace(self.installed(Node(metadata=ObjectMeta(name="n1"))), workloads=None)
        assert [each.node for each in silent_nodes(found)] == ["n1"]


class TestReport:
    """How findings are printed."""

    def test_people_see_what_evidence_consequence_and_remedy(self) -> None:
        text = printed(diagnosed(record(5, "web", "u")), "table", View(width=80))
        assert text == (
            "Spiderpool in kube-system: 1 finding, causes first\n"
            "\n"
            "! warning, record-leaked: 10.0.0.5 is kept for pod shop/web, which does not hold\n"
            "  it any more\n"
            "    Evidence:     the pod is gone, has ended, or is another one (UID u had it);\n"
            "                  its node says that no sandbox has it\n"
            "    Consequence:  nobody gets the address\n"
            "    Remedy:       it is released once the agent of node n1 says that no sandbox\n"
            "                  has it; by hand: spiderpoolctl ip release 10.0.0.5\n"
            "    --fix:        releases 10.0.0.5, if its node says that no sandbox has it"
        )

    def test_programs_see_all_of_it(self) -> None:
        document = json.loads(printed(diagnosed(record(5, "web", "u")), "json", View()))
        assert document["findings"][0]["check"] == "record-leaked"
        assert (document["findings"][0]["severity"], document["findings"][0]["fixable"]) == ("warning", True)
        assert [*diagnosed(record(5, "web", "u")).names()] == ["spiderip.spiderpool.spidernet.io/10.0.0.5"]

    def test_a_cluster_that_is_well_says_so(self) -> None:
        assert printed(diagnosed(node="n1"), "table", View()) == (
            "Spiderpool in kube-system, node n1: nothing is found wrong"
        )

    def test_without_our_kinds_nothing_else_is_told(self) -> None:
        bare = replace(snapshot().installation, served=False)
        found = diagnosis(replace(snapshot(), installation=bare), {}, NOW).findings
        assert [each.check for each in found] == ["not-installed"]

    def test_the_page_lists_all_checks_in_their_order(self) -> None:
        page = (Path(__file__).parents[2] / "docs/usage/spiderpoolctl.md").read_text()
        listed = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and line.count("|") == 4]
        assert [each for each in listed if each in CHECKS] == [*CHECKS]


@pytest.mark.parametrize("options", [{"yes": True, "dry_run": False}, {"yes": False, "dry_run": True}])
def test_how_is_nothing_without_fix(options: dict[str, bool]) -> None:
    with pytest.raises(click.UsageError, match="give --fix as well"):
        Fixing(fix=False, **options)
