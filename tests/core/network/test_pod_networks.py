"""Which network each interface of a pod is on."""

from __future__ import annotations

import pytest

from spiderpool.api.decoding import LONGEST
from spiderpool.core.network.pod_networks import (
    RequestedNetwork,
    check_isolation,
    check_supported,
    default_route_of,
    first_network,
    further_networks,
    gateways_of,
    interface_networks,
    networks_of,
)
from spiderpool.errors import BadConfig, Refused

pytestmark = pytest.mark.unit

FIRST = "v1.multus-cni.io/default-network"
FURTHER = "k8s.v1.cni.cncf.io/networks"


@pytest.mark.parametrize(
    ("annotation", "cluster", "network"),
    [
        ("", "ipvlan", "kube-system/ipvlan"),
        ("", "other/ipvlan", "other/ipvlan"),
        ("", None, None),
        ("mine", "other/ipvlan", "kube-system/mine"),
        ("ns/mine@eth0", None, "ns/mine"),
        ('[{"name": "mine", "namespace": "ns"}]', None, "ns/mine"),
    ],
)
def test_the_network_of_the_first_interface(annotation: str, cluster: str | None, network: str | None) -> None:
    found = first_network({FIRST: annotation} if annotation else {}, cluster, "kube-system")
    assert found == (RequestedNetwork(network, "eth0") if network else None)


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("", []),
        ("a", [("default/a", "net1")]),
        ("a, ns/b@eth5 ,c", [("default/a", "net1"), ("ns/b", "eth5"), ("default/c", "net3")]),
        ('{"name": "a"}', [("default/a", "net1")]),
        (
            '[{"name": "a", "ips": ["10.0.0.1"]}, {"name": "b", "namespace": "ns", "interfaceRequest": "eth5"}]',
            [("default/a", "net1"), ("ns/b", "eth5")],
        ),
    ],
)
def test_the_networks_of_further_interfaces(text: str, networks: list[tuple[str, str]]) -> None:
    found = further_networks({FURTHER: text}, "default")
    assert [(each.network, each.interface) for each in found] == networks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,,b", "holds ''; write"),
        (",".join(["a"] * 33), "names 33 networks; at most 32"),
        ("a" * (LONGEST + 1), f"has {LONGEST + 1} characters; at most {LONGEST}"),
        ('{"name": "a", "ips": [' + ",".join(['"::1"'] * 33) + "]}", "ips: 33 addresses; at most 32"),
        ("/a", "holds '/a'"),
        ("x/y/z", "holds 'x/y/z'"),
        ("a@eth1,b@eth1", "asks for interface eth1 twice"),
        ("a@a-name-that-is-too-long", "write at most 15 characters"),
        ("a@eth0@", "asks for interface 'eth0@'"),
        ("a@", "holds 'a@'; write"),
        ('[{"name": "a", "interface": "."}]', "asks for interface '.'"),
        ('[{"namespace": "a"}]', "missing required field `name`"),
        ("[", "is wrong"),
    ],
)
def test_wrong_annotations_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadConfig, match=message) as raised:
        further_networks({FURTHER: text}, "default")
    assert FURTHER in str(raised.value)


def test_only_one_default_network() -> None:
    with pytest.raises(BadConfig, match="must name one network, not 2"):
        first_network({FIRST: "a,b"}, None, "kube-system")


def test_interfaces_by_name() -> None:
    known = interface_networks({FIRST: "a", FURTHER: "b,c@eth7"}, "default", None, "kube-system")
    assert [known.network(each) for each in ("eth0", "net1", "eth7", "net2")] == [
        "kube-system/a",
        "default/b",
        "default/c",
        None,
    ]
    assert [known.position(each) for each in ("eth0", "net1", "eth7", "net2")] == [0, 1, 2, None]
    assert interface_networks({}, "default", None, "kube-system").network("eth0") is None


def test_every_key_of_the_json_form() -> None:
    text = """[{"name": "a", "namespace": "ns", "interface": "data0", "mac": "0a:00:00:00:00:01",
        "ips": ["10.0.0.7/24", "fd00::7"], "default-route": ["10.0.0.1"], "infiniband-guid": "c2:11",
        "portMappings": [{"hostPort": 80, "containerPort": 8080}], "bandwidth": {"ingressRate": 1},
        "deviceID": "0000:03:02.1", "cni-args": {"k": "v"}, "ipam-claim-reference": "x"}]"""
    assert further_networks({FURTHER: text}, "default") == (
        RequestedNetwork(
            "ns/a",
            "data0",
            mac="0a:00:00:00:00:01",
            ips=("10.0.0.7", "fd00::7"),
            gateways=("10.0.0.1",),
            capabilities={
                "portMappings": [{"hostPort": 80, "containerPort": 8080}],
                "bandwidth": {"ingressRate": 1},
                "deviceID": "0000:03:02.1",
                "infinibandGUID": "c2:11",
            },
            cni_args={"k": "v"},
        ),
    )


def test_all_networks_of_a_pod() -> None:
    found = networks_of({FURTHER: "b@x0"}, "default", "a", "kube-system")
    assert [(each.network, each.interface) for each in found] == [("kube-system/a", "eth0"), ("default/b", "x0")]
    assert networks_of({FIRST: "a@x9"}, "default", None, "ns", "eth9") == (RequestedNetwork("ns/a", "eth9"),)
    with pytest.raises(Refused, match="names no network and the cluster has no default"):
        networks_of({}, "default", None, "kube-system")
    with pytest.raises(BadConfig, match="asks for eth0, which is the pod's first interface"):
        networks_of({FURTHER: "b@eth0"}, "default", "a", "kube-system")


def wants(*routes: str | None) -> str:
    elements = (f'{{"name": "n{index}"{"" if each is None else chosen(each)}}}' for index, each in enumerate(routes))
    return f"[{', '.join(elements)}]"


def chosen(gateways: str) -> str:
    return f', "default-route": [{gateways}]'


def test_one_network_may_have_the_default_route() -> None:
    def default_route(*routes: str | None) -> RequestedNetwork | None:
        return default_route_of(networks_of({FURTHER: wants(*routes)}, "default", "a", "kube-system"))

    assert default_route(None, None) is None
    by_its_own = default_route(None, "")
    assert by_its_own is not None
    assert (by_its_own.interface, by_its_own.gateways) == ("net2", ())
    dual = default_route('"10.0.0.1", "fd00::1"', None)
    assert dual is not None
    assert (dual.interface, dual.gateways) == ("net1", ("10.0.0.1", "fd00::1"))
    with pytest.raises(BadConfig, match=r"several networks \(default/n0, default/n1\)"):
        default_route("", "")
    with pytest.raises(BadConfig, match="names 2 IPv4 gateways"):
        default_route('"10.0.0.1", "10.0.0.2"')
    with pytest.raises(BadConfig, match="default-route: 'router' is not an IP address"):
        default_route('"router"')


def test_isolated_namespaces() -> None:
    further = further_networks({FURTHER: "mine,default/shared,other/theirs"}, "ns")
    check_isolation("ns", further, False, ())
    check_isolation("ns", further[:2], True, ("default",))
    with pytest.raises(Refused, match=r"other/theirs belongs to another namespace.*of ns, or of default"):
        check_isolation("ns", further, True, ("default",))
    with pytest.raises(Refused, match="default/shared belongs"):
        check_isolation("ns", further[:2], True, ())


def test_all_requests_by_the_names_of_capabilities() -> None:
    plain = RequestedNetwork("ns/a", "net1")
    assert plain.runtime_config() == {}
    check_supported(plain)
    full = RequestedNetwork("ns/a", "net1", mac="0a:00:00:00:00:01", ips=("10.0.0.7",), capabilities={"deviceID": "d"})
    assert full.runtime_config() == {"deviceID": "d", "mac": "0a:00:00:00:00:01", "ips": ["10.0.0.7"]}


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (RequestedNetwork("ns/a", "net1", capabilities={"bandwidth": {}}), "bandwidth"),
        (RequestedNetwork("ns/a", "net1", cni_args={"k": "v"}), "cni-args"),
    ],
)
def test_what_only_executed_plugins_do(network: RequestedNetwork, name: str) -> None:
    with pytest.raises(BadConfig, match=f"ns/a is made by the agent itself, which does not do {name}: remove it"):
        check_supported(network)


def test_gateways_of_the_default_route() -> None:
    first, second = RequestedNetwork("ns/a", "eth0"), RequestedNetwork("ns/b", "net1", gateways=())
    given = ("10.0.0.1",)
    assert gateways_of(first, None, given) == given
    assert gateways_of(first, second, given) == ()
    assert gateways_of(second, second, given) == given
    named = RequestedNetwork("ns/b", "net1", gateways=("10.0.0.9",))
    assert gateways_of(named, named, given) == ("10.0.0.9",)
