"""`spiderpoolctl bundle`: what is in the archive, what is not, and that it is whole or not there."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tarfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from click.testing import CliRunner

from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from spiderpool.api.apiextensions_v1 import CustomResourceDefinition
from spiderpool.api.applications import DaemonSet, Deployment
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.core_v1 import ConfigMap, Event, Namespace, Node, Secret, Service
from spiderpool.api.crd import KINDS
from spiderpool.api.daemon_pods import DaemonPod
from spiderpool.api.discovery_v1 import EndpointSlice
from spiderpool.api.meta import Object, ObjectMeta
from spiderpool.api.rbac_v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding
from spiderpool.cli import installation
from spiderpool.cli.bundle import contents as bundle
from spiderpool.cli.bundle.archive import written
from spiderpool.cli.bundle.contents import LOG_BYTES, MOST_AGENTS, BundlePart, chosen_pods, content_of, prepare
from spiderpool.cli.bundle.index import index
from spiderpool.cli.bundle.save import Wanted, save
from spiderpool.cli.connection import Cluster
from spiderpool.cli.doctor.diagnosis import Diagnosis
from spiderpool.cli.finding import Finding
from spiderpool.cli.main import cli
from spiderpool.errors import Refused
from tests.cli.doctor.snapshots import lease, pool
from tests.support.api_server import ApiServer, Fault
from tests.support.clients import answered_by
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

READ: tuple[type[Object], ...] = (
    *KINDS,
    MutatingWebhookConfiguration,
    ValidatingWebhookConfiguration,
    CustomResourceDefinition,
    DaemonSet,
    Deployment,
    Lease,
    ConfigMap,
    Event,
    Namespace,
    Node,
    Secret,
    Service,
    DaemonPod,
    EndpointSlice,
    ClusterRole,
    ClusterRoleBinding,
    Role,
    RoleBinding,
)
NOW = datetime.now(UTC)
HOME = "kube-system"
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: URL}}]
users: [{name: u, user: {token: t}}]
"""
CREDENTIAL = "s3cr3t-of-this-test"


def daemon_pod(name: str, component: str, node: str, *, ready: bool = True, restarts: int = 0) -> DaemonPod:
    labels = {"app.kubernetes.io/component": component}
    status = {
        "conditions": [{"type": "Ready", "status": str(ready)}],
        "containerStatuses": [{"name": "c", "restartCount": restarts}],
    }
    metadata = {"name": name, "namespace": HOME, "labels": labels}
    spec = {"nodeName": node, "containers": [{"name": "c"}]}
    return msgspec.convert({"metadata": metadata, "spec": spec, "status": status}, DaemonPod)


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    """An installation with credentials in settings, annotations and a Secret."""
    monkeypatch.setattr(installation, "SECOND_LOOK", 0.01)
    async with ApiServer(*(kind.KIND for kind in READ)) as server:
        settings = ConfigMap(metadata=ObjectMeta(name="spiderpool-conf", namespace=HOME))
        settings.data = {"conf.yml": f"enableIPv4: true\naccessKeySecret: {CREDENTIAL}\n"}
        other = ConfigMap(metadata=ObjectMeta(name="other", namespace=HOME), data={"conf.yml": "of somebody else"})
        secret = Secret(metadata=ObjectMeta(name="spiderpool-webhook-certs", namespace=HOME))
        secret.data = {"tls.key": CREDENTIAL.encode(), "tls.crt": b"no certificate"}
        noted = pool()
        noted.metadata.annotations = {"example.com/token": CREDENTIAL, "example.com/team": "network"}
        server.put(lease(), settings, other, secret, noted, daemon_pod("agent-1", "spiderpool-agent", "n1"))
        yield server


async def made(server: ApiServer, target: Path, node: str | None = None) -> dict[str, str]:
    """The files of an archive."""
    async with server.client() as client:
        entries = await save(Cluster(client, 5.0), Wanted(target, None, node, NOW))
    with tarfile.open(target) as tar:
        folder = target.name.removesuffix(".tar.gz")
        files = {each.name.removeprefix(f"{folder}/"): tar.extractfile(each) for each in tar.getmembers()}
        texts = {name: file.read().decode() for name, file in files.items() if file}
    assert [*texts] == [each.name for each in entries]
    return texts


async def test_it_has_objects_reports_and_an_index(server: ApiServer, tmp_path: Path) -> None:
    texts = await made(server, tmp_path / "b.tar.gz")
    (stored,) = map(json.loads, texts["objects/spiderippools.spiderpool.spidernet.io.jsonl"].splitlines())
    assert (stored["kind"], stored["spec"]["subnet"]) == ("SpiderIPPool", "10.0.0.0/24")
    assert stored["metadata"]["annotations"] == {"example.com/token": "REDACTED", "example.com/team": "network"}
    (settings,) = map(json.loads, texts["objects/configmaps.jsonl"].splitlines())
    assert settings["data"]["conf.yml"] == "enableIPv4: true\naccessKeySecret: REDACTED\n"
    assert texts["doctor.txt"].startswith("Spiderpool in kube-system: ")
    assert json.loads(texts["doctor.json"])["namespace"] == json.loads(texts["status.json"])["namespace"] == HOME
    page = texts["index.html"]
    for name in texts:
        assert f'<a href="{name}">' in page or name == "index.html"
    assert "<script" not in page


async def test_no_credential_is_in_it_and_no_secret_is_asked_for_but_its_certificate(
    server: ApiServer, tmp_path: Path
) -> None:
    target = tmp_path / "b.tar.gz"
    texts = await made(server, target)
    assert not [line for text in texts.values() for line in text.splitlines() if CREDENTIAL in line]
    assert "objects/secrets.jsonl" not in texts
    assert "secrets" not in {plural for plural, _ in server.list_queries}
    assert target.stat().st_mode & 0o777 == 0o600


async def test_what_may_not_be_read_is_said(server: ApiServer, tmp_path: Path) -> None:
    server.inject(Fault("list", plural="spiderservers", times=100, status=403))
    texts = await made(server, tmp_path / "b.tar.gz")
    assert texts["objects/spiderservers.spiderpool.spidernet.io.jsonl"] == ""
    assert "not read: injected status 403" in texts["index.html"]
    assert "SpiderServer objects may not be read" in texts["index.html"]


async def test_a_failed_read_costs_its_file_alone(server: ApiServer, tmp_path: Path) -> None:
    server.inject(Fault("list", plural="spiderips", status=500))
    texts = await made(server, tmp_path / "b.tar.gz")
    assert json.loads(texts["doctor.json"])["unread"] == ["SpiderIP"]
    assert "SpiderIP objects were not read" in texts["index.html"]


async def test_a_report_that_fails_is_left_out(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError(f"token={CREDENTIAL}")

    monkeypatch.setattr(bundle, "examine", broken)
    texts = await made(server, tmp_path / "b.tar.gz")
    assert "doctor has failed: ZeroDivisionError" in texts["index.html"]
    assert CREDENTIAL not in texts["index.html"]
    assert texts["status.txt"]


async def test_a_node_that_does_not_exist_is_refused(server: ApiServer, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="node nowhere does not exist"):
        await made(server, tmp_path / "b.tar.gz", node="nowhere")


async def test_a_kind_of_which_there_is_too_much_is_cut_after_an_object(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put(*(pool(f"p{number}") for number in range(9)))
    server.most_per_page = 2
    monkeypatch.setattr(bundle, "MOST_BYTES", 1500)
    texts = await made(server, tmp_path / "b.tar.gz")
    lines = texts["objects/spiderippools.spiderpool.spidernet.io.jsonl"].splitlines()
    assert 1 < len(lines) < 10
    assert all(json.loads(line)["kind"] == "SpiderIPPool" for line in lines)
    assert f"the first {len(lines)} objects only" in texts["index.html"]


async def test_whatever_ends_it_early_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with written(tmp_path / "b.tar.gz", NOW) as archive:
            archive.add("a", "text", "a")
            assert len([*tmp_path.iterdir()]) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [*tmp_path.iterdir()] == []


async def test_an_interrupt_ends_it_without_a_file(server: ApiServer, tmp_path: Path) -> None:
    server.inject(Fault("list", plural="spiderloadbalancergrants", delay=30.0))  # read when the file is begun
    config = tmp_path / "kubeconfig"
    config.write_text(KUBECONFIG.replace("URL", server.url))
    folder = tmp_path / "out"
    folder.mkdir()
    words = ("-m", "spiderpool.cli.main", "bundle", str(folder / "b.tar.gz"), "--kubeconfig", str(config))
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stderr=asyncio.subprocess.PIPE)

    async def begun() -> bool:
        return bool([*folder.iterdir()]) and server.has_no_faults

    await eventually(begun, timeout=60.0)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20.0):
        _, said = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert [*folder.iterdir()] == []


async def test_a_former_file_stays_until_the_new_one_is_whole(server: ApiServer, tmp_path: Path) -> None:
    target = tmp_path / "b.tar.gz"
    target.write_text("former")
    with pytest.raises(KeyboardInterrupt), written(target, NOW):
        raise KeyboardInterrupt
    assert target.read_text() == "former"
    await made(server, target)
    assert [each.name for each in tmp_path.iterdir()] == ["b.tar.gz"]


def test_a_file_that_exists_is_not_replaced_unasked(tmp_path: Path) -> None:
    target = tmp_path / "b.tar.gz"
    target.write_text("former")
    result = CliRunner().invoke(cli, ["bundle", str(target)])
    assert (result.exit_code, target.read_text()) == (1, "former")
    assert "exists; name another file, or replace it by --force" in result.stderr


async def test_a_folder_that_is_not_there_is_said(server: ApiServer, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(KUBECONFIG.replace("URL", server.url))
    words = ["bundle", str(tmp_path / "none" / "b.tar.gz"), "--kubeconfig", str(config)]
    result = await asyncio.to_thread(CliRunner().invoke, cli, words)
    assert result.exit_code == 1
    assert "none/b.tar.gz cannot be written: " in result.stderr


def diagnosed(*findings: Finding, node: str | None = None) -> Diagnosis:
    return Diagnosis(HOME, node, findings, ())


class TestLogs:
    """Whose logs are taken, and how much of them."""

    def test_agents_that_are_not_ready_or_have_findings_come_first(self) -> None:
        many = [daemon_pod(f"a{number:02}", "spiderpool-agent", f"n{number:02}") for number in range(40)]
        many[30] = daemon_pod("a30", "spiderpool-agent", "n30", ready=False)
        controller = daemon_pod("c", "spiderpool-controller", "n05")
        about = Finding("node-silent", "node/n35", "node n35: …", node="n35")
        chosen = [each.name for each in chosen_pods([*many, controller], diagnosed(about, node="n39"))]
        assert chosen[:5] == ["c", "a39", "a30", "a35", "a00"]
        assert len(chosen) == MOST_AGENTS + 1

    async def test_they_are_bounded_and_have_no_credentials(self) -> None:
        asked: list[dict[str, str]] = []

        async def answer(request: web.Request) -> web.Response:
            asked.append({"path": request.path} | dict(request.query))
            if request.query.get("previous"):
                return web.Response(text="it ended")
            return web.Response(text="x" * LOG_BYTES + f"\nsent Authorization: Bearer {CREDENTIAL}\n")

        pod = daemon_pod("agent-1", "spiderpool-agent", "n1", restarts=2)
        async with answered_by(answer) as client:
            parts = [*bundle.logs(Cluster(client, 5.0), [pod])]
            found = [await content_of(each) for each in parts]
        assert [each.name for each in parts] == ["logs/agent-1/c.log", "logs/agent-1/c.previous.log"]
        assert found[0].note == f"at most the last {LOG_BYTES} bytes"
        assert found[0].text.endswith("\nsent Authorization: REDACTED\n")
        assert found[1].text == "it ended"
        assert asked[0]["path"] == "/api/v1/namespaces/kube-system/pods/agent-1/log"
        assert asked[0]["container"] == "c"

    @pytest.mark.parametrize(
        ("width", "asked", "has_newest"),
        [(100, [20_000], True), (1000, [20_000, 10_000, 5_000], True), (10**6, 8, False)],
    )
    async def test_the_newest_lines_are_in_it_or_the_note_says_that_they_are_not(
        self, width: int, asked: list[int] | int, has_newest: bool
    ) -> None:
        lines = [f"{number:06} ".ljust(width - 1, "x") + "\n" for number in range(min(25_000, 3 * 10**7 // width))]
        questions: list[int] = []

        async def kubelet(request: web.Request) -> web.Response:
            """As the kubelet: it goes to the first of the last lines, and from there on for so many bytes."""
            questions.append(int(request.query["tailLines"]))
            return web.Response(text="".join(lines[-questions[-1] :])[: int(request.query["limitBytes"])])

        async with answered_by(kubelet) as client:
            (part,) = bundle.logs(Cluster(client, 5.0), [daemon_pod("agent-1", "spiderpool-agent", "n1")])
            found = await content_of(part)
        assert questions == asked if isinstance(asked, list) else len(questions) == asked
        assert (lines[-1] in found.text) is has_newest
        assert ("the newest lines are not in it" in found.note) is not has_newest
        assert len(found.text) <= LOG_BYTES

    async def test_one_of_many_short_lines_says_how_many_are_in_it(self) -> None:
        async def kubelet(request: web.Request) -> web.Response:
            return web.Response(text="x\n" * int(request.query["tailLines"]))

        async with answered_by(kubelet) as client:
            (part,) = bundle.logs(Cluster(client, 5.0), [daemon_pod("agent-1", "spiderpool-agent", "n1")])
            assert (await content_of(part)).note == "the last 20000 lines only"

    async def test_a_key_across_the_cut_goes(self) -> None:
        key = "-----BEGIN PRIVATE KEY-----\n" + f"{CREDENTIAL}\n" * 300 + "-----END PRIVATE KEY-----\n"

        async def kubelet(request: web.Request) -> web.Response:
            return web.Response(text="y\n" * 9 + key + "x" * (LOG_BYTES - 100) + "\n")

        async with answered_by(kubelet) as client:
            (part,) = bundle.logs(Cluster(client, 5.0), [daemon_pod("agent-1", "spiderpool-agent", "n1")])
            assert CREDENTIAL not in (await content_of(part)).text

    async def test_one_that_cannot_be_read_says_why(self, server: ApiServer) -> None:
        async with server.client() as client:
            ready = await prepare(Cluster(client, 5.0), None, None, NOW)
            (log,) = (each for each in ready.parts if each.name.startswith("logs/"))
            found = await content_of(BundlePart(log.name, log.description, log.read))
        assert isinstance(found.text, str)


def test_the_page_escapes_what_the_cluster_says(tmp_path: Path) -> None:
    evil = Finding("pod-refused", "pod/x", "pod <script>alert(1)</script> gets no address", evidence=("<b>",))
    with written(tmp_path / "b.tar.gz", NOW) as archive:
        archive.add("logs/<i>.log", "a & b", "text")
        page = index(archive, diagnosed(evil), ["v<1>"], ["<u>"])
    for tag in ("<script", "<b>", "<i>", "<u>", "v<1>"):
        assert tag not in page
    assert "default-src &#x27;none&#x27;" in page
