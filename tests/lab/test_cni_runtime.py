"""Plugins are called as the CNI specification and containerd say."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spiderpool.api.cni import PORT_MAPPINGS
from spiderpool_lab.cni_runtime import (
    POD_ANNOTATIONS,
    CniFailure,
    CniRuntime,
    Sandbox,
    has_status,
    pod_addresses,
    spoken_version,
)
from spiderpool_lab.kubelet_pod import KubeletPod, host_ports

pytestmark = pytest.mark.unit

SANDBOX = Sandbox("default", "web", "uid-1", {"colour": "green"}, "c" * 64, Path("/run/netns/cni-1"))

RECORDER = """#!/bin/sh
request=$(cat)
printf '{"command": "%s", "netns": "%s", "args": "%s", "path": "%s", "request": %s}\\n' \\
    "$CNI_COMMAND" "$CNI_NETNS" "$CNI_ARGS" "$CNI_PATH" "$request" >>"$(dirname "$0")/calls"
[ "$CNI_COMMAND" = DEL ] || echo '{"cniVersion": "1.0.0", "from": "'"$(basename "$0")"'"}'
"""


@pytest.fixture
def runtime(tmp_path: Path) -> CniRuntime:
    return CniRuntime(tmp_path, tmp_path, timeout=5.0)


def plugin(runtime: CniRuntime, name: str, script: str = RECORDER) -> dict[str, Any]:
    file = runtime.executables / name
    file.write_text(script)
    file.chmod(0o755)
    return {"type": name}


def network(*plugins: dict[str, Any]) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "plugins": list(plugins)}


def calls(runtime: CniRuntime) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (runtime.executables / "calls").read_text().splitlines()]


async def test_add_hands_each_result_to_the_next_plugin(runtime: CniRuntime) -> None:
    net = network({**plugin(runtime, "one"), "mtu": 1400}, plugin(runtime, "two"))
    assert await runtime.add(net, SANDBOX) == {"cniVersion": "1.0.0", "from": "two"}
    first, second = calls(runtime)
    assert first["request"] == {"cniVersion": "1.0.0", "name": "net", "type": "one", "mtu": 1400}
    assert second["request"]["prevResult"] == {"cniVersion": "1.0.0", "from": "one"}
    assert (first["command"], first["netns"], first["path"]) == ("ADD", "/run/netns/cni-1", str(runtime.executables))
    assert dict(entry.split("=") for entry in first["args"].split(";")) == {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": "default",
        "K8S_POD_NAME": "web",
        "K8S_POD_INFRA_CONTAINER_ID": "c" * 64,
        "K8S_POD_UID": "uid-1",
    }


def test_arguments_are_in_any_order_which_a_seed_repeats() -> None:
    def orders(seed: int) -> list[str]:
        order = random.Random(seed)
        return [SANDBOX.environment("ADD", netns=True, order=order)["CNI_ARGS"] for _ in range(8)]

    assert len({*orders(1)}) > 1
    assert orders(1) == orders(1) != orders(2)


async def test_delete_goes_backwards_with_the_last_result(runtime: CniRuntime) -> None:
    net = network(plugin(runtime, "one"), plugin(runtime, "two"))
    await runtime.delete(net, SANDBOX, {"from": "two"})
    await runtime.delete(net, SANDBOX, None, netns=False)
    found = [(call["request"]["type"], call["netns"], call["request"].get("prevResult")) for call in calls(runtime)]
    given = {"from": "two"}
    assert found == [
        ("two", "/run/netns/cni-1", given),
        ("one", "/run/netns/cni-1", given),
        ("two", "", None),
        ("one", "", None),
    ]


async def test_annotations_go_to_plugins_that_ask_for_them(runtime: CniRuntime) -> None:
    net = network({**plugin(runtime, "one"), "capabilities": {POD_ANNOTATIONS: True}})
    await runtime.add(net, SANDBOX)
    assert calls(runtime)[0]["request"]["runtimeConfig"] == {POD_ANNOTATIONS: {"colour": "green"}}


async def test_host_ports_go_to_plugins_that_map_them(runtime: CniRuntime) -> None:
    ports = [
        {"containerPort": 80, "hostPort": 8080},
        {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "10.0.0.1"},
        {"containerPort": 9090},
    ]
    container = {"name": "web", "ports": ports}
    pod = msgspec.convert({"metadata": {"name": "web"}, "spec": {"containers": [container]}}, KubeletPod)
    mapper = {**plugin(runtime, "one"), "capabilities": {PORT_MAPPINGS: True, POD_ANNOTATIONS: False}}
    sandbox = msgspec.structs.replace(SANDBOX, ports=host_ports(pod))
    await runtime.add(network(mapper, plugin(runtime, "two")), sandbox)
    first, second = (call["request"] for call in calls(runtime))
    assert first["runtimeConfig"]["portMappings"] == [
        {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
        {"HostPort": 53, "ContainerPort": 53, "Protocol": "udp", "HostIP": "10.0.0.1"},
    ]
    assert "runtimeConfig" not in second


async def test_status_is_called_if_the_list_offers_it(runtime: CniRuntime) -> None:
    old = network(plugin(runtime, "one"))
    await runtime.status(old)
    await runtime.status({**old, "cniVersions": ["1.0.0", "1.1.0"]})
    (call,) = calls(runtime)
    assert (call["command"], call["netns"], call["args"]) == ("STATUS", "", "")
    assert call["request"] == {"cniVersion": "1.1.0", "name": "net", "type": "one"}


@pytest.mark.parametrize(
    ("version", "versions", "spoken"),
    [
        ("1.0.0", [], "1.0.0"),
        ("1.0.0", ["0.4.0", "1.1.0"], "1.1.0"),
        ("1.0.0", ["1.0.0", "2.0.0"], "1.0.0"),
        ("2.0.0", [], "2.0.0"),
    ],
)
def test_the_newest_version_that_is_known_is_spoken(version: str, versions: list[str], spoken: str) -> None:
    offered = {"cniVersion": version, "cniVersions": versions}
    assert spoken_version(offered) == spoken
    assert has_status(offered) == (spoken >= "1.1.0")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('echo \'{"code": 11, "msg": "pool is full", "details": "5 of 5"}\'; exit 1', r"pool is full; 5 of 5"),
        ("echo broken >&2; exit 2", r"netplugin failed with code 2: broken"),
        ("echo nonsense", r"its answer is not a JSON object"),
    ],
)
async def test_a_failing_plugin_is_quoted(runtime: CniRuntime, script: str, words: str) -> None:
    net = network(plugin(runtime, "one", f"#!/bin/sh\ncat >/dev/null\n{script}\n"))
    with pytest.raises(CniFailure, match=rf'^plugin type="one" failed \(add\): {words}$'):
        await runtime.add(net, SANDBOX)


async def test_a_plugin_that_hangs_or_is_missing_fails(tmp_path: Path) -> None:
    runtime = CniRuntime(tmp_path, tmp_path, timeout=0.1)
    hanging = network(plugin(runtime, "one", "#!/bin/sh\nexec sleep 60\n"))
    with pytest.raises(CniFailure, match=r"no answer within 0\.1 s"):
        await runtime.add(hanging, SANDBOX)
    with pytest.raises(CniFailure, match="failed to find plugin"):
        await runtime.add(network({"type": "absent"}), SANDBOX)


def test_the_first_readable_list_by_name_counts(runtime: CniRuntime) -> None:
    assert runtime.network() is None
    (runtime.configuration / "20-b.conflist").write_text(json.dumps(network({"type": "b"})))
    (runtime.configuration / "10-a.conflist").write_text('{"half-written')
    (runtime.configuration / "00-c.conf").write_text(json.dumps({"type": "c"}))
    found = runtime.network()
    assert found is not None
    assert found["plugins"] == [{"type": "b"}]


def test_pod_addresses_are_those_of_its_own_eth0() -> None:
    result = {
        "interfaces": [{"name": "eth0"}, {"name": "eth0", "sandbox": "/x"}, {"name": "net1", "sandbox": "/x"}],
        "ips": [
            {"address": "10.0.0.1/24", "interface": 0},
            {"address": "10.0.0.2/24", "interface": 1},
            {"address": "fd00::2/64", "interface": 1},
            {"address": "10.0.1.2/24", "interface": 2},
        ],
    }
    assert pod_addresses(result) == ["10.0.0.2", "fd00::2"]
    assert pod_addresses({"ips": [{"address": "10.0.0.3/24"}]}) == ["10.0.0.3"]
