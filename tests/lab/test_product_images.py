"""The images of the product: what is in them, that they run without rights, and that two builds are equal."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spiderpool import __version__
from spiderpool.errors import BadConfig
from spiderpool_lab import binaries, go_build, images, oci
from spiderpool_lab.archives import unpack
from spiderpool_lab.certificates import Authority
from spiderpool_lab.product import checkout, debian, sbom
from spiderpool_lab.product.checkout import Commit
from spiderpool_lab.product.debian import Apt, Package
from spiderpool_lab.product.images import AGENT, CLOUD, CONTROLLER, LIMIT, REGISTRY, Built, archives, build, tag, write
from spiderpool_lab.product.layers import EXECUTABLES, SITE, USER
from tests.lab.test_images import blob, containerd, path_of
from tests.support.certificate_folder import HOST, issue, place

DAEMONS = (AGENT, CONTROLLER, CLOUD)
COMMIT = Commit("0" * 40, "2026-01-02T03:04:05Z")
TOOLS = {
    *("sh", "bash", "dash", "busybox", "su", "sudo", "mount", "apt", "apt-get", "dpkg"),
    *("cc", "gcc", "g++", "ld", "as", "make", "go", "zig", "pip", "pip3", "uv", "perl", "curl", "wget"),
}
"""Programs that an attacker would be glad of."""


@pytest.mark.unit
def test_an_unknown_image_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"spiderpool-x is no image of the product"):
        build("spiderpool-x", "amd64", Path("/nowhere"))


@pytest.mark.unit
def test_the_file_of_a_package_has_its_epoch_escaped() -> None:
    assert Package("zlib1g", "1:1.3", "amd64").file == "zlib1g_1%3a1.3_amd64.deb"


@pytest.mark.unit
def test_a_mirror_that_is_named_goes_before_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(debian.MIRROR, "http://mirror.example.com/debian/")
    monkeypatch.setattr(debian, "KEYRING", Path("/"))
    assert debian.sources() == (
        "deb [signed-by=/] http://mirror.example.com/debian trixie main\n"
        "deb [signed-by=/] http://mirror.example.com/debian trixie-updates main\n"
        "deb [signed-by=/] http://mirror.example.com/debian-security trixie-security main\n"
    )


@pytest.mark.unit
def test_the_date_of_an_image_is_that_of_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    dated = subprocess.run(["git", "log", "-1", "--format=%H %cI"], cwd=checkout.ROOT, capture_output=True, text=True)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert Commit.current().revision.startswith(dated.stdout.split()[0])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767323045")
    assert Commit.current().created == "2026-01-02T03:04:05Z"


@pytest.fixture(scope="module")
def built() -> dict[str, Built]:
    """The layers of all images for this machine."""
    with binaries.scratch_folder(images.folder()) as work:
        return {image: build(image, oci.architecture(), work) for image in DAEMONS}


@pytest.fixture(scope="module")
def agent(built: dict[str, Built], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file tree of the agent's image."""
    return unpacked(built[AGENT], tmp_path_factory.mktemp("agent"))


@pytest.fixture(scope="module")
def controller(built: dict[str, Built], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file tree of the controller's image, and of spiderpool-cloud's."""
    assert built[CONTROLLER].parts == built[CLOUD].parts
    return unpacked(built[CONTROLLER], tmp_path_factory.mktemp("controller"))


def unpacked(built: Built, folder: Path) -> Path:
    folder.chmod(0o755)
    for layer in built.parts.values():
        with tarfile.open(layer) as tree:
            unpack(tree, folder, "tar")
    return folder


@pytest.fixture(scope="module")
def entries(built: dict[str, Built]) -> list[tarfile.TarInfo]:
    """All that the agent's image holds, which has the layers of the others."""
    assert {*built[CONTROLLER].parts.values()} < {*built[AGENT].parts.values()}
    found = []
    for layer in built[AGENT].parts.values():
        with tarfile.open(layer) as tree:
            found += tree.getmembers()
    return found


def inside(tree: Path, *command: str, user: int = USER, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a file tree that it cannot write to but for /tmp, as in a pod, in a mount namespace."""
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && mount -t tmpfs tmp "$0/tmp" && exec "$@"'
    root = ["chroot", f"--userspec={user}:{user}", str(tree)]
    words = ["unshare", "--mount", "sh", "-c", script, str(tree), *root, *command]
    environ = {"PATH": os.environ["PATH"], "COLUMNS": "200", **environment}
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environ)


def user_of(image: str) -> int:
    return 0 if image == AGENT else USER


@pytest.mark.lab
@pytest.mark.parametrize("image", DAEMONS)
def test_an_entry_point_runs_as_its_user_with_a_root_that_is_read_only(
    agent: Path, controller: Path, image: str
) -> None:
    tree = agent if image == AGENT else controller
    shown = inside(tree, f"/usr/bin/{image}", "--help", user=user_of(image))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"usage: {image} " in shown.stdout
    version = inside(tree, f"/usr/bin/{image}", "--version", user=user_of(image))
    assert version.stdout == f"{image} {__version__}\n"


@pytest.mark.lab
def test_the_command_line_is_in_every_image(controller: Path) -> None:
    assert inside(controller, "/usr/bin/spiderpoolctl", "--version").returncode == 0


@pytest.mark.lab
def test_a_daemon_says_what_is_wrong_with_its_settings(agent: Path) -> None:
    done = inside(agent, f"/usr/bin/{AGENT}")
    assert done.returncode == 1
    assert "SPIDERPOOL_NODE_NAME" in done.stdout + done.stderr


IMPORT_ALL = f"""
import importlib, pathlib, ssl
root = pathlib.Path("/{SITE}")
for path in sorted(root.glob("spiderpool/**/*.py")):
    importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"))
assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 100
import zoneinfo, sys, getpass
print(getpass.getuser(), sys.flags.isolated)
"""


@pytest.mark.lab
def test_every_module_is_imported_and_authorities_are_trusted(controller: Path) -> None:
    done = inside(controller, "/usr/bin/python3", "-I", "-c", IMPORT_ALL)
    assert (done.stdout, done.stderr) == ("spiderpool 1\n", "")


PROVIDED = f"""
import asyncio, pathlib
from spiderpool.controller.provided_certificates import ProvidedCertificates
async def look():
    certificates = ProvidedCertificates(pathlib.Path("/etc/certificate"), "{HOST}")
    task = asyncio.create_task(certificates.run())
    while not (certificates.trusted or certificates.problem):
        await asyncio.sleep(0.01)
    print(certificates.problem)
asyncio.run(look())
"""


@pytest.mark.lab
def test_a_certificate_that_the_api_server_accepts_is_accepted_by_the_python_of_the_image(controller: Path) -> None:
    """That is a later one than that of the tests, whose checks are strict by default."""
    folder, authority = controller / "etc/certificate", Authority.create("theirs")
    folder.mkdir()
    place(folder, authority, issue(authority))
    done = inside(controller, "/usr/bin/python3", "-I", "-c", PROVIDED)
    assert done.stdout.splitlines()[-1:] == ["None"], done.stdout + done.stderr


@pytest.mark.lab
def test_nothing_in_an_image_gives_rights_or_helps_an_attacker(entries: list[tarfile.TarInfo]) -> None:
    assert [entry.name for entry in entries if entry.mode & (stat.S_ISUID | stat.S_ISGID)] == []
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries if "dpkg" not in entry.name} >= {(0, 0, 0)}
    assert {(entry.uid, entry.gid) for entry in entries} == {(0, 0)}
    writable = {entry.name for entry in entries if entry.mode & stat.S_IWOTH and not entry.issym()}
    assert writable <= {"tmp", "var/tmp"}
    names = {Path(entry.name).name for entry in entries if entry.mode & 0o111 and not entry.isdir()}
    assert names & TOOLS == set()
    assert [
        entry.name for entry in entries if re.search(r"/(site-packages|ensurepip|pip|setuptools)/", entry.name)
    ] == []


@pytest.mark.lab
def test_no_image_holds_logs_caches_or_anything_of_the_lab(entries: list[tarfile.TarInfo]) -> None:
    files = [entry.name for entry in entries if entry.isreg()]
    places = ("var/log/", "var/cache/", "var/lib/apt/", "root/", "tmp/", "run/")
    assert [name for name in files if name.startswith(places) or "spiderpool_lab" in name] == []
    assert [name for name in files if name.endswith(("/RECORD", "/direct_url.json"))] == []


@pytest.mark.lab
def test_only_the_agent_has_programs_for_nodes(agent: Path, controller: Path) -> None:
    assert [*(controller / "usr/sbin").iterdir()] == []
    assert not (controller / EXECUTABLES).exists()
    assert {*go_build.REFERENCE_PLUGINS} == {path.name for path in (agent / EXECUTABLES / "plugins").iterdir()}
    for program in ("nft", "iptables-legacy", "ip6tables-legacy-restore", "iptables-legacy-save"):
        assert inside(agent, f"/usr/sbin/{program}", "--version").returncode == 0


@pytest.mark.lab
def test_the_programs_for_nodes_need_nothing_of_the_node(agent: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    for path in (agent / EXECUTABLES / "cni", agent / EXECUTABLES / "plugins" / "host-local"):
        shutil.copy(path, tmp_path / path.name)
    version = inside(tmp_path, "/host-local", CNI_COMMAND="VERSION")
    assert "1.1.0" in json.loads(version.stdout)["supportedVersions"]
    refused = inside(tmp_path, "/cni", CNI_COMMAND="ADD")
    assert json.loads(refused.stdout)["msg"].startswith("spiderpool-agent is not running on this node")


@pytest.mark.lab
def test_every_library_that_is_needed_is_there(agent: Path) -> None:
    assert missing_libraries(agent) == set()


def missing_libraries(tree: Path) -> set[str]:
    """Libraries that programs and libraries name and that no file has as its name."""
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink() and is_elf(path)]
    assert len(files) > 100
    command = ["readelf", "--dynamic", *map(str, files)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    return {*re.findall(r"\(NEEDED\).*\[(.+)\]", shown)} - {path.name for path in tree.rglob("*.so*")}


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


@pytest.mark.lab
def test_every_module_has_its_bytecode_which_no_time_makes_old(agent: Path) -> None:
    sources = [*(agent / "usr").rglob("*.py")]
    assert len(sources) > 1000
    for source in sources:
        bytecode = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
        assert bytecode.read_bytes()[4:8] == b"\x01\0\0\0"  # by hash, and not checked


@pytest.mark.lab
def test_an_image_is_small(built: dict[str, Built]) -> None:
    assert {image: each.size for image, each in built.items() if each.size > LIMIT // 2} == {}


@pytest.mark.lab
def test_the_bill_of_materials_lists_every_package(built: dict[str, Built], agent: Path, controller: Path) -> None:
    for image, tree in {AGENT: agent, CONTROLLER: controller}.items():
        bill = json.loads(sbom.document(built[image], COMMIT))
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
        listed = {(kind_of(each), each["name"], each["version"]) for each in bill["components"]}
        assert listed >= {*debian_packages(tree), *python_packages(tree)}
        assert {name for kind, name, _ in listed if kind == "deb"} == {name for _, name, _ in debian_packages(tree)}
        plugins = {name for kind, name, _ in listed if kind == "golang"}
        assert ("github.com/containernetworking/cni" in plugins) == (image == AGENT)
        assert sbom.document(built[image], COMMIT) == json.dumps(bill, indent=2) + "\n"


def kind_of(component: dict[str, Any]) -> str:
    return str(component["purl"]).removeprefix("pkg:").partition("/")[0]


def debian_packages(tree: Path) -> Iterator[tuple[str, str, str]]:
    for file in (tree / "var/lib/dpkg/status.d").iterdir():
        fields = dict(line.split(": ", 1) for line in file.read_text().splitlines() if ": " in line and line[0] != " ")
        yield "deb", fields["Package"], fields["Version"]


def python_packages(tree: Path) -> Iterator[tuple[str, str, str]]:
    for file in (tree / SITE).glob("*.dist-info/METADATA"):
        fields = dict(line.split(": ", 1) for line in file.read_text().splitlines()[:10] if ": " in line)
        yield "pypi", fields["Name"], fields["Version"]


@pytest.mark.lab
def test_an_archive_says_what_it_is(built: dict[str, Built], tmp_path: Path) -> None:
    for image in (AGENT, CLOUD):
        each = built[image]
        digest = write(image, [each], tmp_path / "a.tar", COMMIT)
        assert write(image, [each], tmp_path / "b.tar", COMMIT) == digest
        assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
        with tarfile.open(tmp_path / "a.tar") as opened:
            (entry,) = json.loads(blob(opened, "index.json").read())["manifests"]
            config = json.loads(blob(opened, path_of(json.loads(blob(opened, path_of(entry)).read())["config"])).read())
        assert (entry["digest"], entry["annotations"][oci.TAG_ANNOTATION]) == (digest, tag())
        assert config["config"]["Entrypoint"] == [f"/usr/bin/{image}"]
        assert config["config"]["User"] == f"{user_of(image)}:{user_of(image)}"
        labels = config["config"]["Labels"]
        named = {name: labels[f"org.opencontainers.image.{name}"] for name in ("version", "revision", "licenses")}
        assert named == {"version": __version__, "revision": COMMIT.revision, "licenses": "Apache-2.0"}
        assert config["created"] == labels["org.opencontainers.image.created"] == COMMIT.created


@pytest.mark.lab
def test_containerd_imports_the_images(tmp_path: Path) -> None:
    with containerd(tmp_path) as ctr:
        for archive in archives():
            subprocess.run([*ctr, "images", "import", archive], check=True, timeout=60, capture_output=True)
        listed = subprocess.run([*ctr, "images", "ls", "-q"], check=True, timeout=20, capture_output=True, text=True)
    assert listed.stdout.split() == sorted(f"{REGISTRY}/{image}:{tag()}" for image in DAEMONS)


@pytest.mark.lab
@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_two_builds_from_the_same_packages_have_one_digest(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for name in ("first", "second"):
        cache = fresh_cache(tmp_path / name)
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
        with binaries.scratch_folder(images.folder()) as work:
            built = build(AGENT, architecture, work)
            digests.append(write(AGENT, [built], tmp_path / "image.tar", COMMIT))
    assert digests[0] == digests[1]
    (tmp_path / "tree").mkdir()
    tree = unpacked(built, tmp_path / "tree")
    assert missing_libraries(tree) == set()
    assert {machine_of(path) for path in tree.rglob("*") if path.is_file() and is_elf(path)} == {architecture}


def machine_of(path: Path) -> str:
    with path.open("rb") as file:
        return {b"\x3e\0": "amd64", b"\xb7\0": "arm64"}[file.read(20)[18:]]


def fresh_cache(folder: Path) -> Path:
    """A cache with what is downloaded, and without anything that was made of it for an image."""
    cache = folder / "spiderpool"
    (cache / "programs").mkdir(parents=True)
    for name in ("debian", "go", f"uv-{uv_version()}"):
        (cache / name).symlink_to(binaries.cache() / name)
    return cache


def uv_version() -> str:
    return checkout.uv().parents[1].name.removeprefix("uv-")


@pytest.mark.lab
@pytest.mark.parametrize("architecture", ["amd64", pytest.param("arm64", marks=pytest.mark.full)])
def test_the_packages_of_both_architectures_are_the_same(architecture: str) -> None:
    names = [each.name for each in Apt(architecture).closure(["python3-minimal", "nftables"])]
    assert {"libc6", "libssl3t64", "python3-minimal", "nftables"} <= {*names}
    assert not {*debian.ABSENT} & {*names}
