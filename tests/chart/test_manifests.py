"""What the chart renders: valid for every supported Kubernetes, with the settings that the values ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import msgspec
import pytest
import yaml
from scripts import generate_chart_schema as generator

from spiderpool.api.mounts import MountingDeployment
from spiderpool.controller.registration import hosts
from spiderpool.errors import BadConfig
from spiderpool.settings import SettingsSource, agent_settings, cloud_settings, controller_settings, kinds
from spiderpool.settings import table as settings_table
from spiderpool.settings.setting import Daemon, Setting
from spiderpool.settings.source import VARIABLES
from spiderpool_lab import chart
from tests.chart.combinations import COMBINATIONS, POOLS, WALKTHROUGH

pytestmark = pytest.mark.unit

OLDEST, NEWEST = "1.30", "1.37"
OF_OTHERS = "monitoring.coreos.com/v1"
"""Kinds that are no part of Kubernetes."""
CONTAINERS = {
    Daemon.AGENT: "spiderpool-agent",
    Daemon.CONTROLLER: "spiderpool-controller",
    Daemon.CLOUD: "spiderpool-cloud",
}
CLOUD = ("cloud.enabled=true", "cloud.provider=alibaba")


@cache
def rendered(*values: str, namespace: str = chart.NAMESPACE) -> list[dict[str, Any]]:
    made = chart.templates(*values, namespace=namespace)
    return [each for text in made.values() for each in chart.documents(text)]


def one(kind: str, name: str, *values: str, namespace: str = chart.NAMESPACE) -> dict[str, Any]:
    """The only object of that kind and name."""
    found = rendered(*values, namespace=namespace)
    (match,) = [each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return match


def pod_specs(*values: str) -> dict[str, dict[str, Any]]:
    """Name of each DaemonSet, Deployment and Job → the spec of its pods."""
    found = [each for each in rendered(*values) if "template" in each.get("spec", {})]
    return {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in found}


def container(name: str, *values: str) -> dict[str, Any]:
    (only,) = pod_specs(*values)[name]["containers"]
    return dict(only)


@cache
def fault(text: str, version: str) -> str | None:
    """Why an object is not valid for a version of Kubernetes."""
    try:
        kubernetes_validate.validate(json.loads(text), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{version}: {error.message} at {list(error.path)}"
    return None


@pytest.mark.parametrize("name", COMBINATIONS)
def test_manifests_are_valid_for_the_oldest_and_the_newest_kubernetes(name: str) -> None:
    texts = [json.dumps(each) for each in rendered(*COMBINATIONS[name]) if each["apiVersion"] != OF_OTHERS]
    assert [wrong for text in texts for version in (OLDEST, NEWEST) if (wrong := fault(text, version))] == []


@pytest.mark.parametrize("name", COMBINATIONS)
def test_no_object_and_no_variable_is_there_twice(name: str) -> None:
    documents = rendered(*COMBINATIONS[name])
    objects = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in documents]
    assert len(objects) == len({*objects})
    for spec in pod_specs(*COMBINATIONS[name]).values():
        for each in (*spec["containers"], *spec.get("initContainers", ())):
            names = [variable["name"] for variable in each.get("env", ())]
            assert len(names) == len({*names})
            ours = {variable for variable in names if variable.startswith(("SPIDERPOOL_", "MULTUS_", "METADATA_"))}
            assert ours <= {*VARIABLES}, "a variable that nobody reads"


def test_the_chart_names_no_page_of_another_project() -> None:
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
    assert not {"home", "sources", "icon", "maintainers"} & about.keys(), "a page of ours, or none"


def test_the_chart_has_nothing_that_helm_complains_about() -> None:
    assert "0 chart(s) failed" in chart.helm("lint", "--strict", chart.CHART)


def source(daemon: Daemon, *values: str) -> SettingsSource:
    """The environment and conf.yml of a daemon's container."""
    env = {each["name"]: each.get("value", "of-the-pod") for each in container(CONTAINERS[daemon], *values)["env"]}
    conf = one("ConfigMap", "spiderpool-conf", *values)["data"]["conf.yml"]
    return SettingsSource(env, yaml.safe_load(conf))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_daemons_take_their_settings(name: str) -> None:
    values = COMBINATIONS[name]
    assert agent_settings(source(Daemon.AGENT, *values)).node == "of-the-pod"
    if "spiderpool-controller" in pod_specs(*values):
        assert controller_settings(source(Daemon.CONTROLLER, *values)).identity == "of-the-pod"
    if "cloud.enabled=true" in values:
        assert cloud_settings(source(Daemon.CLOUD, *values)).identity == "of-the-pod"


def test_the_walkthrough_by_the_chart_has_the_settings_of_the_lab() -> None:
    lab = yaml.safe_load((chart.CHART.parents[1] / "examples/alibaba-cloud/settings.yaml").read_text())
    values = [
        *WALKTHROUGH,
        *CLOUD,
        "cloud.clusterID=walkthrough",
        "cloud.loadBalancers.vpcID=vpc-lab",
    ]
    wanted, made = (
        yaml.safe_load(each["data"]["conf.yml"]) for each in (lab, one("ConfigMap", "spiderpool-conf", *values))
    )
    for name, value in leaves(wanted):
        assert dict(leaves(made))[name] == value


def leaves(block: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of conf.yml, as paths, and their values."""
    for key, value in block.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def other(setting: Setting[Any], default: Any) -> Any:
    """A value that is not the default."""
    if setting.choices:
        return next(choice for choice in setting.choices if choice and choice != default)
    if setting.kind is kinds.ZONES:
        return "zone-a:vsw-1,zone-b:vsw-2"
    match default:
        case bool():
            return not default
        case int() | float():
            return default + 1
        case [*_]:
            return ["other"]
    return "other/other" if "/" in default else "other"


def written(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if isinstance(value, str):
        return value.replace(",", r"\,")
    return json.dumps(value).replace('"', "").replace("[", "{").replace("]", "}")


OFFERS = "spiderpoolAgent.networkResourcePlugin.resourceAdvertisement"
JOB = "spiderpoolInit.updateCustomResources"
AS_THEY_ARE = {"cloud.provider": "alibaba", "ipam.enableIPv6": True, OFFERS: []}
"""Values that stay, since others need them or have no sense without them."""
DEFAULTS = {value.path: value.default for value in generator.values()}
CHANGED = {
    path: AS_THEY_ARE[path] if path in AS_THEY_ARE else other(setting, DEFAULTS[path])
    for path, setting in generator.SERVED.items()
} | {"cloud.alibaba.maxFreeAddresses": 30}
"""Another value for everything that becomes a setting."""
GATES = "cloud.loadBalancers.injectReadinessGates"
NEEDED = {GATES: "cloud.loadBalancers.enabled=true"}
"""Values that are refused without another one, which is changed to something else for all others."""
OF_ONE_DAEMON = {
    "spiderpoolAgent.": Daemon.AGENT,
    "spiderpoolController.": Daemon.CONTROLLER,
    "spiderpoolCloud.": Daemon.CLOUD,
}


@pytest.mark.parametrize("path", [path for path in generator.SERVED if path != JOB])
def test_each_value_reaches_its_setting_in_every_daemon_that_reads_it(path: str) -> None:
    left_out = {OFFERS, JOB, *(NEEDED.keys() - {path})}
    flags = [f"{each}={written(value)}" for each, value in CHANGED.items() if each not in left_out]
    values = ["cloud.enabled=true", *flags]
    values += [NEEDED[path]] if path in NEEDED else []
    setting, changed = generator.SERVED[path], CHANGED[path]
    expected = tuple(changed) if isinstance(changed, list) else changed
    one_alone = next((daemon for prefix, daemon in OF_ONE_DAEMON.items() if path.startswith(prefix)), None)
    readers = [one_alone] if one_alone in setting.readers else setting.readers
    assert {daemon: source(daemon, *values).read(setting) for daemon in readers} == dict.fromkeys(readers, expected)


class TestAgent:
    def test_it_has_the_rights_that_it_needs_and_no_more(self) -> None:
        spec = pod_specs(*WALKTHROUGH)["spiderpool-agent"]
        agent = container("spiderpool-agent", *WALKTHROUGH)
        assert agent["securityContext"] == {
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsUser": 0,
            "runAsGroup": 0,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert spec["hostNetwork"] is True
        assert "ports" not in agent, "with declared ports a pod in the nodes' network cannot be replaced freely"
        paths = {each["hostPath"]["path"] for each in spec["volumes"] if "hostPath" in each}
        cni = {"/opt/cni/bin", "/etc/cni/net.d", "/var/lib/cni"}
        assert paths == {"/var/run/spidernet", "/var/run/netns", "/proc/sys/net", "/run/xtables.lock", *cni}

    def test_where_the_cni_files_of_the_nodes_are_is_said_once(self) -> None:
        elsewhere = ("global.cniBinHostPath=/a/bin", "global.cniConfHostPath=/a/net.d")
        settings = agent_settings(source(Daemon.AGENT, *elsewhere))
        mounts = {each["mountPath"]: each["name"] for each in container("spiderpool-agent", *elsewhere)["volumeMounts"]}
        volumes = {
            each["name"]: each["hostPath"]["path"]
            for each in pod_specs(*elsewhere)["spiderpool-agent"]["volumes"]
            if "hostPath" in each
        }
        assert volumes[mounts[str(settings.cni_bin_dir)]] == "/a/bin"
        assert volumes[mounts[str(settings.cni_conf_dir)]] == "/a/net.d"
        assert volumes[mounts[str(settings.socket.parent)]] == str(settings.socket.parent), "as on the node"

    def test_pods_that_name_no_network_have_that_of_the_walkthrough(self) -> None:
        assert agent_settings(source(Daemon.AGENT, *WALKTHROUGH)).default_network == "kube-system/ipvlan-eth0"
        assert agent_settings(source(Daemon.AGENT)).default_network is None

    def test_its_predecessor_ends_first(self) -> None:
        strategy = one("DaemonSet", "spiderpool-agent")["spec"]["updateStrategy"]
        assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}


class TestOthers:
    @pytest.mark.parametrize(
        "name", ["spiderpool-controller", "spiderpool-cloud", "spiderpool-init", "spiderpool-cleanup"]
    )
    def test_they_have_no_rights_on_their_node(self, name: str) -> None:
        spec, context = pod_specs(*CLOUD)[name], container(name, *CLOUD)["securityContext"]
        assert context == {
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert spec["securityContext"]["runAsUser"] == 65532
        assert spec["serviceAccountName"] == name

    def test_replicas_in_the_nodes_network_have_a_node_each_and_a_free_port_when_they_are_replaced(self) -> None:
        deployment = one("Deployment", "spiderpool-controller")["spec"]
        assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        rules = deployment["template"]["spec"]["affinity"]["podAntiAffinity"]
        (rule,) = rules["requiredDuringSchedulingIgnoredDuringExecution"]
        assert rule["labelSelector"] == deployment["selector"]
        free = one("Deployment", "spiderpool-controller", "spiderpoolController.hostnetwork=false")["spec"]
        assert free["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert "affinity" not in free["template"]["spec"]

    def test_a_change_of_the_settings_replaces_the_pods_that_have_read_them(self) -> None:
        def annotation(*values: str) -> str:
            template = one("DaemonSet", "spiderpool-agent", *values)["spec"]["template"]
            return str(template["metadata"]["annotations"]["spiderpool.spidernet.io/configuration"])

        assert annotation() == annotation("global.commonLabels.a=b")
        assert annotation() != annotation("ipam.enableStatefulSet=false")

    def test_credentials_are_mounted_where_they_are_looked_for(self) -> None:
        values = (*CLOUD, "cloud.credentials.secretName=keys", "cloud.credentials.cloudConfigMap=cloud-config")
        settings = cloud_settings(source(Daemon.CLOUD, *values))
        mounts = {each["mountPath"] for each in container("spiderpool-cloud", *values)["volumeMounts"]}
        assert {str(settings.secret), str(settings.cloud_config.parent)} <= mounts


class TestInitialObjects:
    def made(self, *values: str, namespace: str = chart.NAMESPACE) -> list[dict[str, Any]]:
        data = one("ConfigMap", "spiderpool-init", *values, namespace=namespace)["data"]
        return chart.documents(data["objects.yaml"])

    def test_the_walkthroughs_network_is_there_to_be_filled(self) -> None:
        coordinator, network = self.made(*WALKTHROUGH, namespace="net")
        assert (coordinator["kind"], coordinator["metadata"]) == ("SpiderCoordinator", {"name": "default"})
        assert network["kind"] == "SpiderMultusConfig"
        assert network["metadata"] == {"name": "ipvlan-eth0", "namespace": "net"}
        assert network["spec"] == {"cniType": "custom", "enableCoordinator": True}

    def test_with_a_provider_the_controller_makes_the_networks(self) -> None:
        assert [each["kind"] for each in self.made(*WALKTHROUGH, "cloud.provider=alibaba")] == ["SpiderCoordinator"]

    def test_pools_are_cut_from_subnets_where_there_are_subnets(self) -> None:
        _, subnet, pool = self.made(*POOLS)
        assert (subnet["kind"], pool["kind"]) == ("SpiderSubnet", "SpiderIPPool")
        assert pool["spec"] == {**subnet["spec"], "default": True}
        _, pool = self.made(*POOLS, "ipam.spiderSubnet.enable=false")
        assert pool["spec"]["ips"] == ["172.18.40.40-172.18.40.200"]

    def test_the_coordinator_is_as_the_values_say(self) -> None:
        route = ("coordinator.policyRoutes[0].dst=10.0.0.0/8", "coordinator.policyRoutes[0].gw=10.1.0.1")
        (made,) = self.made("coordinator.mode=underlay", "coordinator.vethLinkAddress=169.254.100.1", *route)
        assert made["spec"] == {
            "mode": "underlay",
            "podCIDRType": "auto",
            "tunePodRoutes": True,
            "hijackCIDR": ["169.254.0.0/16"],
            "policyRoutes": [{"dst": "10.0.0.0/8", "gw": "10.1.0.1"}],
            "vethLinkAddress": "169.254.100.1",
            "vethMTU": 1500,
        }


class TestImages:
    @pytest.mark.parametrize(
        ("values", "image"),
        [
            ((), "spiderpool-agent:v0.1.0"),
            (("global.imageRegistryOverride=ghcr.m.daocloud.io",), "ghcr.m.daocloud.io/spiderpool-agent:v0.1.0"),
            (("spiderpoolAgent.image.registry=a", "spiderpoolAgent.image.tag=v9"), "a/spiderpool-agent:v9"),
            (
                ("spiderpoolAgent.image.registry=a", "global.imageRegistryOverride=b/c/"),
                "b/c/spiderpool-agent:v0.1.0",
            ),
            ((f"spiderpoolAgent.image.digest=sha256:{'0' * 64}",), f"spiderpool-agent@sha256:{'0' * 64}"),
        ],
    )
    def test_names(self, values: tuple[str, ...], image: str) -> None:
        assert container("spiderpool-agent", *values)["image"] == image

    def test_secrets_of_all_images_and_of_one(self) -> None:
        specs = pod_specs(*COMBINATIONS["pull secrets, digest"])
        assert specs["spiderpool-agent"]["imagePullSecrets"] == [{"name": "all"}, {"name": "own"}]
        for name in ("spiderpool-controller", "spiderpool-init", "spiderpool-cleanup"):
            assert specs[name]["imagePullSecrets"] == [{"name": "all"}]


class TestNamespace:
    def test_nothing_names_another_one(self) -> None:
        """But kube-system, for what is there in every cluster."""
        for each in rendered(*chart.ALL_FEATURES, namespace="net"):
            if each["metadata"].get("namespace") == "kube-system":
                assert (each["kind"], each["metadata"]["name"]) in OF_THE_CLUSTER
            elif each["kind"] not in CLUSTER_WIDE:
                assert each["metadata"]["namespace"] == "net", each["metadata"]
            for subject in each.get("subjects", ()):
                assert subject["namespace"] == "net"
        policies = [each for each in rendered(*chart.ALL_FEATURES, namespace="net") if "Policy" in each["kind"]]
        assert "system:serviceaccount:kube-system:" not in json.dumps(policies)
        assert "system:serviceaccount:net:spiderpool-controller" in json.dumps(policies)

    @pytest.mark.parametrize("name", COMBINATIONS)
    def test_no_text_names_another_one(self, name: str) -> None:
        """Neither variables, nor messages, nor the objects that the Job makes."""
        for each in rendered(*COMBINATIONS[name], namespace="net"):
            if (each["kind"], each["metadata"]["name"]) in OF_THE_CLUSTER:
                continue
            for text in strings(each):
                for phrase in ABOUT_KUBE_SYSTEM:
                    text = text.replace(phrase, "")
                assert "kube-system" not in text, each["metadata"]["name"]

    @pytest.mark.parametrize("values", [CLOUD, (*CLOUD, "spiderpoolInit.image.repository=mirror/init")])
    def test_every_pod_has_the_secrets_of_all_images_and_those_of_its_own(self, values: tuple[str, ...]) -> None:
        parts = {"spiderpoolAgent": "agent", "spiderpoolController": "controller", "spiderpoolCloud": "cloud"}
        secrets = [f"{part}.image.imagePullSecrets[0].name={own}" for part, own in parts.items()]
        made = rendered(*values, "global.imagePullSecrets[0].name=all", *secrets, namespace="net")
        workloads = [each for each in made if "template" in each.get("spec", {})]
        pulled = {
            each["metadata"]["name"]: [
                secret["name"] for secret in each["spec"]["template"]["spec"]["imagePullSecrets"]
            ]
            for each in workloads
        }
        assert pulled == {
            "spiderpool-agent": ["all", "agent"],
            "spiderpool-uninstall": ["all", "agent"],
            "spiderpool-controller": ["all", "controller"],
            "spiderpool-init": ["all", "controller"],
            "spiderpool-cleanup": ["all", "controller"],
            "spiderpool-cloud": ["all", "cloud"],
        }
        assert {each["metadata"]["namespace"] for each in workloads} == {"net"}

    def test_every_pod_has_an_account_of_that_namespace_and_mounts_what_is_there(self) -> None:
        values = (*CLOUD, "spiderpoolController.tls.method=provided", "cloud.credentials.secretName=keys")
        made = rendered(*values, namespace="net")
        there = {(each["kind"], each["metadata"]["name"]) for each in made}
        there |= {("Secret", "spiderpool-controller-server-certs"), ("Secret", "keys")}
        for each in made:
            if "template" not in each.get("spec", {}):
                continue
            spec = each["spec"]["template"]["spec"]
            assert ("ServiceAccount", spec["serviceAccountName"]) in there
            for volume in spec.get("volumes", ()):
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in there
                if "secret" in volume:
                    assert ("Secret", volume["secret"]["secretName"]) in there


def strings(value: Any) -> Iterator[str]:
    """All texts in an object, also as keys."""
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield key
                yield from strings(inner)
        case list():
            for inner in value:
                yield from strings(inner)
        case _:
            return


ABOUT_KUBE_SYSTEM = (
    "kube-system/cilium-config",
    "- kube-system",
    "outside kube-system",
    "'kube-system' in each.values",
)
"""Where Cilium is, which pods are left alone, and that the policy of the webhooks keeps it so."""
OF_THE_CLUSTER = {("Role", "spiderpool-controller"), ("RoleBinding", "spiderpool-controller")}
CLUSTER_WIDE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


class TestRegistrations:
    def test_what_the_controller_fills_is_made_empty_so_that_an_upgrade_resets_nothing(self) -> None:
        assert {*one("Secret", "spiderpool-webhook-certs")} == {"apiVersion", "kind", "metadata", "type"}
        for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
            assert {*one(kind, "spiderpool-controller")} == {"apiVersion", "kind", "metadata"}

    def test_the_service_leads_to_the_webhooks_of_the_controllers_pods(self) -> None:
        settings = controller_settings(source(Daemon.CONTROLLER, "spiderpoolController.webhookPort=6000"))
        service = one("Service", settings.service, "spiderpoolController.webhookPort=6000")["spec"]
        labels = one("Deployment", "spiderpool-controller")["spec"]["template"]["metadata"]["labels"]
        assert service["selector"].items() <= labels.items()
        assert [(each["port"], each["targetPort"]) for each in service["ports"]] == [(6000, settings.webhook_port)] * 1

    def test_the_policy_admits_the_url_that_the_controller_has(self) -> None:
        policy = one("ValidatingAdmissionPolicy", "spiderpool-controller-webhooks", *COMBINATIONS["more of everything"])
        variables = {each["name"]: each["expression"] for each in policy["spec"]["variables"]}
        assert variables["url"] == "'https://webhooks.example.com'"
        plain = one("ValidatingAdmissionPolicy", "spiderpool-controller-webhooks")["spec"]["variables"]
        assert {each["name"]: each["expression"] for each in plain}["url"] == "''"


TAINT = "spiderpoolController.removeStartupTaint=true"


class TestRoles:
    def resources(self, kind: str, name: str, *values: str) -> set[str]:
        return {each for rule in one(kind, name, *values)["rules"] for each in rule["resources"]}

    def test_spiderpool_cloud_may_do_what_is_switched_on(self) -> None:
        assert not [each for each in rendered() if each["metadata"]["name"] == "spiderpool-cloud"]
        assert "services" in self.resources("ClusterRole", "spiderpool-cloud", *CLOUD)
        assert "spiderippools" not in self.resources("ClusterRole", "spiderpool-cloud", *CLOUD)
        few = (*CLOUD, "cloud.loadBalancers.enabled=false")
        assert self.resources("ClusterRole", "spiderpool-cloud", *few) == {"nodes", "spiderservers", "events"}

    def test_the_controller_changes_nodes_only_where_it_shall_remove_their_startup_taint(self) -> None:
        def verbs(*values: str) -> set[str]:
            rules = one("ClusterRole", "spiderpool-controller", *values)["rules"]
            return {verb for rule in rules if "nodes" in rule["resources"] for verb in rule["verbs"]}

        taint = TAINT
        assert verbs() == {"get", "list", "watch"}
        assert verbs(taint) == {"get", "list", "watch", "patch"}
        for values, expected in (((), 0), ((taint,), 2)):
            made = [each for each in rendered(*values) if each["metadata"]["name"] == "spiderpool-startup-taint"]
            assert len(made) == expected, "a policy and its binding"
        assert controller_settings(source(Daemon.CONTROLLER, taint)).remove_startup_taint

    def test_the_controller_changes_the_status_of_nodes_only_where_they_advertise_addresses(self) -> None:
        def verbs(kind: str, name: str, *values: str) -> set[str]:
            rules = one(kind, name, *values)["rules"]
            return {verb for rule in rules if "nodes/status" in rule["resources"] for verb in rule["verbs"]}

        for value, allowed, advertises in (
            ("none", False, False),
            ("advertise", True, True),
            ("withdraw", True, False),
        ):
            values = f"spiderpoolController.nodeAddressResources={value}"
            for name in ("spiderpool-controller", "spiderpool-cleanup"):
                assert verbs("ClusterRole", name, values) == ({"patch"} if allowed else set())
            made = [each for each in rendered(values) if each["metadata"]["name"] == "spiderpool-node-resources"]
            assert len(made) == (2 if allowed else 0), "a policy and its binding"
            settings = controller_settings(source(Daemon.CONTROLLER, values, "multus.multusCNI.defaultCniCRName=x"))
            assert settings.advertises == advertises
            assert (settings.default_network or "").endswith("/x")
            taint = one("ValidatingAdmissionPolicy", "spiderpool-startup-taint", values, TAINT)
            assert ("excludeResourceRules" in taint["spec"]["matchConstraints"]) == allowed

    def test_all_pods_of_the_chart_run_on_nodes_that_still_have_the_taint(self) -> None:
        for name, spec in pod_specs(*CLOUD).items():
            assert {"operator": "Exists"} in spec["tolerations"], name

    def test_the_job_may_not_change_custom_resources_that_others_keep(self) -> None:
        assert "customresourcedefinitions" in self.resources("ClusterRole", "spiderpool-init")
        kept = self.resources("ClusterRole", "spiderpool-init", "spiderpoolInit.updateCustomResources=false")
        assert "customresourcedefinitions" not in kept


PROVIDED = "spiderpoolController.tls.method=provided"


class TestCertificates:
    """Who makes the certificate of the webhooks."""

    def test_one_that_is_provided_is_mounted_where_the_controller_reads_it(self) -> None:
        values = (PROVIDED, "spiderpoolController.tls.secretName=ours")
        settings = controller_settings(source(Daemon.CONTROLLER, *values))
        mounts = {
            each["mountPath"]: each["name"] for each in container("spiderpool-controller", *values)["volumeMounts"]
        }
        spec = one("Deployment", "spiderpool-controller", *values)["spec"]["template"]["spec"]
        secrets = {each["name"]: each["secret"]["secretName"] for each in spec["volumes"] if "secret" in each}
        assert secrets[mounts[str(settings.certificate_folder)]] == "ours"
        assert controller_settings(source(Daemon.CONTROLLER)).certificate_folder is None

    @pytest.mark.parametrize(("values", "secret"), [((), None), ((PROVIDED,), "spiderpool-controller-server-certs")])
    def test_operators_find_the_secret_by_what_the_controller_mounts(
        self, values: tuple[str, ...], secret: str | None
    ) -> None:
        deployment = msgspec.convert(one("Deployment", "spiderpool-controller", *values), MountingDeployment)
        assert deployment.spec.template.spec.secret_in(settings_table.CERTIFICATE_FOLDER.variables[0]) == secret

    def test_the_controller_may_then_read_and_write_no_secret(self) -> None:
        rules = one("Role", "spiderpool-controller", PROVIDED)["rules"]
        assert not any("secrets" in rule["resources"] for rule in rules)
        assert not any(each["kind"] == "Secret" for each in rendered(PROVIDED))

    def test_values_become_the_secret(self) -> None:
        given = {"tlsCert": "YQ==", "tlsKey": "Yg==", "tlsCa": "Yw=="}
        values = [f"spiderpoolController.tls.provided.{name}={value}" for name, value in given.items()]
        secret = one("Secret", "spiderpool-controller-server-certs", PROVIDED, *values)
        assert secret["data"] == {"tls.crt": "YQ==", "tls.key": "Yg==", "ca.crt": "Yw=="}

    def test_cert_manager_makes_one_for_the_names_by_which_the_webhooks_are_called(self) -> None:
        values = ("spiderpoolController.tls.method=certmanager", "spiderpoolController.tls.certmanager.issuerName=own")
        made = one("Certificate", "spiderpool-controller", *values)["spec"]
        called = hosts(controller_settings(source(Daemon.CONTROLLER, *values)))
        assert made["dnsNames"] == [name.replace("of-the-pod", chart.NAMESPACE) for name in called]
        assert made["issuerRef"] == {"kind": "Issuer", "name": "own"}
        assert made["duration"] == "8760h"
        spec = one("Deployment", "spiderpool-controller", *values)["spec"]["template"]["spec"]
        assert made["secretName"] in {each["secret"]["secretName"] for each in spec["volumes"] if "secret" in each}

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            (("spiderpoolController.tls.method=certmanager",), "issuerName is empty"),
            (
                (PROVIDED, "spiderpoolController.tls.secretName="),
                "secretName is empty",
            ),
            (
                (
                    PROVIDED,
                    "spiderpoolController.tls.secretName=spiderpool-webhook-certs",
                ),
                "name another one",
            ),
            (
                (PROVIDED, "spiderpoolController.tls.provided.tlsCa=-----BEGIN"),
                "tlsCa is PEM: write it in base64",
            ),
            (
                (
                    "spiderpoolController.tls.method=certmanager",
                    "spiderpoolController.tls.certmanager.issuerName=own",
                    "spiderpoolController.extraEnv[0].name=SPIDERPOOL_WEBHOOK_URL",
                    "spiderpoolController.extraEnv[0].value=https://hooks.example.com:5722",
                ),
                "has the host hooks.example.com, for which cert-manager would make no certificate",
            ),
            (
                (PROVIDED, "spiderpoolController.tls.provided.tlsKey=YQ=="),
                "set all three, or none if the Secret exists",
            ),
        ],
    )
    def test_what_lacks_a_part_is_refused(self, values: tuple[str, ...], words: str) -> None:
        with pytest.raises(BadConfig, match=words):
            chart.templates(*values)


class TestMigration:
    """While a cluster is taken over, nothing of the other release may be touched, and no node have two agents."""

    LABEL = "spiderpool.spidernet.io/migration"
    AGENTS = ("migration.agentsOnly=true", "migration.replacedNetworkLists={00-multus.conf,01-x.conf}")

    def test_agents_alone_on_the_nodes_that_are_given_to_them(self) -> None:
        specs = pod_specs(*self.AGENTS)
        assert {*specs} == {"spiderpool-agent", "spiderpool-init", "spiderpool-uninstall", "spiderpool-cleanup"}
        for name in ("spiderpool-agent", "spiderpool-uninstall"):
            assert specs[name]["nodeSelector"] == {"kubernetes.io/os": "linux", self.LABEL: "new"}
        assert self.LABEL not in pod_specs()["spiderpool-agent"]["nodeSelector"]

    def test_no_object_has_the_name_of_one_of_the_other_release(self) -> None:
        """Of those without Namespace: the other release is in another one."""
        theirs = {
            ("MutatingWebhookConfiguration", "spiderpool-controller"),
            ("ValidatingWebhookConfiguration", "spiderpool-controller"),
            ("ClusterRole", "spiderpool-admin"),
            ("ClusterRoleBinding", "spiderpool-admin"),
        }
        ours = {(each["kind"], each["metadata"]["name"]) for each in rendered(*self.AGENTS)}
        assert not theirs & ours

    def test_agents_set_lists_aside(self) -> None:
        env = {each["name"]: each.get("value") for each in container("spiderpool-agent", *self.AGENTS)["env"]}
        assert env["SPIDERPOOL_REPLACED_NETWORK_LISTS"] == "00-multus.conf,01-x.conf"

    def test_a_removal_leaves_objects_as_they_are(self) -> None:
        env = {each["name"]: each.get("value") for each in container("spiderpool-cleanup", *self.AGENTS)["env"]}
        assert env["SPIDERPOOL_CLEAN_CLUSTER"] == "false"
        assert one("ClusterRole", "spiderpool-cleanup", *self.AGENTS)["rules"] == []

    def test_spiderpool_cloud_waits(self) -> None:
        with pytest.raises(BadConfig, match="when the cluster is taken over"):
            chart.templates(*self.AGENTS, *CLOUD)
