from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from spiderpool.errors import BadConfig
from spiderpool_lab import binaries, cluster, images, pod_servers
from spiderpool_lab.archives import unpack
from spiderpool_lab.pod_servers import PodIdentity
from spiderpool_lab.ports import free_ports
from spiderpool_lab.processes import WITH_PARENT
from tests.support.eventually import wait_until


@pytest.mark.unit
def test_an_unknown_image_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"example.com/x:1 is no image that the lab can make"):
        images.archives(["example.com/x:1"])


@pytest.mark.unit
def test_every_name_stands_once_and_the_demo_can_be_made() -> None:
    names = [name for image in images.IMAGES for name in image.names]
    assert len(names) == len({*names})
    assert {*images.DEMO} <= {*names}


@pytest.mark.unit
def test_the_manifest_of_coredns_names_the_image_that_is_built() -> None:
    assert f"image: {images.COREDNS}\n" in cluster.COREDNS.read_text()


@pytest.mark.unit
def test_an_archive_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (made,) = images.archives([images.PAUSE, "registry.k8s.io/pause:3.9"])
    before = made.stat().st_ino
    assert images.archives([images.PAUSE]) == [made]
    assert made.stat().st_ino == before
    assert not [*(tmp_path / "spiderpool/images").glob("making-*")]


CRI_PLUGINS = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]


@contextmanager
def containerd(folder: Path) -> Iterator[list[str]]:
    """A containerd of its own, which runs nothing; yields the command of its client."""
    address = folder / "containerd.sock"
    (folder / "config.toml").write_text(
        f'version = 3\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        f"disabled_plugins = {CRI_PLUGINS}\n"
        f'[grpc]\naddress = "{address}"\n'
    )
    command = [*WITH_PARENT, str(binaries.find("containerd")), "--config", str(folder / "config.toml")]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until(address.exists, "containerd listens", timeout=20)
            yield [str(binaries.find("ctr")), "--address", str(address), "--namespace", "k8s.io"]
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.mark.lab
def test_containerd_imports_the_images_of_the_demo(tmp_path: Path) -> None:
    names = [images.PAUSE, images.SERVER]
    with containerd(tmp_path) as ctr:
        for archive in images.archives(names):
            command = [*ctr, "images", "import", str(archive)]
            subprocess.run(command, check=True, timeout=60, capture_output=True)
        listed = subprocess.run([*ctr, "images", "ls", "-q"], check=True, timeout=20, capture_output=True, text=True)
        checked = subprocess.run([*ctr, "images", "check"], check=True, timeout=20, capture_output=True, text=True)
    assert {*names, "registry.k8s.io/pause:3.9"} <= {*listed.stdout.split()}
    lines = checked.stdout.splitlines()[1:]
    assert len(lines) == 4
    assert all(" complete " in line and line.endswith("true") for line in lines), checked.stdout


@pytest.fixture(scope="module")
def server_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file tree of the servers' image, which has all of the busybox image, too."""
    folder = tmp_path_factory.mktemp("tree")
    (archive,) = images.archives([images.SERVER])
    with tarfile.open(archive) as opened:
        (entry,) = json.loads(blob(opened, "index.json").read())["manifests"]
        for layer in json.loads(blob(opened, path_of(entry)).read())["layers"]:
            with tarfile.open(fileobj=blob(opened, path_of(layer))) as tree:
                unpack(tree, folder, "tar")
    return folder


def path_of(descriptor: dict[str, str]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def blob(archive: tarfile.TarFile, path: str) -> IO[bytes]:
    content = archive.extractfile(path)
    assert content
    return content


def inside(tree: Path, *command: str) -> str:
    """What a command prints in a file tree."""
    done = subprocess.run(["chroot", str(tree), *command], check=True, timeout=20, capture_output=True, text=True)
    return done.stdout


@contextmanager
def serving(tree: Path) -> Iterator[tuple[int, int]]:
    """The image's server on a TCP and a UDP port that are free."""
    ports = free_ports(2)
    command = [*WITH_PARENT, "chroot", str(tree), "/pod-server", *map(str, ports)]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: is_open(ports[0]), "the server listens", timeout=10)
            yield ports[0], ports[1]
        finally:
            process.terminate()
            assert process.wait(timeout=10) == 0


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def token(claims: Mapping[str, object]) -> str:
    return ".".join(map(encoded, ({"alg": "none"}, claims, {})))


def encoded(part: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).decode().rstrip("=")


@pytest.fixture
def pod_tree(server_tree: Path) -> Path:
    """The file tree with the token of pod ``default/web`` on node ``n1``."""
    claims = {"kubernetes.io": {"namespace": "default", "node": {"name": "n1", "uid": "1"}, "pod": {"name": "web"}}}
    file = server_tree / "var/run/secrets/kubernetes.io/serviceaccount/token"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(token(claims))
    return server_tree


@pytest.mark.lab
def test_every_program_of_the_shell_is_one_that_busybox_has(server_tree: Path) -> None:
    assert {*images._APPLETS.split()} <= {*inside(server_tree, "busybox", "--list").split()}
    assert inside(server_tree, "sh", "-c", "seq 3 | wc -l; id -un").split() == ["3", "root"]


@pytest.mark.lab
def test_wget_resolves_names(server_tree: Path) -> None:
    (server_tree / "etc/hosts").write_text("127.0.0.1 somewhere\n")
    with serving(server_tree) as (port, _):
        answer = inside(server_tree, "wget", "-qO-", f"http://somewhere:{port}/")
    assert json.loads(answer)["client"] == "127.0.0.1"


@pytest.mark.lab
async def test_the_server_answers_as_that_of_fast_nodes(pod_tree: Path) -> None:
    (port,) = free_ports(1)
    identity = PodIdentity("default/web", "n1")
    with serving(pod_tree) as (real, _):
        async with pod_servers.serving(None, [("TCP", port)], identity):
            for request in REQUESTS:
                expected = await asyncio.to_thread(exchange, port, request)
                assert await asyncio.to_thread(exchange, real, request) == expected
    assert b'"pod": "default/web", "node": "n1", "client": "::1"' in expected


REQUESTS = (
    b"POST / HTTP/1.1\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nX-Forwarded-For:  192.0.2.7\r\nHost: a\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
)


def exchange(port: int, request: bytes) -> bytes:
    """All that a server answers."""
    with socket.create_connection(("::1", port), timeout=5) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.lab
@pytest.mark.parametrize("address", ["127.0.0.2", "::1"])
def test_a_datagram_is_answered_from_the_address_that_it_was_sent_to(pod_tree: Path, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with serving(pod_tree) as (_, port), socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(b"who", (address, port))
        answer, source = client.recvfrom(2048)
    assert source[:2] == (address, port)
    assert json.loads(answer) == {"pod": "default/web", "node": "n1", "client": client_of(address)}


def client_of(address: str) -> str:
    return "127.0.0.1" if address == "127.0.0.2" else address


@pytest.mark.lab
def test_a_client_can_put_nothing_into_the_answer_but_a_text(pod_tree: Path) -> None:
    with serving(pod_tree) as (port, _):
        answer = exchange(port, b'GET / HTTP/1.1\r\nX-Forwarded-For: a", "pod": "b\\\r\n\r\n')
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body["pod"] == "default/web"
    assert body["forwardedFor"] == "a, pod: b"


@pytest.mark.lab
def test_a_pod_without_a_token_names_itself_by_its_host_name(server_tree: Path) -> None:
    (server_tree / "var/run/secrets/kubernetes.io/serviceaccount/token").unlink(missing_ok=True)
    with serving(server_tree) as (port, _):
        answer = exchange(port, REQUESTS[-1])
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["pod"] == socket.gethostname()
