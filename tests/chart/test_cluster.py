"""The chart in a cluster: a real API server, without nodes, so its Jobs do not run; what they do is called here."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from spiderpool.cli.main import cli
from spiderpool.controller.main import clean
from spiderpool.errors import BadConfig, SpiderpoolError
from spiderpool.settings import SettingsSource, controller_settings
from spiderpool_lab import chart
from spiderpool_lab.binaries import HELM, find, provide
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.processes import Processes
from tests.chart.combinations import CLOUD, COMBINATIONS, WALKTHROUGH
from tests.support.eventually import wait_until
from tests.support.job_account import job_account

pytestmark = pytest.mark.control_plane

ROOT = chart.CHART.parents[1]
NAMESPACE = "net"
SECRET = ("secret", "spiderpool-webhook-certs", "--namespace", NAMESPACE)
REGISTRATION = ("validatingwebhookconfiguration", "spiderpool-controller")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of its own, in which nothing of ours is installed."""
    directory = tmp_path_factory.mktemp("installation")
    plane = ControlPlane(directory, Processes(directory / "processes"), dual_stack=True)
    plane.start()
    try:
        yield plane
    finally:
        plane.stop()


class Installation:
    """helm on one cluster."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    def helm(self, *arguments: str | Path, namespace: str = NAMESPACE) -> str:
        config = ("--kubeconfig", self.plane.admin_kubeconfig, "--namespace", namespace)
        return chart.helm(*arguments, *config)

    def install(self, *values: str) -> None:
        self.helm("install", "spiderpool", chart.CHART, "--no-hooks", "--create-namespace", *flags(*values))

    def object(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.plane.kubectl("get", *words, "-o", "json"))
        return found


@pytest.fixture
def installation(plane: ControlPlane) -> Iterator[Installation]:
    installed = Installation(plane)
    yield installed
    installed.helm("uninstall", "spiderpool", "--no-hooks", "--ignore-not-found")


def upgrade_option() -> str:
    """The option about values with which the documentation upgrades."""
    page = (ROOT / "docs/usage/install.md").read_text()
    return page.partition("\n## Upgrade\n")[2].split("\n")[1].split()[-1]


def flags(*values: str) -> list[str]:
    return [word for value in values for word in ("--set", value)]


class TestLife:
    def test_an_upgrade_and_a_rollback_keep_what_the_controller_has_written(self, installation: Installation) -> None:
        installation.install(*WALKTHROUGH)
        key = {"data": {"tls.key": "a2V5"}}
        installation.plane.kubectl("patch", *SECRET, "--type=merge", "--patch", json.dumps(key))
        written = {"webhooks": [webhook("spiderippool.spiderpool.spidernet.io")]}
        installation.plane.kubectl("patch", *REGISTRATION, "--type=merge", "--patch", json.dumps(written))
        before = installation.object(*SECRET)["data"], installation.object(*REGISTRATION)["webhooks"]
        assert before[0] == key["data"]
        steps: tuple[tuple[str | Path, ...], ...] = (
            ("upgrade", "spiderpool", chart.CHART, upgrade_option(), *flags("spiderpoolController.replicas=2")),
            ("rollback", "spiderpool", "1"),
        )
        for step in steps:
            installation.helm(*step, "--no-hooks")
            assert (installation.object(*SECRET)["data"], installation.object(*REGISTRATION)["webhooks"]) == before

    def test_an_upgrade_takes_the_defaults_of_values_that_the_former_chart_did_not_have(
        self, installation: Installation, tmp_path: Path
    ) -> None:
        former = tmp_path / "spiderpool"
        shutil.copytree(chart.CHART, former)
        values = yaml.safe_load((former / "values.yaml").read_text())
        del values["spiderpoolController"]["cleanup"]
        (former / "values.yaml").write_text(yaml.safe_dump(values))
        (former / "templates" / "cleanup.yaml").unlink()
        installation.helm("install", "spiderpool", former, "--no-hooks", "--create-namespace", *flags(*WALKTHROUGH))
        installation.helm("upgrade", "spiderpool", chart.CHART, "--no-hooks", upgrade_option())
        kept: dict[str, Any] = json.loads(installation.helm("get", "values", "spiderpool", "-o", "json"))
        assert kept["ipam"] == {"enableStatefulSet": False}

    def test_what_was_deleted_is_made_again_by_the_same_command(self, installation: Installation) -> None:
        installation.install()
        for each in (SECRET, REGISTRATION):
            installation.plane.kubectl("delete", *each)
        installation.helm("upgrade", "spiderpool", chart.CHART, upgrade_option(), "--no-hooks")
        assert installation.object(*SECRET)["type"] == "Opaque"
        assert "webhooks" not in installation.object(*REGISTRATION)

    def test_a_second_release_is_refused_with_the_name_of_the_first(self, installation: Installation) -> None:
        installation.install()
        told = "Spiderpool is installed in this cluster already, as release spiderpool in Namespace net"
        for name, namespace in (("spiderpool", "kube-system"), ("other", NAMESPACE)):
            with pytest.raises(BadConfig, match=told):
                installation.helm("install", name, chart.CHART, "--no-hooks", namespace=namespace)
            with pytest.raises(BadConfig, match=told):
                installation.helm("install", name, chart.CHART, "--dry-run=server", namespace=namespace)

    def test_an_agent_of_another_kind_of_installation_is_refused(self, installation: Installation) -> None:
        installation.plane.kubectl("create", "namespace", "other")
        installation.plane.apply(FOREIGN_AGENT)
        with pytest.raises(BadConfig, match="spiderpool-agent in Namespace other is not of this chart: its pods"):
            installation.helm("install", "spiderpool", chart.CHART, "--no-hooks", namespace="other")
        installation.plane.kubectl("delete", "namespace", "other", "--wait=false")

    def test_in_another_namespace_roles_and_policies_are_those_of_its_accounts(
        self, installation: Installation
    ) -> None:
        installation.install(*CLOUD)
        installation.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        installation.plane.apply(RECORD)

        def deleted(account: str) -> str:
            user = f"--as=system:serviceaccount:{account}"
            try:
                return installation.plane.kubectl("delete", "spiderip", "10.9.0.9", "--dry-run=server", user)
            except SpiderpoolError as error:
                return error.message

        def is_enforced() -> bool:
            return "the token of spiderpool-agent is bound to no pod" in deleted(f"{NAMESPACE}:spiderpool-agent")

        wait_until(is_enforced, "the policy of agents", timeout=30.0)
        assert "deleted" in deleted(f"{NAMESPACE}:spiderpool-controller")
        assert "forbidden" in deleted("kube-system:spiderpool-controller"), "another account of that name"

    def test_what_an_upgrade_leaves_as_it_is_is_said(self, installation: Installation) -> None:
        installation.install()
        installation.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        installation.plane.apply(COORDINATOR)
        command = ("upgrade", "spiderpool", chart.CHART, "--no-hooks", "--dry-run=server")
        notes = installation.helm(*command, *flags("coordinator.mode=underlay")).partition("NOTES:")[2]
        assert 'mode: "overlay" (coordinator.mode: "underlay")' in notes
        assert "left as it is" not in installation.helm(*command, *flags("coordinator.mode=overlay"))
        installation.plane.kubectl("delete", "spidercoordinator", "default")

    def test_a_network_that_waits_to_be_filled_is_said_once_networks_are_discovered(
        self, installation: Installation
    ) -> None:
        values = flags("multus.multusCNI.defaultCniCRName=ipvlan-eth0")
        installation.install("multus.multusCNI.defaultCniCRName=ipvlan-eth0")
        installation.plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        installation.plane.apply(EMPTY_NETWORK)
        command: list[str | Path] = ["upgrade", "spiderpool", chart.CHART, "--no-hooks", "--dry-run=server", *values]
        remedy = f"kubectl --namespace {NAMESPACE} delete spidermultusconfig ipvlan-eth0"
        assert remedy in installation.helm(*command, *flags("cloud.provider=alibaba"))
        assert remedy not in installation.helm(*command)
        installation.plane.kubectl("--namespace", NAMESPACE, "delete", "spidermultusconfig", "ipvlan-eth0")
        assert remedy not in installation.helm(*command, *flags("cloud.provider=alibaba"))

    def test_nothing_but_custom_resources_stays(self, installation: Installation) -> None:
        before = everything(installation.plane)
        installation.install(*CLOUD)
        assert everything(installation.plane) > before
        installation.helm("uninstall", "spiderpool", "--no-hooks", "--wait")
        left = everything(installation.plane) - before
        assert {each for each in left if not each.startswith(("customresourcedefinition", "namespace/net"))} == set()

    def test_policies_that_were_applied_first_hold_before_there_is_an_account_and_go_with_the_release(
        self, installation: Installation, tmp_path: Path
    ) -> None:
        plane, namespace = installation.plane, chart.NAMESPACE
        documented(plane, "security.md", "    helm template spiderpool charts/spiderpool", tmp_path)
        before = policies(plane)
        assert "validatingadmissionpolicybinding/spiderpool-agent-spiderips" in before
        attempt = (
            "create",
            "--dry-run=server",
            "-f",
            "-",
            "--as",
            f"system:serviceaccount:{namespace}:spiderpool-agent",
        )

        def is_enforced() -> bool:
            try:
                plane.kubectl(*attempt, "--as-group=system:masters", input=AGENTS_EVENT)
            except SpiderpoolError as error:
                return "is bound to no pod of a node" in error.message
            return False

        wait_until(is_enforced, "what agents write is bound", timeout=30.0)
        installation.helm("install", "spiderpool", chart.CHART, "--no-hooks", "--take-ownership", namespace=namespace)
        assert policies(plane) == before
        installation.helm("uninstall", "spiderpool", "--no-hooks", "--wait", namespace=namespace)
        assert policies(plane) == set()

    def test_plain_manifests_that_were_applied_before_become_the_releases(self, installation: Installation) -> None:
        plane, namespace = installation.plane, chart.NAMESPACE
        manifests = chart.templates(*WALKTHROUGH)
        for name, text in manifests.items():
            if chart.WITHOUT_DAEMONS.fullmatch(name):
                plane.kubectl("apply", "-f", "-", input=text)
        page = (ROOT / "docs/usage/install.md").read_text()
        (command,) = (line.split() for line in page.splitlines() if line.startswith("    helm ") and "--force" in line)
        assert command[:4] == ["helm", "install", "spiderpool", "charts/spiderpool"]
        options = [word for word in command[4:] if word not in ("--namespace", namespace)]
        before = policies(plane)
        installation.helm("install", "spiderpool", chart.CHART, "--no-hooks", *options, namespace=namespace)
        installation.helm("uninstall", "spiderpool", "--no-hooks", "--wait", namespace=namespace)
        assert before
        assert policies(plane) == set()

    def test_services_that_nobody_could_delete_any_more_are_said(
        self, installation: Installation, tmp_path: Path
    ) -> None:
        installation.install(*CLOUD)
        plane = installation.plane
        plane.apply(SERVICE)
        try:
            command = ("upgrade", "spiderpool", chart.CHART, upgrade_option(), "--no-hooks", "--dry-run=server")
            for off in ("cloud.enabled=false", "cloud.loadBalancers.enabled=false"):
                assert "\n  default/balanced\n" in installation.helm(*command, *flags(off)).partition("NOTES:")[2]
            assert "default/balanced" not in installation.helm(*command)
            listed = documented(plane, "usage/load-balancers.md", "    kubectl get services -A -o custom", tmp_path)
            assert "balanced" in listed
        finally:
            plane.kubectl("patch", "service", "balanced", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
            plane.kubectl("delete", "service", "balanced")

    def test_an_installation_that_was_refused_is_repaired_by_the_same_command(self, installation: Installation) -> None:
        with pytest.raises(BadConfig, match="does not match pattern"):
            installation.install("cloud.provider=aws")
        installation.install("cloud.provider=alibaba")


@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_api_server_takes_every_object(plane: ControlPlane, name: str) -> None:
    made = chart.templates(*COMBINATIONS[name])
    ours = [each for text in made.values() for each in chart.documents(text) if "monitoring" not in each["apiVersion"]]
    new = {json.dumps(each): each for each in ours if json.dumps(each) not in TAKEN}
    if new:
        plane.kubectl("apply", "--dry-run=server", "-f", "-", input=yaml.safe_dump_all(new.values()))
    TAKEN.update(new)


TAKEN: set[str] = set()
"""What the API server has taken already: most objects are the same in many combinations."""
LEASE = "{{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {{name: {}, namespace: kube-system}}}}"
FOREIGN_AGENT = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: spiderpool-agent, namespace: other}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: agent, image: agent}]}
"""
EMPTY_NETWORK = f"""
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {{name: ipvlan-eth0, namespace: {NAMESPACE}}}
spec: {{cniType: custom, enableCoordinator: true}}
"""
COORDINATOR = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderCoordinator
metadata: {name: default}
spec: {mode: overlay}
"""
HELD = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: left, finalizers: [spiderpool.spidernet.io/in-use]}
spec: {subnet: 10.9.0.0/16, ips: [10.9.0.1-10.9.0.9]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderSubnet
metadata: {name: left, finalizers: [spiderpool.spidernet.io/in-use]}
spec: {subnet: 10.9.0.0/16, ips: [10.9.0.1-10.9.0.9]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderCoordinator
metadata: {name: left, finalizers: [spiderpool.spidernet.io]}
spec: {mode: overlay}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: default, finalizers: [service.k8s.alibaba/nlb]}
spec: {ports: [{port: 80}]}
"""
AGENTS_EVENT = """
apiVersion: v1
kind: Event
metadata: {name: of-an-agent, namespace: default}
involvedObject: {kind: Pod, namespace: default, name: any}
reason: Any
"""
RECORD = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIP
metadata: {name: 10.9.0.9}
spec: {address: 10.9.0.9/16, pool: any, node: none, namespace: default, pod: none, podUID: u, interface: eth0}
"""


async def test_the_documented_command_removes_what_a_removal_leaves(installation: Installation, tmp_path: Path) -> None:
    """Once the Job after the removal has taken our finalizers."""
    installation.install()
    plane = installation.plane
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    plane.apply(HELD)
    installation.helm("uninstall", "spiderpool", "--no-hooks", "--wait")
    await clean_as_the_job(plane, {})
    documented(plane, "usage/install.md", "    kubectl get customresourcedefinitions", tmp_path)
    definitions = plane.kubectl("get", "customresourcedefinitions", "-o", "name")
    assert "spiderpool.spidernet.io" not in definitions
    assert "network-attachment-definitions" in definitions


def documented(plane: ControlPlane, page: str, beginning: str, home: Path) -> str:
    """What the commands of a page print that begin so."""
    text = (ROOT / "docs" / page).read_text()
    commands = textwrap.dedent(text[text.index(beginning) :].partition("\n\n")[0])
    (helm,) = provide([HELM])
    path = f"{Path(find('kubectl')).parent}:{Path(helm.path).parent}:/usr/bin:/bin"
    env = {"PATH": path, "KUBECONFIG": str(plane.admin_kubeconfig), "HOME": str(home)}
    words = ["sh", "-ec", commands]
    return subprocess.run(words, cwd=ROOT, env=env, timeout=60, check=True, stdout=subprocess.PIPE, text=True).stdout


async def clean_as_the_job(plane: ControlPlane, env: dict[str, str]) -> None:
    env = {**env, "KUBECONFIG": str(job_account(plane, "cleanup.yaml", "spiderpool-cleanup"))}
    await clean(controller_settings(SettingsSource(env, {})))


async def test_the_job_after_a_removal_has_the_rights_that_it_needs(plane: ControlPlane) -> None:
    cleanup = chart.documents(chart.template("cleanup.yaml"))
    plane.apply(yaml.safe_dump_all(each for each in cleanup if each["kind"] == "DaemonSet"))
    (job,) = [each for each in cleanup if each["kind"] == "Job"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    env = {each["name"]: each.get("value", "kube-system") for each in container["env"]}
    for lease in ("spiderpool-controller-leases", "spiderpool-cloud-leases"):
        plane.apply(LEASE.format(lease))
    await clean_as_the_job(plane, env)
    assert "spiderpool" not in plane.kubectl("get", "leases", "-n", "kube-system", "-o", "name")
    plane.kubectl("delete", "daemonset", "spiderpool-uninstall", "-n", "kube-system")


def webhook(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "clientConfig": {"service": {"name": "spiderpool-controller", "namespace": NAMESPACE}, "caBundle": ""},
        "rules": [],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }


KINDS = (
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,"
    "mutatingwebhookconfigurations,validatingwebhookconfigurations,customresourcedefinitions,namespaces"
)
NAMESPACED = "serviceaccounts,roles,rolebindings,secrets,configmaps,services,deployments,daemonsets,jobs,leases"


def policies(plane: ControlPlane) -> set[str]:
    """Names of our admission policies and their bindings."""
    kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings"
    found = plane.kubectl("get", kinds, "-o", "name").replace(".admissionregistration.k8s.io", "")
    return {each for each in found.split() if "/spiderpool-" in each}


def everything(plane: ControlPlane) -> set[str]:
    """Kind and name of all objects that a chart could leave behind, but for what every Namespace has."""
    names = plane.kubectl("get", KINDS, "-o", "name") + plane.kubectl("get", NAMESPACED, "-A", "-o", "name")
    of_kubernetes = ("serviceaccount/default", "configmap/kube-root-ca.crt")
    return {each for each in names.split() if each not in of_kubernetes}


OTHER_CHART = {
    "Chart.yaml": "apiVersion: v2\nname: spiderpool\nversion: 1.2.2\n",
    "templates/agent.yaml": """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: spiderpool-agent}
spec:
  selector: {matchLabels: {app.kubernetes.io/component: spiderpool-agent}}
  template:
    metadata: {labels: {app.kubernetes.io/component: spiderpool-agent}}
    spec: {containers: [{name: agent, image: none}]}
""",
    "templates/others.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: spiderpool-conf}
data: {conf.yml: "{enableIPv4: true, enableStatefulSet: false, enableKubevirtStaticIP: true}", clusterNetwork: ipvlan}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: spiderpool-agent}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: spiderpool-admin}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: spiderpool-controller}
webhooks:
- name: theirs.spiderpool.spidernet.io
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {service: {name: spiderpool-controller, namespace: kube-system, port: 5722}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: spiderpool-controller}
""",
}
"""Names of the objects of Spiderpool's own chart, whose images cannot be had here."""


def migration_commands(plane: ControlPlane) -> list[list[str]]:
    """The helm commands that `spiderpoolctl migrate` prints now, without the program and the place of our chart."""
    command = ["migrate", "--kubeconfig", str(plane.admin_kubeconfig), "-o", "json"]
    steps = json.loads(CliRunner().invoke(cli, command).stdout)["steps"]
    found = [shlex.split(each.replace("\\\n", "")) for each in steps if each.strip().startswith("helm ")]
    return [[str(chart.CHART) if word == "charts/spiderpool" else word for word in words[1:]] for words in found]


def test_both_releases_are_installed_until_the_other_one_is_removed(plane: ControlPlane, tmp_path: Path) -> None:
    """By the commands that are printed. Hooks are left out: there are no nodes for their Jobs."""
    for name, text in OTHER_CHART.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    access = ("--kubeconfig", plane.admin_kubeconfig)
    chart.helm("install", "spiderpool", tmp_path, "--namespace", "kube-system", *access)
    webhooks = plane.kubectl("get", *REGISTRATION, "-o", "jsonpath={.webhooks[*].name}")
    agents = ("daemonset", "spiderpool-agent", "--namespace")
    try:
        (install,) = migration_commands(plane)
        chart.helm(*install, "--no-hooks", *access)
        assert plane.kubectl("get", *REGISTRATION, "-o", "jsonpath={.webhooks[*].name}") == webhooks
        selector = "jsonpath={.spec.template.spec.nodeSelector}"
        assert "migration" not in plane.kubectl("get", *agents, "kube-system", "-o", selector)
        assert '"new"' in plane.kubectl("get", *agents, "spiderpool", "-o", selector)
        settings = plane.kubectl("get", "configmap", "spiderpool-conf", "-n", "spiderpool", "-o", "jsonpath={.data}")
        assert "enableStatefulSet: false" in settings

        remove, upgrade = migration_commands(plane)  # there is no node that has not moved
        assert "--no-hooks" in remove
        chart.helm(*remove, *access)
        chart.helm(*upgrade, "--no-hooks", *access)
        assert "migration" not in plane.kubectl("get", *agents, "spiderpool", "-o", selector)
        assert plane.kubectl("get", *REGISTRATION, "-o", "jsonpath={.webhooks[*].name}") == ""
        assert plane.kubectl("get", "deployment", "spiderpool-controller", "-n", "spiderpool", "-o", "name")
        assert migration_commands(plane) == []
    finally:
        for namespace in ("spiderpool", "kube-system"):
            options = ("--namespace", namespace, "--no-hooks", "--ignore-not-found")
            chart.helm("uninstall", "spiderpool", *options, *access)
