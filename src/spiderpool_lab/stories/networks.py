"""Stories of networks: several interfaces, one family or two, the host's network, a chain of reference plugins."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any

from spiderpool_lab import binaries
from spiderpool_lab.facts import of_version
from spiderpool_lab.node import CNI_CONFIGURATION, CNI_EXECUTABLES
from spiderpool_lab.stories.stage import Stage, container, pod
from spiderpool_lab.stories.story import expect, story

_NETWORKS = "k8s.v1.cni.cncf.io/networks"
_POOLS = "ipam.spidernet.io/ippool"
_LIST = f"{CNI_CONFIGURATION}/00-spiderpool.conflist"
_HOST_PORT = 8088
_CLASSIC_ADDRESS = "172.31.200.100"
"""An address that no pool of the lab has."""


_OTHER_USER = """
unshare --user --map-root-user --net sleep 600 >/dev/null 2>&1 &
echo $! > /run/tmp/other-user
sleep 1
touch {netns}
mount --bind /proc/$!/ns/net {netns}
"""
_NO_OTHER_USER = """
umount {netns} || true
rm -f {netns}
kill $(cat /run/tmp/other-user) || true
"""
_PING_ALL = """
for address in {addresses}; do
    nsenter --net={netns} ip -brief address show to "$address" | grep -q "$address" || echo "$address"
done
"""


@story()
def several_networks(stage: Stage) -> None:
    """Pods with two and three networks."""
    both = {"two": ["ipvlan-eth1"], "three": ["ipvlan-eth1", "ipvlan-eth0"]}
    for name, networks in both.items():
        notes = {_NETWORKS: ", ".join(f"kube-system/{network}" for network in networks)}
        stage.apply(pod(name, stage.nodes[0], annotations=notes))
    stage.ready(*both)
    for name, networks in both.items():
        records = stage.records(name)
        expect(len(records) == len(networks) + 1, f"{name} has an address on each interface: {records}")
        everything = {address for found in records.values() for address in found}
        wrong = stage.reach(stage.nodes[1], everything)
        expect(not wrong, f"{name} is reached by every interface: {wrong}")
    stage.serves(*both)


@story()
def families(stage: Stage) -> None:
    """Pods with both families, IPv4 alone and IPv6 alone."""
    pools = {version: _pools(stage, version) for version in (4, 6)}
    only = {f"only-{version}": {_POOLS: json.dumps({f"ipv{version}": names})} for version, names in pools.items()}
    stage.apply(
        pod("both", stage.nodes[0]), *(pod(name, stage.nodes[0], annotations=notes) for name, notes in only.items())
    )
    stage.ready("both", *only)
    versions = {
        name: [len(of_version(version, stage.addresses(name))) for version in (4, 6)] for name in ("both", *only)
    }
    expect(versions == {"both": [1, 1], "only-4": [1, 0], "only-6": [0, 1]}, f"IPv4, IPv6: {versions}")
    stage.serves("both", *only)


def _pools(stage: Stage, version: int) -> list[str]:
    """The pools of the first node's eth0 in one family."""
    node = stage.nodes[0]
    specs = {pool["metadata"]["name"]: pool["spec"] for pool in stage.cluster.objects("spiderippools")}
    return [
        name
        for name, spec in specs.items()
        if spec.get("ipVersion") == version
        and node in spec.get("nodeName", [])
        and "eth0" in str(spec.get("multusName"))
    ]


@story()
def host_network(stage: Stage) -> None:
    """A pod on the host's network has the node's addresses, and no CNI call."""
    server = {**container(), "ports": [{"containerPort": 9080}]}
    stage.apply(pod("host", stage.nodes[0], host_network=True, containers=[server]))
    stage.ready("host")
    own = stage.cluster.fabric.topology.node(stage.nodes[0]).enis[0].own_addresses
    expect(stage.addresses("host") == [*own], f"its addresses are the node's: {stage.addresses('host')}")
    expect(not stage.shapes("host"), f"no call: {stage.shapes('host')}")
    stage.serves("host", port=9080)


@story()
def host_port(stage: Stage) -> None:
    """A hostPort is reached by the addresses of the node, and closed when its pod is gone."""
    node = stage.cluster.fabric.topology.node(stage.nodes[0])
    mapped = {**container(), "ports": [{"containerPort": 80, "hostPort": _HOST_PORT}]}
    stage.apply(pod("web", node.name, containers=[mapped]))
    stage.ready("web")
    wrong = stage.reach(stage.nodes[1], node.enis[0].own_addresses, port=_HOST_PORT)
    expect(not wrong, f"the other node reaches it: {wrong}")
    stage.delete("web")
    left = stage.reach(stage.nodes[1], node.enis[0].own_addresses, port=_HOST_PORT)
    expect(len(left) == len(node.enis[0].own_addresses), "nobody answers after its pod")


@story(own_kernel=True)
def user_namespace(stage: Stage) -> None:
    """An ADD into a network namespace that belongs to another user namespace, called by hand, and its DEL."""
    node, netns = stage.nodes[0], "/run/netns/of-another-user"
    gated = pod("gated", schedulingGates=[{"name": "example.com/never"}])  # no kubelet makes a sandbox for it
    stage.apply(gated)
    try:
        stage.run(node, _OTHER_USER.format(netns=netns))
        call = stage.plugin_call("gated", stage.pod("gated")["metadata"]["uid"])
        result = json.loads(stage.call_plugin(node, "ADD", call, netns=netns))
        addresses = [entry["address"].partition("/")[0] for entry in result["ips"]]
        expect(addresses, f"addresses: {result}")
        wrong = stage.run(node, _PING_ALL.format(netns=netns, addresses=" ".join(addresses)))
        expect(not wrong, f"the namespace has its addresses: {wrong}")
        stage.call_plugin(node, "DEL", call, netns=netns)
        expect("eth0" not in stage.run(node, f"nsenter --net={netns} ip -brief link"), "DEL removes the interface")
    finally:
        stage.run(node, _NO_OTHER_USER.format(netns=netns))
    stage.delete("gated")
    stage.free("gated", timeout=30)


@story()
def classic_chain(stage: Stage) -> None:
    """The runtime itself executes the reference plugin ipvlan with ipam spiderpool, and coordinator."""
    node, eni = stage.nodes[0], stage.cluster.fabric.topology.nodes[0].enis[0]
    own, fabric, plane = stage.run(node, f"cat {_LIST}"), stage.cluster.fabric, stage.cluster.plane
    with ExitStack() as undo:  # each, also if another fails
        undo.callback(stage.wait, "the agent's own list", lambda: stage.run(node, f"cat {_LIST}") == own)
        fabric.register(eni, _CLASSIC_ADDRESS)
        undo.callback(fabric.unregister, eni, _CLASSIC_ADDRESS)
        plane.apply(json.dumps(_classic_pool(eni.vswitch.subnet, eni.vswitch.gateway, node)))
        undo.callback(plane.kubectl, "delete", "spiderippool", "classic", "--timeout=50s")
        undo.callback(stage.run, node, f"rm -f {CNI_EXECUTABLES}/ipvlan")
        undo.callback(stage.restart, node, "agent")  # which writes its list
        chain = json.dumps(_classic_list())
        stage.run(node, f"cp {binaries.cni_plugins()}/ipvlan {CNI_EXECUTABLES}; echo '{chain}' > {_LIST}")
        time.sleep(3)
        stage.apply(pod("web", node))
        stage.ready("web")
        expect(stage.addresses("web") == [_CLASSIC_ADDRESS], f"the pool's address: {stage.addresses('web')}")
        called = {call.plugin for call in stage.calls("web")}
        expect({"spiderpool", "coordinator"} <= called, f"the chain is called: {called}")
        stage.serves("web")
        stage.delete("web")
        stage.free("web", timeout=15)


def _classic_pool(subnet: str, gateway: str, node: str) -> dict[str, Any]:
    spec = {"subnet": subnet, "ips": [_CLASSIC_ADDRESS], "gateway": gateway, "nodeName": [node]}
    kind = {"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool"}
    return {**kind, "metadata": {"name": "classic"}, "spec": spec}


def _classic_list() -> dict[str, Any]:
    ipvlan = {
        "type": "ipvlan",
        "master": "eth0",
        "mode": "l2",
        "ipam": {"type": "spiderpool", "default_ipv4_ippool": ["classic"]},
    }
    return {"cniVersion": "1.0.0", "name": "classic", "plugins": [ipvlan, {"type": "coordinator"}]}
