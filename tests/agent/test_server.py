"""The socket and the CNI executable: whatever comes in, a valid CNI answer comes out and nothing changes."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spiderpool.agent.install import install
from spiderpool.agent.server import MAX_READ
from spiderpool.api.cni import CNICall
from spiderpool.settings import AgentSettings
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.executable import build
from spiderpool_lab.processes import Processes
from tests.support.eventually import eventually
from tests.support.local_agent import LocalAgent, exchange, ipam_call, node_objects

pytestmark = [pytest.mark.control_plane, pytest.mark.timeout(120)]

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/none",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=nobody;K8S_POD_UID=u",
}
CONFIG = b'{"cniVersion":"0.4.0","name":"spiderpool","type":"spiderpool-attach"}'

Shim = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def agent(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAgent]:
    """One agent for all tests of this module."""
    directory = tmp_path_factory.mktemp("agent")
    processes = Processes(directory / "processes")
    with node_objects(control_plane, "n1"):
        agent = LocalAgent(control_plane, processes, directory, "n1")
        agent.start()
        yield agent
        processes.stop_all()


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CNI executable, installed under its names."""
    directory = tmp_path_factory.mktemp("cni")
    bin_dir, conf_dir = directory / "bin", directory / "net.d"
    install(AgentSettings(cni_executable=build(directory), cni_bin_dir=bin_dir, cni_conf_dir=conf_dir))
    return directory / "bin" / "spiderpool-attach"


@pytest.fixture
def shim(agent: LocalAgent, executable: Path) -> Shim:
    """Runs the executable as a container runtime does: exit status and what it printed."""

    def run(stdin: bytes = CONFIG, name: str = "spiderpool-attach", **changes: str) -> tuple[int, dict[str, Any]]:
        environment = {k: v for k, v in (ENVIRONMENT | changes).items() if v}
        done = subprocess.run(
            [executable.with_name(name)],
            input=stdin,
            capture_output=True,
            env={"SPIDERPOOL_SOCKET": str(agent.socket), **environment},
            timeout=30,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}

    return run


def test_the_socket_is_for_root_only(agent: LocalAgent) -> None:
    mode = agent.socket.stat()
    assert stat.S_ISSOCK(mode.st_mode)
    assert (mode.st_mode & 0o777, mode.st_uid) == (0o600, 0)


def test_another_user_is_turned_away_even_if_the_mode_were_wider(agent: LocalAgent) -> None:
    agent.socket.chmod(0o666)
    code = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(b'GET /v1/ipam/healthy HTTP/1.0\\r\\n\\r\\n'); print(s.recv(999).split()[1].decode())"
    )
    directory = agent.socket.parent
    while directory != Path("/tmp"):
        directory.chmod(0o755)
        directory = directory.parent
    done = subprocess.run(["/usr/bin/python3", "-c", code, agent.socket], capture_output=True, text=True, check=True)
    agent.socket.chmod(0o600)
    assert done.stdout.strip() == "403"


def test_version_needs_no_pod(shim: Shim) -> None:
    assert shim(CNI_COMMAND="VERSION") == (
        0,
        {"cniVersion": "0.4.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]},
    )
    assert shim(b"", CNI_COMMAND="VERSION")[1]["cniVersion"] == "1.1.0"


def test_status_is_silent_when_ready(shim: Shim) -> None:
    for name in ("spiderpool-attach", "spiderpool", "coordinator"):
        newest = CONFIG.replace(b"0.4.0", b"1.1.0")
        assert shim(newest, name, CNI_COMMAND="STATUS", CNI_CONTAINERID="", CNI_ARGS="") == (0, {})


@pytest.mark.parametrize(
    ("stdin", "changes", "code", "message"),
    [
        (CONFIG, {"CNI_COMMAND": "DANCE"}, 4, "CNI_COMMAND='DANCE' is none of ADD, DEL"),
        (CONFIG, {"CNI_COMMAND": ""}, 4, "CNI_COMMAND='' is none of"),
        (CONFIG, {"CNI_CONTAINERID": ""}, 4, "ADD needs CNI_CONTAINERID"),
        (CONFIG, {"CNI_NETNS": ""}, 4, "ADD needs CNI_NETNS"),
        (CONFIG, {"CNI_ARGS": ""}, 4, "K8S_POD_NAMESPACE"),
        (CONFIG, {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=../x"}, 4, "K8S_POD_NAME='../x'"),
        (CONFIG, {"CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;MAC=0a:00:00:00:00:01"}, 4, "holds MAC"),
        (CONFIG, {"CNI_NETNS": "/proc/self/ns/net"}, 8, "the node's own network namespace"),
        (b'{"cniVersion":"0.4.0","type":"t"}', {}, 7, "the network's name ''"),
        (b'{"cniVersion":"0.4.0","name":"a b","type":"t"}', {}, 7, "the network's name 'a b'"),
        (b'{"cniVersion":"0.3.1","name":"n","type":"t"}', {"CNI_COMMAND": "CHECK"}, 1, "CHECK came with CNI 0.4.0"),
        (CONFIG, {}, 11, "pod default/nobody does not exist"),
        (b"garbage", {}, 6, "not JSON"),
        (b"", {}, 6, "not JSON"),
        (b'{"cniVersion":"0.4.0","name":"n","type":"t","masterr":"eth0"}', {}, 2, "unknown field 'masterr'"),
        (b'{"cniVersion":"7.0.0","name":"n","type":"t"}', {}, 1, "cniVersion '7.0.0' is not supported"),
        (b"{" + b" " * (10 << 20) + b"}", {}, 6, "larger than 1 MiB"),
    ],
)
def test_wrong_calls_get_a_cni_error(
    shim: Shim, stdin: bytes, changes: dict[str, str], code: int, message: str
) -> None:
    status, answer = shim(stdin, **changes)
    assert (status, answer["code"]) == (1, code)
    assert message in answer["msg"]


def test_what_lies_under_an_interface_is_made_before_it(shim: Shim) -> None:
    def made(command: str = "ADD", **keys: Any) -> tuple[int, dict[str, Any]]:
        config = {"cniVersion": "0.3.1", "name": "n", "type": "ifacer", "interfaces": ["lo"]} | keys
        return shim(json.dumps(config).encode(), "ifacer", CNI_COMMAND=command)

    assert made() == (0, {"cniVersion": "0.3.1"})
    assert made(prevResult={"ips": []}) == (0, {"cniVersion": "0.3.1", "ips": []})
    assert made("DEL") == (0, {})
    for keys, code, words in (
        ({"interfaces": []}, 7, "names no interfaces"),
        ({"interfaces": ["absent0"]}, 101, "absent0 does not exist"),
        ({"vlanID": 5000}, 7, "vlanID 5000"),
    ):
        status, answer = made(**keys)
        assert (status, answer["code"], words in answer["msg"]) == (1, code, True)


def test_an_error_comes_in_the_asked_version(shim: Shim) -> None:
    assert shim()[1]["cniVersion"] == "0.4.0"


def test_del_of_what_never_was_succeeds(shim: Shim) -> None:
    assert shim(CNI_COMMAND="DEL", CNI_NETNS="") == (0, {})
    assert shim(name="spiderpool", CNI_COMMAND="DEL") == (0, {})


async def test_an_unknown_plugin_name_is_told(agent: LocalAgent) -> None:
    call = ipam_call("ADD", "default", "p", "u")
    answer = await agent.call(type(call)("bridge", call.environment, call.stdin))
    assert (answer["code"], "serves no plugin named 'bridge'" in answer["msg"]) == (2, True)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 100,
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST /v1/cni HTTP/1.0\r\nContent-Length: -1\r\n\r\n",
        b"\xff\xfe" * 5000,
    ],
)
async def test_garbage_on_the_socket_hurts_nobody(agent: LocalAgent, garbage: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(agent.socket))
    writer.write(garbage)
    writer.write_eof()
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()
    status, _ = await exchange(agent.socket, b"", "GET", "/v1/ipam/healthy")
    assert status == 200


async def test_a_body_without_end_is_not_read_to_its_end(agent: LocalAgent) -> None:
    reader, writer = await asyncio.open_unix_connection(str(agent.socket))
    writer.write(b"POST /v1/cni HTTP/1.1\r\nHost: n\r\nContent-Length: %d\r\n\r\n" % (4 * MAX_READ))
    answer = asyncio.create_task(reader.readline())
    sent = 0
    with suppress(ConnectionError):
        while not answer.done() and sent < 4 * MAX_READ:
            writer.write(bytes(1 << 20))
            sent += 1 << 20
            await writer.drain()
            await asyncio.sleep(0)
    async with asyncio.timeout(30):
        assert b" 500 " in await answer
    assert MAX_READ < sent < 2 * MAX_READ
    writer.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=400))
async def test_any_body_gets_a_cni_answer(agent: LocalAgent, body: bytes) -> None:
    status, answer = await exchange(agent.socket, body)
    assert status == 500
    assert {"cniVersion", "code", "msg"} <= json.loads(answer).keys()


def test_the_executable_without_an_agent_says_try_again(executable: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [executable], input=CONFIG, capture_output=True, env={"SPIDERPOOL_SOCKET": str(tmp_path / "no")}, check=False
    )
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["code"]) == (1, 11)
    assert "spiderpool-agent is not running on this node" in answer["msg"]


UNREACHABLE = """
apiVersion: v1
kind: Config
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: "https://127.0.0.1:9"}}]
users: [{name: nobody, user: {token: none}}]
"""
"""A kubeconfig of an API server on port 9, discard, where nothing listens."""


async def test_del_succeeds_after_a_start_without_an_api_server(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "nowhere.yaml"
    kubeconfig.write_text(UNREACHABLE)
    processes = Processes(tmp_path / "processes")
    agent = LocalAgent(kubeconfig, processes, tmp_path, "n2")
    agent.launch()
    try:
        await eventually(agent.socket.exists, timeout=30)
        begun = time.monotonic()
        ended = [ipam_call("DEL", "default", "web", "u"), plugin_call("spiderpool-attach"), plugin_call("coordinator")]
        *answers, add = await asyncio.gather(*map(agent.call, [*ended, ipam_call("ADD", "default", "web", "u")]))
        assert answers == [{}] * len(ended)
        assert add["code"] == 11
        body = json.dumps({"containerID": "c", "ifName": "eth0", "podNamespace": "a", "podName": "b", "podUID": ""})
        assert (await exchange(agent.socket, body.encode(), "DELETE", "/v1/ipam/ip"))[0] == 200
        assert time.monotonic() - begun < 15
        assert "left to garbage collection" in agent.log.read_text()
    finally:
        processes.stop_all()


def plugin_call(plugin: str) -> CNICall:
    """DEL of a sandbox that is gone."""
    return CNICall(plugin, ENVIRONMENT | {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "gone"}, CONFIG)
