"""`spiderpoolctl status`: what it says of an installation that is well, and of each that is not."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from spiderpool.api.applications import DaemonSet, Deployment, WorkloadSpec, WorkloadStatus
from spiderpool.api.coordination_v1 import Lease, LeaseSpec
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import (
    Event,
    EventSource,
    Node,
    NodeCondition,
    NodeStatus,
    NodeSystemInfo,
    ObjectReference,
    Secret,
)
from spiderpool.api.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.meta import Condition, Object, ObjectMeta
from spiderpool.api.mounts import (
    EnvVar,
    MountingContainer,
    MountingDeployment,
    MountingPodSpec,
    MountingPodTemplate,
    MountingSpec,
    SecretVolume,
    Volume,
    VolumeMount,
)
from spiderpool.api.multusconfig import SpiderMultusConfig
from spiderpool.api.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.spidernode import NodeAccount, SpiderNode, SpiderNodeSpec
from spiderpool.api.subnet import SpiderSubnet
from spiderpool.cli import installation
from spiderpool.cli.connection import Cluster
from spiderpool.cli.installation import look
from spiderpool.cli.printing import View, printed
from spiderpool.cli.status import Status, read_status, status_of
from tests.support.api_server import ApiServer, Fault
from tests.support.self_signed import certificate, pem

pytestmark = pytest.mark.unit

KINDS = (
    *(Lease, Deployment, DaemonSet, Node, SpiderNode, SpiderIPPool, SpiderReservedIP, SpiderSubnet, SpiderMultusConfig),
    *(SpiderCoordinator, MutatingWebhookConfiguration, ValidatingWebhookConfiguration, Secret, Event),
)
HOME = "spiderpool"
NOW = datetime.now(UTC)
COMPONENT = "app.kubernetes.io/component"


def time_of(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def webhooks(authority: x509.Certificate) -> tuple[Object, ...]:
    bundle = base64.b64encode(pem(authority)).decode()
    meta = ObjectMeta(name="spiderpool-controller")
    hooks = [{"name": "pools", "clientConfig": {"caBundle": bundle}}]
    return (
        MutatingWebhookConfiguration(metadata=meta, webhooks=[*hooks, *hooks]),
        ValidatingWebhookConfiguration(metadata=meta, webhooks=hooks),
    )


def secret(leaf: x509.Certificate) -> Secret:
    return Secret(metadata=ObjectMeta(name="spiderpool-webhook-certs", namespace=HOME), data={"tls.crt": pem(leaf)})


def lease(renewed: datetime = NOW, holder: str = "controller-1") -> Lease:
    metadata = ObjectMeta(name="spiderpool-controller-leases", namespace=HOME)
    return Lease(metadata=metadata, spec=LeaseSpec(holder, 15, renewTime=time_of(renewed)))


def agents(ready: int = 2) -> DaemonSet:
    labels = {COMPONENT: "spiderpool-agent", "app.kubernetes.io/version": "0.1.0"}
    status = WorkloadStatus(desiredNumberScheduled=2, numberReady=ready)
    return DaemonSet(metadata=ObjectMeta(name="agents", namespace=HOME, labels=labels), status=status)


def controller() -> Deployment:
    metadata = ObjectMeta(name="spiderpool-controller", namespace=HOME)
    return Deployment(metadata=metadata, spec=WorkloadSpec(replicas=2), status=WorkloadStatus(readyReplicas=2))


def node(name: str, ready: str = "True") -> Node:
    status = NodeStatus([NodeCondition("Ready", ready)], nodeInfo=NodeSystemInfo("boot-1"))
    return Node(metadata=ObjectMeta(name=name), status=status)


def account(name: str, observed: int = 1, boot: str = "boot-1") -> SpiderNode:
    return SpiderNode(metadata=ObjectMeta(name=name), status=NodeAccount(observed, time_of(NOW), boot))


def pool(name: str, used: int, ready: Condition | None = None) -> SpiderIPPool:
    spec = IPPoolSpec("10.0.0.0/24", ips=["10.0.0.11-10.0.0.20"])
    ranges = [f"10.0.0.11-10.0.0.{10 + used}"] if used else []
    status = IPPoolStatus(totalIPCount=10, allocatedIPCount=used, allocatedRanges=ranges)
    return SpiderIPPool(
        metadata=ObjectMeta(name=name), spec=spec, status=replace(status, conditions=[ready] if ready else None)
    )


def warning(message: str, component: str = "spiderpool-agent", ago: int = 60) -> Event:
    return Event(
        metadata=ObjectMeta(name=f"e-{ago}", namespace="default"),
        involvedObject=ObjectReference(kind="Pod", name="web", namespace="default"),
        reason="AddressRefused",
        message=message,
        type="Warning",
        count=3,
        lastTimestamp=time_of(NOW - timedelta(seconds=ago)),
        source=EventSource(component),
    )


LEAF = certificate(NOW + timedelta(days=300))


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    """An installation that is well."""
    monkeypatch.setattr(installation, "SECOND_LOOK", 0.01)
    async with ApiServer(*(kind.KIND for kind in KINDS)) as server:
        server.put(lease(), controller(), agents(), node("n1"), node("n2"), account("n1"), account("n2"))
        server.put(pool("blue", 4), pool("red", 10), *webhooks(LEAF), secret(LEAF))
        yield server


async def status(server: ApiServer, namespace: str | None = None) -> Status:
    async with server.client() as client:
        return status_of(await look(Cluster(client, 5.0), namespace), NOW)


async def problems(server: ApiServer, namespace: str | None = None) -> list[str]:
    return [each.text for each in (await status(server, namespace)).problems]


async def test_one_screen(server: ApiServer) -> None:
    server.put(warning("no IPv4 address for eth0 of pod default/web on node n1: blue: is disabled"))
    server.put(warning("of somebody else", "kubelet", 5))
    shown = await status(server)
    assert printed(shown, "table", View(width=80)) == (
        f"Spiderpool in spiderpool, spiderpoolctl {shown.spiderpoolctl}\n"
        "\n"
        "COMPONENT              VERSION  READY  LEADER\n"
        "spiderpool-agent       0.1.0    2/2    -\n"
        "spiderpool-controller  -        2/2    controller-1, renewed 0s ago\n"
        "\n"
        "Agents:    2 of 2 nodes have answered\n"
        f"Webhooks:  2 mutating, 1 validating, certificate until {shown.certificate_expires}\n"
        "Pools:     2, 1 without a free address\n"
        "POOL  USED  FREE  TOTAL  USE\n"
        "red     10     0     10  100%\n"
        "blue     4     6     10  40%\n"
        "\n"
        "60s ago, AddressRefused of pod/default/web (x3):\n"
        "    no IPv4 address for eth0 of pod default/web on node n1: blue: is disabled"
    )
    assert shown.problems == ()
    document = json.loads(printed(shown, "json", View()))
    assert (document["nodes"], document["answered"], len(document["warnings"])) == (2, 2, 1)


async def test_reserved_addresses_are_not_free(server: ApiServer) -> None:
    spec = ReservedIPSpec(4, ["10.0.0.14-10.0.0.16"])
    server.put(SpiderReservedIP(metadata=ObjectMeta(name="r"), spec=spec))
    pools = {each.name: each for each in (await status(server)).pools or ()}
    assert (pools["blue"].used, pools["blue"].free, pools["blue"].total) == (4, 4, 10)  # .14 is in use


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lease(NOW - timedelta(minutes=5)), "no spiderpool-controller leads: controller-1, which has led, has not"),
        (lease(holder=""), "Lease spiderpool-controller-leases has no holder"),
        (agents(ready=1), "1 of 2 pods of agents are not ready"),
        (node("n3"), "node n3: its agent has not told yet what its pods hold"),
        (node("n3", "Unknown"), "what its pods hold; the Node is not ready"),
        (account("n2", observed=0), "node n2: its agent has not answered the last question; its last account is of"),
        (account("n2", boot="boot-0"), "node n2: its agent has told nothing since the node has booted"),
        (secret(certificate(NOW + timedelta(days=3))), "the certificate of the webhooks ends in 3 days"),
        (secret(certificate(NOW - timedelta(days=3))), "the certificate of the webhooks has ended"),
        (secret(certificate(NOW + timedelta(days=99))), "does not trust the certificate of the webhooks"),
        (
            pool("blue", 0, Condition("Ready", "False", "Malformed", "spec.ips[0] is no range")),
            "SpiderIPPool blue is not in force: spec.ips[0] is no range",
        ),
    ],
)
async def test_what_needs_attention_comes_with_the_cause(server: ApiServer, changed: Object, said: str) -> None:
    server.put(changed)
    shown = await status(server)
    assert said in shown.problems[0].text
    assert "! " in printed(shown, "table", View())
    assert printed(shown, "name", View()).splitlines()[0] == shown.problems[0].object


PROVIDED = "ours"
FOLDER = "/etc/certificate"


class MountingController(MountingDeployment, kw_only=True):
    """What its pods mount, and that they are ready."""

    status: WorkloadStatus


def mounting() -> MountingController:
    """The controller where somebody else provides its certificate."""
    container = MountingContainer(
        [EnvVar("OTHER"), EnvVar("SPIDERPOOL_WEBHOOK_CERTIFICATE_FOLDER", FOLDER)],
        [VolumeMount("tmp", "/tmp"), VolumeMount("certificate", FOLDER)],
    )
    pod = MountingPodSpec([container], [Volume("tmp"), Volume("certificate", SecretVolume(PROVIDED))])
    metadata = ObjectMeta(name="spiderpool-controller", namespace=HOME)
    spec, status = MountingSpec(MountingPodTemplate(pod)), WorkloadStatus(readyReplicas=1)
    return MountingController(metadata=metadata, spec=spec, status=status)


def provided(*chain: x509.Certificate) -> Secret:
    data = {"tls.crt": b"".join(map(pem, chain))} if chain else None
    return Secret(metadata=ObjectMeta(name=PROVIDED, namespace=HOME), data=data)


def signed(by: x509.Certificate, key: ec.EllipticCurvePrivateKey, name: str) -> tuple[x509.Certificate, Any]:
    """A certificate and its key, signed by another one."""
    own = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
    builder = builder.issuer_name(by.subject).public_key(own.public_key()).serial_number(2)
    builder = builder.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=200))
    return builder.sign(key, hashes.SHA256()), own


class TestProvidedCertificate:
    """One that cert-manager or the administrator makes: the Secret that the controller mounts has it."""

    async def test_its_end_and_its_authority_count_and_no_other(self, server: ApiServer) -> None:
        server.put(mounting(), secret(certificate(NOW - timedelta(days=3))), provided(LEAF))
        shown = await status(server)
        assert shown.problems == ()
        assert shown.certificate_expires == LEAF.not_valid_after_utc.strftime("%Y-%m-%d")

    async def test_who_has_to_renew_it_is_said(self, server: ApiServer) -> None:
        ending = certificate(NOW + timedelta(days=3))
        server.put(mounting(), provided(ending), *webhooks(ending))
        assert await problems(server) == [
            "the certificate of the webhooks ends in 3 days, and was not renewed; whoever provides Secret"
            " spiderpool/ours has to renew it"
        ]

    @pytest.mark.parametrize("is_there", [False, True])
    async def test_a_secret_that_is_missing_or_empty_needs_attention(self, server: ApiServer, is_there: bool) -> None:
        server.put(mounting(), *([provided()] if is_there else []))
        shown = await status(server)
        assert [each.text for each in shown.problems] == [
            "Secret spiderpool/ours has no tls.crt, the certificate of the webhooks: whoever provides it has to make it"
        ]
        assert [*shown.names()] == ["secret/ours"]

    async def test_one_that_an_intermediate_authority_has_signed_is_trusted(self, server: ApiServer) -> None:
        root_key = ec.generate_private_key(ec.SECP256R1())
        root = certificate(NOW + timedelta(days=300), root_key)
        between, between_key = signed(root, root_key, "between")
        leaf, _ = signed(between, between_key, "leaf")
        server.put(mounting(), provided(leaf, between), *webhooks(root))
        assert await problems(server) == []
        server.put(provided(leaf))
        assert "does not trust the certificate of the webhooks" in (await problems(server))[0]

    async def test_without_the_right_to_read_it_the_rest_is_shown(self, server: ApiServer) -> None:
        server.put(mounting())
        server.inject(Fault("get", plural="secrets", status=403))
        shown = await status(server)
        assert (shown.problems, shown.certificate_expires) == ((), None)


async def test_what_somebody_wants_needs_no_attention(server: ApiServer) -> None:
    server.put(pool("blue", 0, Condition("Ready", "False", "Disabled", "the pool is disabled")))
    assert await problems(server) == []


async def test_a_node_that_was_fenced_is_said_to_be(server: ApiServer) -> None:
    server.put(node("n3", "Unknown"), SpiderNode(metadata=ObjectMeta(name="n3"), spec=SpiderNodeSpec(None, "boot-1")))
    assert await problems(server) == [
        "node n3: its agent has not told yet what its pods hold; node n3 was fenced by an administrator"
    ]


async def test_an_empty_cluster_says_that_nothing_ever_led(server: ApiServer) -> None:
    async with ApiServer(*(kind.KIND for kind in KINDS)) as empty:
        shown = await status(empty)
    assert shown.namespace == "kube-system"
    assert "no spiderpool-controller has ever led" in shown.problems[0].text
    assert "no webhook is registered" in shown.problems[1].text


async def test_a_cluster_without_our_kinds_says_that_nothing_is_installed() -> None:
    """Also to an account that may read nothing but which kinds there are."""
    async with ApiServer(*(kind.KIND for kind in KINDS if not kind.KIND.group.startswith("spiderpool"))) as bare:
        bare.inject(Fault("*", times=100, status=403))
        said = await problems(bare)
    assert len(said) == 1
    assert said[0].startswith("Spiderpool is not installed: the cluster has no kinds of spiderpool.spidernet.io/")


async def test_a_namespace_without_daemons_says_so_to_those_who_may_not_read_leases(server: ApiServer) -> None:
    """The kinds stay when the chart is removed."""
    for plural in ("leases", "spidernodes", "nodes"):
        server.inject(Fault("list", plural=plural, times=100, status=403))
    assert await problems(server, "elsewhere") == [
        "Namespace elsewhere has no daemon of Spiderpool; if it is in another one, name it by -n"
    ]


async def test_whatever_may_not_be_read_is_left_out(server: ApiServer) -> None:
    server.inject(Fault("*", times=100, status=403))
    async with server.client() as client:
        cluster = Cluster(client, 5.0)
        shown = await read_status(cluster, None)
    assert shown.problems == ()
    said = printed(shown, "table", View())
    assert "not known" in said
    told = f"! {len(shown.unread)} kinds could not be read, so that nothing is known of what is wrong there: DaemonSet"
    assert told in " ".join(said.split())
    assert "Secret" in json.loads(printed(shown, "json", View()))["unread"]
    assert any("SpiderNode objects may not be read" in text for text in cluster.left_out)
