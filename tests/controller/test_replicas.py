"""Several controllers: one leads, all admit, and nobody notices when one goes or certificates change."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from spiderpool.controller.installation import AGAIN
from spiderpool.errors import SpiderpoolError
from spiderpool_lab import chart
from spiderpool_lab.binaries import find
from spiderpool_lab.certificates import Authority
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.ports import free_ports
from tests.conftest import own_control_plane
from tests.controller.conftest import CONFIG, REGISTRATIONS, Running, refuses, start_controller, unregister, wait
from tests.support.certificate_folder import place
from tests.support.job_account import job_account
from tests.support.relay import Relay

pytestmark = pytest.mark.control_plane

SECRET = ("secret", "spiderpool-webhook-certs", "-n", "kube-system")
MANIFEST = chart.template("controller-webhooks.yaml")

POOL = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {{name: {name}}}
spec: {{subnet: {subnet}, ips: [{ips}]}}
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own: webhooks are registered once for a cluster."""
    with own_control_plane(tmp_path_factory.mktemp("replicas")) as plane:
        yield plane


class Replicas:
    """Controllers behind one address; which of them answers is of no account."""

    def __init__(self, plane: ControlPlane, directory: Path, relay: Relay, **variables: str) -> None:
        self.plane = plane
        self.running: list[Running] = []
        self._directory = directory
        self.relay = relay
        self.variables = variables

    def start(self, *, config: str = CONFIG) -> Running:
        """Start one more, and wait until it is ready."""
        (port,), number = free_ports(1), len(self.running)
        url = f"https://127.0.0.1:{self.relay.port}"
        started = start_controller(
            self.plane,
            self._directory / f"replica-{number}",
            port=port,
            config=config,
            SPIDERPOOL_WEBHOOK_URL=url,
            SPIDERPOOL_POD_NAME=f"replica-{number}",
            **self.variables,
        )
        self.running.append(started)
        self.relay.backends.append(port)
        wait(started, lambda: started.is_ready, "not ready")
        wait(started, lambda: refuses(self.plane), "webhooks not in use")
        return started

    def leaders(self) -> list[Running]:
        """Those that say that they lead."""
        return [each for each in self.running if each.is_leading]

    def holder(self) -> str | None:
        """Who holds the Lease."""
        spec = get(self.plane, "lease", "spiderpool-controller-leases", "-n", "kube-system")["spec"]
        holder: str | None = spec.get("holderIdentity")
        return holder


@pytest.fixture
def replicas(plane: ControlPlane, tmp_path: Path) -> Iterator[Replicas]:
    """No controller yet; whatever is started is ended, and its traces are removed."""
    yield from _replicas(plane, tmp_path)


@pytest.fixture
def short_lived(plane: ControlPlane, tmp_path: Path) -> Iterator[Replicas]:
    """As above, with certificates that live for seconds."""
    lives = {"SPIDERPOOL_WEBHOOK_CERTIFICATE_LIFE_SECONDS": "10", "SPIDERPOOL_WEBHOOK_AUTHORITY_LIFE_SECONDS": "24"}
    yield from _replicas(plane, tmp_path, **lives)


def _replicas(plane: ControlPlane, directory: Path, **variables: str) -> Iterator[Replicas]:
    with ExitStack() as stack:
        replicas = Replicas(plane, directory, stack.enter_context(Relay()), **variables)
        try:
            yield replicas
        finally:
            for each in replicas.running:
                each.kill()
            plane.kubectl("delete", *SECRET, "--ignore-not-found")
            plane.apply(MANIFEST)
            unregister(plane)
            plane.kubectl("delete", "lease", "spiderpool-controller-leases", "-n", "kube-system", "--ignore-not-found")
            _remove_pools(plane)


def _remove_pools(plane: ControlPlane) -> None:
    """Without a controller nobody takes the finalizer away."""
    for name in plane.kubectl("get", "spiderippools,spidersubnets", "-o", "name").split():
        plane.kubectl("patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        plane.kubectl("delete", name, "--ignore-not-found")


def get(plane: ControlPlane, *words: str) -> Any:
    return json.loads(plane.kubectl("get", *words, "-o", "json"))


def admits(plane: ControlPlane, name: str, subnet: str) -> bool:
    """Whether a right pool is made, with its defaults."""
    plane.kubectl("apply", "-f", "-", input=POOL.format(name=name, subnet=subnet, ips=subnet.replace("0/24", "1")))
    return bool(get(plane, "spiderippool", name)["spec"]["ipVersion"] == 4)


def counts(plane: ControlPlane, name: str) -> bool:
    """Whether the controller keeps the status of a pool."""
    return bool(get(plane, "spiderippool", name).get("status", {}).get("totalIPCount") == 1)


class TestLeader:
    def test_a_leader_that_is_killed_is_replaced(self, replicas: Replicas) -> None:
        plane, first, second = replicas.plane, replicas.start(), replicas.start()
        assert replicas.leaders() == [first]
        assert second.probe("liveness") == (200, "standing by")
        assert admits(plane, "before", "10.1.0.0/24")
        wait(second, lambda: counts(plane, "before"), "no status")

        first.kill()
        assert admits(plane, "between", "10.2.0.0/24")  # by the other one, which does not lead yet
        assert refuses(plane)
        wait(second, lambda: second.is_leading, "no leader")
        wait(second, lambda: counts(plane, "between"), "no status")
        assert replicas.holder() == "replica-1"

    def test_an_orderly_stop_gives_the_lease_back(self, replicas: Replicas) -> None:
        first, second = replicas.start(), replicas.start()
        first.stop()
        assert "lease given back" in first.log.read_text()
        wait(second, lambda: second.is_leading, "no leader")
        wait(second, lambda: second.is_ready, "not ready")
        assert admits(replicas.plane, "after", "10.3.0.0/24")
        wait(second, lambda: counts(replicas.plane, "after"), "no status")

    @pytest.mark.full
    def test_one_that_stands_by_may_go_unnoticed(self, replicas: Replicas) -> None:
        first, second = replicas.start(), replicas.start()
        second.kill()
        assert admits(replicas.plane, "alone", "10.4.0.0/24")
        assert replicas.leaders() == [first]
        third = replicas.start()
        assert replicas.leaders() == [first]
        assert third.is_ready


def authorities(plane: ControlPlane) -> set[bytes]:
    """The authorities by which the API server checks us, as each registration has them."""
    found = {
        base64.b64decode(webhook["clientConfig"]["caBundle"])
        for kind in REGISTRATIONS
        for webhook in get(plane, kind)["webhooks"]
    }
    return found


class TestCertificates:
    @pytest.mark.full
    @pytest.mark.timeout(300)
    def test_admission_never_fails_while_they_rotate(self, short_lived: Replicas) -> None:
        plane = short_lived.plane
        first, second = short_lived.start(), short_lived.start()
        command = [str(find("kubectl")), "--kubeconfig", str(plane.admin_kubeconfig), "apply", "-f", "-"]
        leaves: set[int] = set()
        bundles: set[bytes] = set()
        applied = 0

        def has_rotated() -> bool:
            nonlocal applied
            for subnet, ips in (("10.5.0.0/24", f"10.5.0.{applied % 200 + 1}"), ("10.5.0.0/24", "10.6.0.1")):
                text = POOL.format(name="rotating", subnet=subnet, ips=ips)
                done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=20, check=False)
                refused = "lies outside the subnet" in done.stderr
                assert (done.returncode == 0) is not refused, done.stderr
                assert refused == (ips == "10.6.0.1"), done.stderr
            applied += 1
            leaves.add(x509.load_pem_x509_certificate(_data(plane)["tls.crt"]).serial_number)
            bundles.update(authorities(plane))
            chains = [x509.load_pem_x509_certificates(pem) for pem in bundles]
            roots = {root.serial_number for chain in chains for root in chain}
            overlaps = any(len(chain) == 2 for chain in chains)
            return applied > 20 and len(leaves) >= 4 and len(roots) >= 3 and overlaps

        wait(first, has_rotated, "leaves and roots rotate, and two roots overlap", 150)
        assert second.process.poll() is None

    @pytest.mark.full
    def test_all_replicas_share_them_and_a_restart_keeps_them(self, replicas: Replicas) -> None:
        plane, first = replicas.plane, replicas.start()
        before = _data(plane)
        assert authorities(plane) == {before["ca.crt"]}
        replicas.start()
        first.kill()
        replicas.start()
        assert _data(plane) == before

    @pytest.mark.full
    def test_garbage_is_replaced_at_the_start(self, replicas: Replicas) -> None:
        plane = replicas.plane
        plane.kubectl("patch", *SECRET, "--type=merge", "-p", '{"stringData":{"tls.crt":"x","foo":"y"}}')
        replicas.start()
        data = _data(plane)
        assert set(data) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
        assert admits(plane, "garbage", "10.7.0.0/24")

    def test_a_secret_that_cannot_be_written_is_told(self, replicas: Replicas, tmp_path: Path) -> None:
        plane = replicas.plane
        plane.kubectl("patch", *SECRET, "--type=merge", "-p", '{"immutable":true}')
        running = start_controller(plane, tmp_path / "immutable")
        replicas.running.append(running)
        reason = f"Secret kube-system/spiderpool-webhook-certs cannot be used: delete it and {AGAIN}"
        wait(running, lambda: running.probe("readiness")[1].startswith(reason), "the reason")
        plane.kubectl("delete", *SECRET)
        plane.apply(MANIFEST)
        wait(running, lambda: running.is_ready, "not ready")
        assert admits(plane, "immutable", "10.7.1.0/24")

    def test_one_that_somebody_else_makes_and_renews(self, replicas: Replicas, tmp_path: Path) -> None:
        plane, folder = replicas.plane, tmp_path / "certificate"
        folder.mkdir()
        first, second = Authority.create("first"), Authority.create("second")
        place(folder, first, first.server(["127.0.0.1"]))
        running = start_controller(plane, tmp_path / "provided", SPIDERPOOL_WEBHOOK_CERTIFICATE_FOLDER=str(folder))
        replicas.running.append(running)
        wait(running, lambda: running.is_ready, "not ready")
        assert admits(plane, "provided", "10.7.2.0/24")
        place(folder, first, first.server(["127.0.0.1"]))
        wait(running, lambda: running.log.read_text().count("certificate loaded") == 2, "not loaded again")
        assert admits(plane, "renewed", "10.7.3.0/24")
        place(folder, second, second.server(["127.0.0.1"]))
        wait(running, lambda: second.pair.certificate in _trusted(plane), "not trusted before it serves")
        assert first.pair.certificate in _trusted(plane), "which serves on"
        assert admits(plane, "announced", "10.7.4.0/24")
        assert not _data(plane), "the Secret of our own certificates stays empty"

    def test_one_that_begins_with_another_authority_waits_for_the_leader(
        self, replicas: Replicas, tmp_path: Path
    ) -> None:
        """Its files are newer than the leader's, as those of a pod that has just been made."""
        plane, files = replicas.plane, (tmp_path / "old", tmp_path / "new")
        first, second = Authority.create("first"), Authority.create("second")
        for folder, authority in zip(files, (first, second), strict=True):
            folder.mkdir()
            place(folder, authority, authority.server(["127.0.0.1"]))
        replicas.variables = {"SPIDERPOOL_WEBHOOK_CERTIFICATE_FOLDER": str(files[0])}
        leader = replicas.start()
        standby = start_controller(
            plane,
            tmp_path / "standby",
            SPIDERPOOL_WEBHOOK_CERTIFICATE_FOLDER=str(files[1]),
            SPIDERPOOL_WEBHOOK_URL=f"https://127.0.0.1:{replicas.relay.port}",
            SPIDERPOOL_POD_NAME="standby",
        )
        replicas.running.append(standby)
        reason = "the webhook configurations spiderpool-controller do not trust its certificate yet"
        wait(standby, lambda: standby.probe("readiness")[1].startswith(reason), "the reason")
        place(files[0], second, second.server(["127.0.0.1"]))
        wait(leader, lambda: second.pair.certificate in _trusted(plane), "not registered")
        wait(standby, lambda: standby.is_ready, "not ready")

    def test_what_is_damaged_or_deleted_while_we_run_is_restored(self, replicas: Replicas) -> None:
        plane, running = replicas.plane, replicas.start()
        before = _data(plane)
        plane.kubectl("patch", *SECRET, "--type=merge", "-p", '{"data":{"tls.key":"AAAA"}}')
        wait(running, lambda: _data(plane) == before, "not restored")
        plane.kubectl("delete", *SECRET)
        wait(running, lambda: f"Secret kube-system/{SECRET[1]} does not exist" in running.log.read_text(), "not told")
        assert running.is_ready, "it serves with what it has"
        plane.apply(MANIFEST)
        wait(running, lambda: _data(plane) == before, "not restored")
        assert admits(plane, "restored", "10.8.0.0/24")

    def test_what_the_installation_has_not_made_is_told_and_waited_for(
        self, replicas: Replicas, tmp_path: Path
    ) -> None:
        plane = replicas.plane
        plane.kubectl("delete", *SECRET)
        plane.kubectl("delete", *REGISTRATIONS)
        running = start_controller(plane, tmp_path / "alone")
        replicas.running.append(running)
        remedy = f"does not exist: {AGAIN}"
        wait(running, lambda: running.is_leading, "not leading")
        secret = (503, f"Secret kube-system/spiderpool-webhook-certs {remedy}")
        wait(running, lambda: running.probe("readiness") == secret, "the reason")
        plane.apply(_only("Secret"))
        webhooks = (
            503,
            "leading, the webhooks are not registered: "
            f"MutatingWebhookConfiguration spiderpool-controller {remedy}; "
            f"ValidatingWebhookConfiguration spiderpool-controller {remedy}",
        )
        wait(running, lambda: running.probe("readiness") == webhooks, "the reason")
        plane.apply(MANIFEST)
        wait(running, lambda: running.is_ready, "not ready")
        assert admits(plane, "late", "10.8.1.0/24")

    def test_an_upgrade_of_the_chart_keeps_what_was_written(self, replicas: Replicas) -> None:
        plane, _ = replicas.plane, replicas.start()
        before = [_data(plane), *(get(plane, kind)["webhooks"] for kind in REGISTRATIONS)]
        plane.apply(MANIFEST)
        plane.kubectl("apply", "--server-side", "--field-manager=helm", "--force-conflicts", "-f", "-", input=MANIFEST)
        assert [_data(plane), *(get(plane, kind)["webhooks"] for kind in REGISTRATIONS)] == before

    def test_an_edited_registration_is_put_right(self, replicas: Replicas) -> None:
        plane, running = replicas.plane, replicas.start()
        before = {kind: get(plane, kind)["webhooks"] for kind in REGISTRATIONS}

        def is_right() -> bool:
            try:
                return all(get(plane, kind)["webhooks"] == webhooks for kind, webhooks in before.items())
            except SpiderpoolError:
                return False

        edits = (
            '[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":""}]',
            '[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]',
            '[{"op":"remove","path":"/webhooks/0"}]',
            '[{"op":"replace","path":"/webhooks/0/namespaceSelector","value":{"matchLabels":{"a":"b"}}}]',
        )
        for kind in REGISTRATIONS:
            for edit in edits:
                plane.kubectl("patch", kind, "--type=json", "-p", edit)
                wait(running, is_right, f"not put right: {edit}")
        plane.kubectl("delete", *REGISTRATIONS)
        plane.apply(MANIFEST)
        wait(running, is_right, "not filled again")


def _only(kind: str) -> str:
    """The objects of a kind in the chart's file, as YAML."""
    return next(text for text in MANIFEST.split("---\n") if f"\nkind: {kind}\n" in text)


def _trusted(plane: ControlPlane) -> bytes:
    """The authorities (PEM) by which the API server calls our webhooks."""
    path = "{.webhooks[0].clientConfig.caBundle}"
    return base64.b64decode(
        plane.kubectl("get", "mutatingwebhookconfiguration", "spiderpool-controller", "-o", f"jsonpath={path}")
    )


def _data(plane: ControlPlane) -> dict[str, bytes]:
    try:
        data = get(plane, *SECRET).get("data", {})
    except SpiderpoolError:
        return {}
    return {key: base64.b64decode(value) for key, value in data.items()}


class TestPodsAndUs:
    POD = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default}\nspec: {containers: [{name: c, image: i}]}"
    )

    def test_pods_are_admitted_when_no_replica_lives(self, replicas: Replicas) -> None:
        plane, only = replicas.plane, replicas.start()
        plane.kubectl("create", "--dry-run=server", "-f", "-", input=self.POD)
        only.kill()
        plane.kubectl("create", "--dry-run=server", "-f", "-", input=self.POD)
        with pytest.raises(SpiderpoolError, match="failed calling webhook"):
            admits(plane, "nobody", "10.9.0.0/24")

    def test_clean_takes_back_what_would_be_in_the_way(self, replicas: Replicas, tmp_path: Path) -> None:
        plane, only = replicas.plane, replicas.start()
        only.stop()
        job = str(job_account(plane, "cleanup.yaml", "spiderpool-cleanup"))
        cleaning = start_controller(plane, tmp_path / "clean", command="clean", KUBECONFIG=job)
        assert cleaning.process.wait(timeout=20) == 0, cleaning.log.read_text()
        assert [get(plane, kind).get("webhooks", []) for kind in REGISTRATIONS] == [[], []]
        assert _data(plane) == {}, "no key is left"
        with pytest.raises(SpiderpoolError, match="not found"):
            plane.kubectl("get", "lease/spiderpool-controller-leases", "-n", "kube-system")
        plane.kubectl("create", "-f", "-", input=POOL.format(name="free", subnet="10.9.1.0/24", ips="10.9.1.1"))
        again = start_controller(plane, tmp_path / "again", command="clean", KUBECONFIG=job)
        assert again.process.wait(timeout=20) == 0, again.log.read_text()


class TestRemoval:
    CONFIG = "enableValidatingResourcesDeletedWebhook: true\n"
    HOLDER = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIP
metadata: {name: 10.10.0.1, labels: {ipam.spidernet.io/ippool: used}}
spec: {address: 10.10.0.1/24, pool: used, node: node-1, namespace: default, pod: web, podUID: u, interface: eth0}
"""

    def test_a_used_pool_and_its_subnet_refuse_where_that_is_asked_for(self, replicas: Replicas) -> None:
        plane = replicas.plane
        replicas.variables["SPIDERPOOL_GC_IP_ENABLED"] = "false"
        running = replicas.start(config=self.CONFIG)
        parent = POOL.format(name="parent", subnet="10.10.0.0/24", ips="10.10.0.1")
        plane.kubectl("apply", "-f", "-", input=parent.replace("SpiderIPPool", "SpiderSubnet"))
        assert admits(plane, "used", "10.10.0.0/24")
        plane.kubectl("create", "-f", "-", input=self.HOLDER)
        with pytest.raises(SpiderpoolError, match=r"its addresses are in use: 10\.10\.0\.1 \(pod default/web\)"):
            plane.kubectl("delete", "spiderippool", "used")
        with pytest.raises(SpiderpoolError, match="its addresses are in pools: used"):
            plane.kubectl("delete", "spidersubnet", "parent")
        plane.kubectl("delete", "spiderip", "10.10.0.1")
        plane.kubectl("delete", "spiderippool", "used", timeout=20)
        wait(running, lambda: "used" not in plane.kubectl("get", "spiderippools", "-o", "name"), "not deleted")
        plane.kubectl("delete", "spidersubnet", "parent", "--wait=false")
