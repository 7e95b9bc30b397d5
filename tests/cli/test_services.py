"""What would be made for Services, from their manifests."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import msgspec
import pytest
import yaml
from click.testing import CliRunner, Result

from spiderpool.api.core_v1 import Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.api.spiderserver import ENI, Instance, SpiderServer
from spiderpool.cli.main import cli

pytestmark = pytest.mark.unit

EXAMPLE = Path(__file__).parents[2] / "examples" / "alibaba-cloud" / "load-balancers.yaml"
UID = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"


def run(text: str, *words: str) -> Result:
    return CliRunner().invoke(cli, ["service", "plan", *words, "-f", "-"], input=text)


def service(**spec: object) -> dict[str, object]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080}]
    annotations = spec.pop("annotations", {})
    return {
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "uid": UID, "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ports": ports, **spec},
    }


def node(name: str, *addresses: str) -> list[dict[str, object]]:
    network = "vsw-1", "172.31.192.0/20", None, "172.31.207.253", None
    eni = ENI(f"eni-{name}", "00:16:3e:00:00:01", True, "172.31.199.183", addresses, (), *network)
    instance = Instance("alibaba", "cn-hangzhou", "cn-hangzhou-i", f"i-{name}", "ecs.g7.large", (eni,))
    made = Node(metadata=ObjectMeta(name=name, uid=f"uid-{name}"))
    return [
        {
            "kind": Node.KIND.name,
            "metadata": {"name": name, "uid": f"uid-{name}"},
            "spec": {"providerID": f"cn-hangzhou.i-{name}"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        },
        {"kind": "SpiderServer"} | msgspec.to_builtins(SpiderServer.of(made, instance)),
    ]


def slice_of(name: str, *pods: tuple[str, str]) -> dict[str, object]:
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "nodeName": node} for address, node in pods],
    }


def listed(*objects: object) -> str:
    return json.dumps({"kind": "List", "items": objects})


def test_services_of_a_file_that_no_cluster_has_seen() -> None:
    done = CliRunner().invoke(cli, ["service", "plan", "-f", str(EXAMPLE)])
    assert done.exit_code == 0, done.output
    tcp, http, summary = done.output.split("\n\n")
    note = "note: spec.healthCheckNodePort is not assigned yet: health checks will ask nodes there"
    assert tcp.startswith(f"default/tcp-service\n{note}\n1. create clb balancer ")
    assert "create listener tcp/999" in tcp
    assert "create listener http/80" in http
    assert http.endswith("billed: 1 classic balancer, LCU hours by use, GB to the Internet by use")
    assert summary.startswith("6 steps for 2 of 2 Services; billed: 2 classic balancer, LCU hours by use, ")


def test_servers_are_the_nodes_of_the_cluster() -> None:
    done = run(listed(service(), *node("a"), *node("b"), {"kind": "Pod", "metadata": {"name": "p"}}))
    assert "i-a:30080 weight 100, i-b:30080 weight 100" in done.output


def test_servers_are_pods_by_their_enis() -> None:
    requested = service(annotations={"service.beta.kubernetes.io/backend-type": "eni"})
    pods = slice_of("web", ("172.31.199.185", "a")), slice_of("other", ("172.31.199.186", "a"))
    done = run(listed(requested, *node("a", "172.31.199.185"), *pods))
    assert "eni-a" in done.output
    assert "172.31.199.186" not in done.output


def test_settings_come_from_a_file(tmp_path: Path) -> None:
    values = tmp_path / "conf.yml"
    values.write_text("cloud: {clusterID: prod}")
    assert "web/shop/prod" in run(json.dumps(service()), "--values", str(values)).output
    values.write_text("cloud: {loadBalancers: {public: false}}")
    faulty = run(json.dumps(service()), "--values", str(values))
    assert "\nfault: " in faulty.output
    assert faulty.exit_code == 1


def test_programs_get_the_plan_as_values() -> None:
    planned = json.loads(run(listed(LENT, *node("a")), "-o", "json").output)
    (web,) = planned["services"]
    assert (web["service"], web["faults"]) == ("shop/web", [])
    assert "tag the balancer: kubernetes.reused.by.user=true" in web["steps"]
    assert planned["grants"] == [GRANT]
    assert run(listed(LENT), "-o", "name").output == "spiderloadbalancergrant.spiderpool.spidernet.io/shop\n"


def test_steps_fit_the_terminal_and_stay_lines_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = run(listed(service(), *node("a"))).output
    assert any(len(line) > 200 for line in piped.splitlines())
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(listed(service(), *node("a"))).output
    assert all(len(line) <= 80 for line in shown.splitlines()), shown
    assert " ".join(shown.split()) == " ".join(piped.split())


def test_protocols_that_there_are_are_named() -> None:
    wrong = service(annotations={f"{PREFIX}protocol-port": "htp:80"})
    refused = run(listed(wrong))
    assert "must be protocol:port (tcp, udp, http, https) with commas between them, not 'htp:80'" in refused.output
    assert refused.exit_code == 1


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: spiderpool-conf}\ndata: {conf.yml: 'cloud: {clusterID: x}'}",
        "ipam: {enableIPv4: true}\ncloud: {enabled: true, provider: alibaba}",
        "cloud: {provider: alibaba, enabled: true}",
        "cloud: {provider: alibaba, credentials: {source: role}}",
        "spiderpoolCloud: {replicas: 2}",
    ],
)
def test_values_of_helm_are_refused_with_what_to_give_instead(tmp_path: Path, text: str) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(text)
    refused = run(json.dumps(service()), "--values", str(values))
    assert refused.exit_code == 1
    assert f"where {values} has values of Helm, give what these become" in refused.output
    command = refused.output.partition("`")[2].partition("`")[0]
    page = Path(__file__).parents[2] / "docs" / "usage" / "load-balancers.md"
    assert f"    {command} >conf.yml\n" in page.read_text(), "the documented command"


def test_a_file_of_settings_may_be_anybodys(tmp_path: Path) -> None:
    """Its user names it, and has umask 002 on many systems: no daemon of root believes it."""
    values = tmp_path / "conf.yml"
    values.write_text("cloud: {clusterID: prod}")
    for part in (values, tmp_path):
        part.chmod(0o775)
    assert "web/shop/prod" in run(json.dumps(service()), "--values", str(values)).output


def test_settings_come_from_a_pipe_to_its_end() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"cloud:\n")

    def write_the_rest() -> None:
        time.sleep(0.5)
        os.write(writer, b"  clusterID: prod\n")
        os.close(writer)

    rest = threading.Thread(target=write_the_rest)
    rest.start()
    try:
        assert "web/shop/prod" in run(json.dumps(service()), "--values", f"/dev/fd/{reader}").output
    finally:
        rest.join()
        os.close(reader)


PREFIX = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-"
LENT = service(annotations={f"{PREFIX}id": "lb-1", f"{PREFIX}force-override-listeners": "true"})
GRANT = {
    "apiVersion": "spiderpool.spidernet.io/v2beta1",
    "kind": "SpiderLoadBalancerGrant",
    "metadata": {"name": "shop"},
    "spec": {"namespaces": ["shop"], "loadBalancers": ["lb-1"], "overrideListeners": True},
}


def test_what_must_be_granted_is_printed_as_a_manifest() -> None:
    done = run(listed(LENT))
    assert "\n\n# Not granted yet; --grants prints this part alone.\n" in done.output
    assert done.exit_code == 1
    alone = run(listed(LENT), "--grants")
    assert alone.exit_code == 0
    assert list(yaml.safe_load_all(alone.output)) == [GRANT]
    granted = listed(LENT, GRANT)
    assert "Not granted" not in run(granted).output
    assert run(granted).exit_code == 0
    assert run(granted, "--grants").output == "\n"


def test_a_grant_that_is_lacking_takes_the_place_of_no_other() -> None:
    other = {**GRANT, "spec": {"namespaces": ["shop"], "certificates": ["crt-1"]}}
    (made,) = yaml.safe_load_all(run(listed(LENT, other), "--grants").output)
    assert made == {**GRANT, "metadata": {"name": "shop-2"}}


def test_more_balancers_than_the_limit_are_granted(tmp_path: Path) -> None:
    values = tmp_path / "conf.yml"
    values.write_text("cloud: {loadBalancers: {maxPerNamespace: 1}}")
    (made,) = yaml.safe_load_all(run(listed(service(), service()), "--grants", "--values", str(values)).output)
    assert made["spec"] == {"namespaces": ["shop"], "maxLoadBalancers": 2}


@pytest.mark.parametrize("words", [("-",), (str(EXAMPLE),)])
def test_a_file_is_named_by_its_option(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, ["service", "plan", *words])
    assert done.exit_code == 2
    assert f"a file goes with -f: service plan -f {words[0]}" in done.output
    both = CliRunner().invoke(cli, ["service", "plan", "default/web", "-f", str(EXAMPLE)])
    assert both.exit_code == 2


def test_programs_get_what_the_cloud_would_bill() -> None:
    paid = service(
        annotations={
            f"{PREFIX}instance-charge-type": "PayBySpec",
            f"{PREFIX}charge-type": "paybybandwidth",
            f"{PREFIX}bandwidth": "100",
        }
    )
    (web,) = json.loads(run(listed(paid), "-o", "json").output)["services"]
    assert {"unit": "Mbit/s to the Internet", "quantity": 100} in web["bill"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: Pod", "there is no Service of type LoadBalancer"),
        ("a: [", "cannot be read as YAML"),
        ("- a", "a manifest is list"),
        ("items: 5", "items of a List are int: write the objects as a list"),
        ("items: [1]", "an item of a List is int, not a mapping of keys"),
        ("{kind: Service, metadata: foo}", "metadata of Service is str, not a mapping of keys"),
        ("a: 2026-99-99", "cannot be read as YAML"),
        ("[" * 5000, "cannot be read as YAML"),
        (
            "kind: Service\nmetadata: {name: web}\nspec: {type: 7}",
            "Service web: Expected `str | null`, got `int` - at `$.spec.type`",
        ),
    ],
)
def test_wrong_input_is_named(text: str, words: str) -> None:
    done = run(text)
    assert done.exit_code == 1
    assert words in done.output


def test_a_file_of_settings_that_is_wrong_is_named(tmp_path: Path) -> None:
    values = tmp_path / "conf.yml"
    values.write_text("cloud: {loadBalancers: {backendType: pods}}")
    done = run(json.dumps(service()), "--values", str(values))
    assert done.exit_code == 1
    assert "backendType" in done.output


def test_the_default_type_is_that_of_the_settings_where_a_service_has_no_balancer_and_names_no_type(
    tmp_path: Path,
) -> None:
    values = tmp_path / "conf.yml"
    values.write_text("cloud: {provider: alibaba, loadBalancers: {defaultType: nlb, vpcID: vpc-1}}")
    zones = {f"{PREFIX}zone-maps": "cn-hangzhou-h:vsw-1,cn-hangzhou-i:vsw-2"}
    asked = {"default": service(annotations=zones), "said": service(annotations={f"{PREFIX}type": "clb"})}
    kept = service()
    kept["metadata"] = {"name": "web", "namespace": "default", "finalizers": ["service.k8s.alibaba/resources"]}
    made = {
        name: json.loads(run(json.dumps(each), "--values", str(values), "-o", "json").output)["services"][0]["steps"]
        for name, each in (asked | {"kept": kept}).items()
    }
    assert [steps[0].split(" balancer")[0] for steps in made.values()] == ["create nlb", "create clb", "create clb"]
    assert "a network load balancer needs zone:vswitch" in run(json.dumps(service()), "--values", str(values)).output
