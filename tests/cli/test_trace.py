"""`spiderpoolctl trace`: where packets go by the objects of a cluster, who sees whom, and what drops them first."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from spiderpool.api.meta import LabelSelector, ObjectMeta
from spiderpool.api.networking_v1 import NetworkPolicy, NetworkPolicySpec
from spiderpool.cli.main import cli
from spiderpool.cli.printing import View, printed
from spiderpool.cli.trace.command import trace, trace_words
from spiderpool.cli.trace.question import TraceTarget
from spiderpool.errors import Refused
from tests.cli.trace_cluster import (
    GATEWAYS,
    NODES,
    POLICIES,
    SERVICE_IP,
    address,
    api,
    cluster,
    coordinator,
    endpoints,
    link,
    nad,
    places,
    pod,
    pool,
    seen,
    server,
    service,
    traced,
)

pytestmark = pytest.mark.unit


# --- pods by their addresses


@pytest.mark.parametrize(
    ("client", "target", "by", "way"),
    [
        ("web", "near", "eth0", ["pod shop/web", "NIC eth0 of node n1", "pod shop/near"]),
        ("web", "far", "eth0", ["pod shop/web", "pod shop/far"]),
        ("web", "second", "eth0", ["pod shop/web", f"router {GATEWAYS['eth0']}", "pod shop/second"]),
        ("two", "second", "net1", ["pod shop/two", "NIC eth1 of node n1", "pod shop/second"]),
    ],
)
def test_pod_to_pod(client: str, target: str, by: str, way: list[str]) -> None:
    found = traced(cluster(), client, f"{address(target)}:80")
    assert (found.outcome, link(found), places(found)) == ("goes through", by, way)
    assert seen(found) == [address(client, by)]
    assert not found.paths[0].asymmetric


def test_the_interface_of_an_address_answers_whatever_the_default_route() -> None:
    found = traced(cluster(), "web", f"{address('two-far', 'net1')}:80")
    (back,) = found.paths[0].way_back
    assert (back.interface, back.source) == ("net1", address("two-far", "net1"))
    assert "rule 1001 from 192.168.0.23/32 lookup 101" in back.rule
    assert not found.paths[0].asymmetric


def test_a_default_route_by_the_second_interface() -> None:
    chosen = pod("two", annotations={"ipam.spidernet.io/default-route-nic": "net1"})
    found = traced(cluster(chosen), "two", "8.8.8.8:53", protocol="UDP")
    first, router, outside = found.paths[0].hops
    assert (first.interface, first.source) == ("net1", address("two", "net1"))
    assert (router.place, outside.place) == (f"router {GATEWAYS['eth1']}", "outside")
    assert found.goes_through
    assert link(traced(cluster(), "two", "8.8.8.8:53")) == "eth0"


def test_ipv6() -> None:
    found = traced(cluster(), "six", f"[{address('dual', place=1)}]:80")
    assert (found.outcome, seen(found)) == ("goes through", ["fd00:1::16"])


def test_a_pod_that_connects_to_itself() -> None:
    found = traced(cluster(), "web", f"{address('web')}:80")
    assert (found.outcome, places(found)) == ("goes through", ["pod shop/web"])


@pytest.mark.parametrize(
    ("words", "place", "reason", "remedy"),
    [
        (("six", "8.8.8.8:53"), "pod shop/six", "it has no IPv4 address", "give the pod an IPv4 address"),
        (("pending", "8.8.8.8:53"), "pod shop/pending", "it is not running (Pending)", "explain pod shop/pending"),
        (("web", "172.31.199.15:80"), "pod shop/pending", "nothing answers at 172.31.199.15", "explain pod"),
        (("web", "172.31.199.77:80"), "the network", "none has it now", "spiderpoolctl who 172.31.199.77"),
        (("web", "10.233.9.9:80"), "node n1", "no Service has 10.233.9.9", "kubectl get services"),
        (("web", "100.100.100.200:80"), "NIC eth0 of node n1", "is the metadata service", "allowedNamespaces"),
    ],
)
def test_what_drops_it(words: tuple[str, str], place: str, reason: str, remedy: str) -> None:
    found = traced(cluster(), *words)
    assert found.outcome == "is dropped"
    assert found.drop is not None
    assert found.drop.place == place
    assert reason in found.drop.reason
    assert remedy in found.drop.remedy


def test_a_pool_without_gateway() -> None:
    objects = cluster(pool("eth0", "eth0", gateway=False))
    found = traced(objects, "web", "8.8.8.8:53")
    assert found.drop is not None
    assert found.drop.reason == "it has no route to 8.8.8.8: no gateway in pool eth0"
    assert "set spec.gateway of pool eth0" in found.drop.remedy
    assert traced(objects, "web", f"{address('far')}:80").goes_through  # on the link


def test_an_answer_without_a_route() -> None:
    found = traced(cluster(pool("eth0", "eth0", gateway=False)), "second", f"{address('far')}:80")
    assert found.drop is not None
    assert found.drop.place == "pod shop/far"
    assert "its answers to 192.168.0.14 have no route" in found.drop.reason


def test_an_address_that_the_eni_does_not_have() -> None:
    found = traced(cluster(server("n1", without=address("web"))), "web", f"{address('far')}:80")
    assert found.drop is not None
    assert found.drop.place == "the cloud's network"
    assert "172.31.199.11 is not registered on ENI eni-n1-eth0" in found.drop.reason


def test_an_address_of_the_server_that_its_eni_does_not_have() -> None:
    objects = cluster(server("n2", without=address("far")))
    for words, options in ((("web",), {}), ((), {"node": "n1"})):
        found = traced(objects, *words, f"{address('far')}:80", **options)
        assert found.drop is not None
        assert found.drop.place == "the cloud's network"
        assert "172.31.199.21 is not registered on ENI eni-n2-eth0 (eth0 of node n2)" in found.drop.reason
        assert "delete pod shop/far" in found.drop.remedy
    assert traced(objects, f"{address('far')}:80", node="n2").goes_through  # by the pair: the cloud sees nothing


def test_what_stays_in_a_nic_needs_no_registration() -> None:
    for name in ("web", "near"):
        found = traced(cluster(server("n1", without=address(name))), "web", f"{address('near')}:80")
        assert found.goes_through


def test_a_balancer_with_a_pod_behind_it_whose_address_is_not_registered() -> None:
    of_pods = service(type="LoadBalancer")
    of_pods.metadata.annotations = {"service.beta.kubernetes.io/backend-type": "eni"}
    objects = cluster(of_pods, endpoints("far"), server("n2", without=address("far")))
    found = traced(objects, "svc/shop/api", outside=True)
    assert found.drop is not None
    assert "the cloud leads nothing to it" in found.drop.reason


def test_answers_by_the_interface_of_another_address() -> None:
    """Without rules for source addresses a pod answers by its default route, whichever address was asked."""
    plain = coordinator()
    assert plain.spec is not None
    plain = replace(plain, spec=replace(plain.spec, tunePodRoutes=False))
    found = traced(cluster(plain), "web", f"{address('two-far', 'net1')}:80")
    assert found.drop is not None
    assert "192.168.0.23 is not registered on ENI eni-n2-eth0" in found.drop.reason
    assert "drops the answers, which leave by eth0" in found.drop.reason
    assert "tunePodRoutes" in found.drop.remedy
    outside_clouds = traced(cluster(plain, servers={}), "web", f"{address('two-far', 'net1')}:80")
    assert (outside_clouds.outcome, outside_clouds.paths[0].asymmetric) == ("goes through", True)


def test_answers_of_a_node_port_by_another_nic() -> None:
    """A node that is not tuned sends answers from its second NIC's address by the first, also those of endpoints."""
    tuned = dataclasses.replace(POLICIES, nodes=dataclasses.replace(POLICIES.nodes, tune_node=True))
    target = f"{NODES['n2']['eth1']}:30080"
    for policy, pods in (("Local", ["far"]), ("Cluster", ["far"]), ("Cluster", ["near"])):
        objects = api(*pods, type="NodePort", externalTrafficPolicy=policy)
        found = traced(cluster(*objects), "web", target)
        assert found.drop is not None
        assert "answers from 192.168.0.2 leave by eth0 and not by eth1" in found.drop.reason
        assert traced(cluster(*objects), "second", target).goes_through  # it is on the link of that NIC
        assert traced(cluster(*objects, policies=tuned), "web", target).goes_through


@pytest.mark.parametrize(("mode", "passes"), [("bridge", True), ("private", False), ("vepa", False)])
def test_macvlan_interfaces_of_one_nic(mode: str, passes: bool) -> None:
    objects = cluster(nad("eth0", "eth0", type="macvlan", mode=mode))
    found = traced(objects, "web", f"{address('near')}:80")
    assert found.goes_through is passes
    assert (f"of mode {mode} on one NIC" in found.drop.reason) if found.drop else passes
    assert traced(objects, "web", f"{address('far')}:80").goes_through


def test_pods_of_an_allowed_namespace_reach_the_metadata_service() -> None:
    allowed = dataclasses.replace(POLICIES, nodes=dataclasses.replace(POLICIES.nodes, metadata_namespaces=("shop",)))
    assert traced(cluster(policies=allowed), "web", "100.100.100.200:80").goes_through
    assert traced(cluster(), "100.100.100.200:80", node="n1").goes_through


def test_the_cloud_is_known_by_what_agents_have_read_of_their_servers() -> None:
    unnamed = dataclasses.replace(POLICIES, nodes=dataclasses.replace(POLICIES.nodes, provider=""))
    assert traced(cluster(policies=unnamed), "web", "100.100.100.200:80").drop is not None
    assert traced(cluster(policies=unnamed, servers={}), "web", "100.100.100.200:80").goes_through


# --- nodes


def test_a_pod_reaches_its_own_node_by_the_pair_and_another_by_its_nic() -> None:
    own = traced(cluster(), "web", f"{NODES['n1']['eth0']}:10250")
    assert (link(own), own.outcome, seen(own)) == ("veth0", "goes through", [address("web")])
    other = traced(cluster(), "web", f"{NODES['n2']['eth0']}:10250")
    assert (link(other), other.outcome) == ("eth0", "goes through")


def test_without_coordinator_a_pod_does_not_reach_its_own_node() -> None:
    bare = pod("web", annotations={"v1.multus-cni.io/default-network": "kube-system/bare"})
    found = traced(cluster(bare), "web", f"{NODES['n1']['eth0']}:10250")
    assert found.drop is not None
    assert "does not reach the node that has the NIC" in found.drop.reason
    found = traced(cluster(bare, service(), endpoints("far")), "web", f"{SERVICE_IP}:80")
    assert found.drop is not None
    assert "where no kube-proxy translates it" in found.drop.reason


def test_a_node_reaches_its_pod_by_the_pair_and_others_by_its_nic() -> None:
    own = traced(cluster(), f"{address('web')}:80", node="n1")
    assert own.paths[0].hops[0].rule == "ipv4 rule 1000 lookup 500"
    assert seen(own) == [NODES["n1"]["eth0"]]
    other = traced(cluster(), f"{address('web')}:80", node="n2")
    assert (link(other), seen(other)) == ("eth0", [NODES["n2"]["eth0"]])


def test_a_pod_in_the_network_of_its_node() -> None:
    found = traced(cluster(), "host", f"{address('far')}:80")
    assert places(found) == ["pod shop/host", "node n2", "pod shop/far"]
    assert seen(found) == [NODES["n2"]["eth0"]]


def test_answers_by_another_nic_than_that_of_their_address() -> None:
    """Where the node is not tuned, a pod's request to the second NIC of another node is answered by the first."""
    found = traced(cluster(), "web", f"{NODES['n2']['eth1']}:22")
    assert found.drop is not None
    assert "leave by eth0 and not by eth1" in found.drop.reason
    tuned = dataclasses.replace(POLICIES, nodes=dataclasses.replace(POLICIES.nodes, tune_node=True))
    found = traced(cluster(policies=tuned), "web", f"{NODES['n2']['eth1']}:22")
    assert found.goes_through
    assert "rule 3000 from 192.168.0.2/32 lookup 1001" in found.paths[0].way_back[0].rule


# --- what is not known, and what is only assumed


def test_a_pod_of_another_plugin() -> None:
    stranger = pod("web")
    stranger.metadata.uid = "another"
    found = traced(cluster(stranger), "web", "8.8.8.8:53")
    assert found.outcome == "is not known to arrive"
    assert "has no SpiderIP" in found.paths[0].unknown
    assert not found.goes_through


def test_network_policies_are_said_to_be_enforced_by_nobody() -> None:
    selecting = NetworkPolicy(
        metadata=ObjectMeta(name="deny", namespace="shop"), spec=NetworkPolicySpec(LabelSelector({"app": "near"}))
    )
    objects = cluster(network_policies=(selecting,))
    (note,) = [each for each in traced(objects, "web", f"{address('near')}:80").notes if "NetworkPolicy" in each]
    assert "shop/deny selects pod shop/near; Spiderpool enforces none" in note
    assert not [each for each in traced(objects, "web", f"{address('far')}:80").notes if "NetworkPolicy" in each]


# --- the question and the answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1:80", ("10.0.0.1", "", "", "80")),
        ("[fd00::1]:53", ("fd00::1", "", "", "53")),
        ("api.shop:80", ("None", "shop", "api", "80")),
        ("api.shop.svc.cluster.local:http", ("None", "shop", "api", "http")),
        ("svc/api", ("None", "", "api", "")),
        ("svc/shop/api:80", ("None", "shop", "api", "80")),
    ],
)
def test_targets(text: str, expected: tuple[str, ...]) -> None:
    found = TraceTarget.parse(text)
    assert (str(found.address), found.namespace, found.service, found.port) == expected


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.1:0", "fd00::1:80", "api:80", "svc/", "svc/shop/", "10.0.0.1:x"])
def test_targets_that_are_none(text: str) -> None:
    with pytest.raises(click.UsageError):
        TraceTarget.parse(text)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("127.0.0.1:80", "127.0.0.1 means the machine itself"),
        ("[::1]:80", "::1 means the machine itself"),
        ("0.0.0.0:80", "0.0.0.0 is no machine's address"),
        ("[::]:80", ":: is no machine's address"),
        ("224.0.0.1:80", "224.0.0.1 is the address of a group"),
        ("[ff02::1]:80", "ff02::1 is the address of a group"),
        ("255.255.255.255:80", "255.255.255.255 is reserved"),
        ("[fe80::1]:80", "fe80::1 is an address of one link"),
        ("[fd00::1%eth0]:80", "fd00::1%eth0 is an address of one link"),
        ("[::ffff:10.0.0.1]:80", "stands for 10.0.0.1"),
    ],
)
def test_targets_that_lead_nowhere_are_refused_in_words(target: str, message: str) -> None:
    for words in (["web", target], ["--from-node", "n1", target]):
        result = CliRunner().invoke(cli, ["trace", *words])
        assert result.exit_code == 2
        assert message in result.output.replace("\n", " ")


def test_a_service_that_is_a_name() -> None:
    named = service(type="ExternalName", clusterIP=None, clusterIPs=None, ports=[], externalName="db.example.com")
    questions: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("web", "api.shop:80"), {}),
        (("svc/api:80",), {"outside": True}),
    ]
    for words, options in questions:
        with pytest.raises(Refused, match=r"it is a name .*for which DNS answers db\.example\.com"):
            traced(cluster(named), *words, **options)


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (("gone", "10.0.0.1:80"), {}, "pod shop/gone does not exist"),
        (("web", "svc/gone:80"), {}, "Service shop/gone does not exist"),
        (("10.0.0.1:80",), {"node": "gone"}, "node gone does not exist"),
        (("web", "svc/api:81"), {}, "its ports are 80/TCP"),
    ],
)
def test_what_does_not_exist(words: tuple[str, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        traced(cluster(*api("near")), *words, **options)


def test_how_it_is_printed() -> None:
    found = traced(cluster(*api("near", "far")), "web", "svc/api:80")
    lines = printed(found, "table", View(width=80)).splitlines()
    assert lines[:6] == [
        f"pod shop/web to svc/api:80/TCP ({SERVICE_IP}:80) goes through",
        "",
        "To 172.31.199.12:8080 (pod shop/near)",
        "  1. pod shop/web: it leaves by veth0, to 172.31.199.1",
        "       from 172.31.199.11; ipv4 rule 32766 lookup 254; route 10.233.0.0/18 via",
        "       172.31.199.1 dev veth0 src 172.31.199.11",
    ]
    assert "Or to 172.31.199.21:8080 (pod shop/far)" in lines
    assert max(map(len, lines)) <= 80
    document = json.loads(printed(found, "json", View()))
    assert [hop["interface"] for hop in document["paths"][1]["hops"]] == ["veth0", "", "eth0", "eth0"]
    assert document["paths"][1]["hops"][2]["masquerade"] is True
    assert [hop["pod"] for hop in document["paths"][1]["hops"]] == ["shop/web", "", "", "shop/far"]
    assert document["goes_through"] is True
    assert printed(found, "name", View()).splitlines() == ["pod/web", "pod/near", "pod/far"]


def test_words_are_completed_before_the_cluster_is_asked() -> None:
    (options,) = [each for each in trace.params if each.name == "words"]
    context = click.Context(trace, obj=None)
    context.params = {"words": ("shop/web",)}
    assert trace_words(context, options, "s") == ["svc/"]
    context.params = {"from_outside": True, "words": ()}
    assert trace_words(context, options, "") == ["svc"]
    context.params = {"from_node": "n1", "words": ()}
    assert trace_words(context, options, "") == ["svc/"]


@pytest.mark.parametrize("words", [[], ["web"], ["web", "10.0.0.1"], ["--from-outside", "web"], ["a", "b", "c:1"]])
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    result = CliRunner().invoke(cli, ["trace", *words])
    assert result.exit_code == 2, result.output
