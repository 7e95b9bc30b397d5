"""The layers of the product's images, for one architecture.

From the lowest: Python and certificates, the locked packages, in the agent's image its programs, and the product, which
alone changes with most commits.
"""

from __future__ import annotations

import configparser
import hashlib
import io
import re
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spiderpool.errors import IOFailure
from spiderpool_lab import binaries, oci
from spiderpool_lab.archives import unpack
from spiderpool_lab.commands import output, run
from spiderpool_lab.images import Part, layer
from spiderpool_lab.product import checkout, programs
from spiderpool_lab.product.debian import Apt, Package
from spiderpool_lab.product.interpreter import VERSION, Interpreter

PYTHON = (
    "base-files",
    "ca-certificates",
    "libpython3-stdlib",
    "libstdc++6",
    "media-types",
    "netbase",
    "python3-minimal",
)
"""Debian's Python, what the locked packages load (libstdc++6), and what programs read below /etc."""
PACKET_FILTERS = ("iptables", "nftables")
"""What the agent executes (kernel/programs.py)."""

SITE = f"usr/local/lib/python{VERSION}/dist-packages"
"""Where Debian's Python finds what is no part of Debian."""
EXECUTABLES = "usr/libexec/spiderpool"
USER = 65532
"""The user without rights, as many images without a shell number it."""

LEFT_OUT = re.compile(
    r"usr/share/doc/[^/]+/(?!copyright$)"
    r"|usr/share/(man|info|locale|lintian|bug|doc-base|binfmts|pixmaps|applications|python3?|perl5|gcc|bash-completion)\b"
    r"|usr/share/(base-files|debhelper|dict|misc)\b"
    r"|etc/(cron|init|systemd|update-motd|skel|profile|issue|motd|dpkg|python|default|ca-certificates|nftables)"
    r"|usr/lib/(systemd|valgrind|[^/]+/(gconv|perl))\b|usr/sbin/(?!nft$|xtables-legacy-multi$|ip6?tables-legacy)"
    r"|usr/bin/(?!python3(\.\d+)?$)"
    r"|usr/lib/python3[^/]*/(pydoc_data|idlelib|lib2to3|turtledemo|curses|dbm|sqlite3|ensurepip|venv|test|tkinter)\b"
    r"|usr/lib/python3[^/]*/sitecustomize\.py|usr/lib/python3[^/]*/lib-dynload/(_curses|_dbm|_sqlite3|readline)"
)
"""Files of packages that no program of an image uses; licences stay, and so does the way to them."""

ACCOUNTS = {
    "etc/passwd": f"root:x:0:0:root:/:/usr/sbin/nologin\nspiderpool:x:{USER}:{USER}::/:/usr/sbin/nologin\n",
    "etc/group": f"root:x:0:\nspiderpool:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
"""Files that the scripts of packages write."""
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
FOLDERS = {"/tmp": 0o1777} | dict.fromkeys(("/proc", "/sys", "/dev", "/run", "/etc", "/var/tmp"), 0o755)
ELF_MACHINES = {"amd64": b"\x3e\x00", "arm64": b"\xb7\x00"}
"""``e_machine`` of the ELF header."""
_MANYLINUX = "manylinux_2_28"
_VERSION = 1
"""Raised when the code below makes other layers of equal input."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Makes layers for one architecture. ``work`` is a scratch folder on the file system of the cache."""

    architecture: str

    def python(self) -> Part:
        """Debian's Python with its bytecode, and the certificates of authorities."""
        plain = self._plain_python()

        def write(writer: oci.LayerWriter, work: Path) -> None:
            tree = work / "python"
            with tarfile.open(layer(plain, _scratch(work, "plain"))) as packed:
                unpack(packed, tree, "tar")
            _write_certificates(tree)
            for path, text in ACCOUNTS.items():
                (tree / path).write_text(text)
            interpreter(work).compile_below(tree)
            writer.tree(tree)

        return Part(f"python {_VERSION} {plain.key}", write)

    def _plain_python(self) -> Part:
        packages = self.python_packages()

        def write(writer: oci.LayerWriter, work: Path) -> None:
            writer.merged_folders()
            for path, mode in FOLDERS.items():
                writer.folder(path, mode)
            self._write_packages(writer, packages)

        return Part(f"plain python {_VERSION} {LEFT_OUT.pattern} {packages}", write)

    def packet_filters(self) -> Part:
        """Debian's nftables and iptables, with what :meth:`python` has not."""
        packages = self.packet_filter_packages()

        def write(writer: oci.LayerWriter, work: Path) -> None:
            self._write_packages(writer, packages)

        return Part(f"packet filters {_VERSION} {LEFT_OUT.pattern} {packages}", write)

    def python_packages(self) -> list[Package]:
        """The Debian packages of :meth:`python`."""
        return Apt(self.architecture).closure(PYTHON)

    def packet_filter_packages(self) -> list[Package]:
        """The Debian packages of :meth:`packet_filters`."""
        below = self.python_packages()
        return [each for each in Apt(self.architecture).closure([*PYTHON, *PACKET_FILTERS]) if each not in below]

    def _write_packages(self, writer: oci.LayerWriter, packages: Sequence[Package]) -> None:
        for package, deb in zip(packages, Apt(self.architecture).download(packages), strict=True):
            writer.package(deb, LEFT_OUT)
            # In this form scanners read what is installed, and find known vulnerabilities.
            writer.file(f"/var/lib/dpkg/status.d/{package.name}", output(["dpkg-deb", "--field", deb]))

    def dependencies(self) -> Part:
        """The packages that uv.lock names, with their bytecode."""
        locked = checkout.requirements("--no-default-groups")
        platform = f"{programs.MACHINES[self.architecture]}-{_MANYLINUX}"

        def write(writer: oci.LayerWriter, work: Path) -> None:
            root, listed = work / "dependencies", work / "requirements.txt"
            listed.write_text(locked)
            options = ["--no-deps", "--require-hashes", "--no-build-isolation", "--python", sys.executable]
            target = ["--python-version", VERSION, "--python-platform", platform, "--target", str(root / SITE)]
            run([checkout.uv(), "pip", "install", "--quiet", *options, *target, "-r", listed])
            _remove_installation_records(root / SITE)
            self._check_architecture(root)
            interpreter(work).compile_below(root)
            writer.tree(root)

        built_with = checkout.requirements("--only-group", "build")
        return Part(f"dependencies {_VERSION} {platform} {VERSION} {locked} {built_with}", write)

    def _check_architecture(self, root: Path) -> None:
        """Raises IOFailure for a library of another architecture: one that was built here from its source."""
        expected = ELF_MACHINES[self.architecture]
        for path in root.rglob("*.so"):
            if (found := path.read_bytes()[18:20]) != expected:
                raise IOFailure(
                    f"{path.name} is not for {self.architecture}: {found.hex()} instead of {expected.hex()}"
                )

    def node_programs(self) -> Part:
        """What the agent installs on its node."""
        executable = programs.cni_executable(self.architecture)
        plugins = programs.reference_plugins(self.architecture)

        def write(writer: oci.LayerWriter, work: Path) -> None:
            writer.file(f"/{EXECUTABLES}/cni", executable, 0o755)
            for plugin in plugins:
                writer.file(f"/{EXECUTABLES}/plugins/{plugin.name}", plugin, 0o755)

        states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in plugins]
        return Part(f"node programs {_VERSION} {executable} {states}", write)

    def product(self) -> Part:
        """The product with its bytecode and its entry points: the same for every architecture."""
        content = wheel()

        def write(writer: oci.LayerWriter, work: Path) -> None:
            root = work / "product"
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                archive.extractall(root / SITE)  # noqa: S202  # ours
            (points,) = (root / SITE).glob("*.dist-info/entry_points.txt")
            (root / "usr/bin").mkdir(parents=True)
            for name, text in _launchers(points.read_text()):
                (root / "usr/bin" / name).write_text(text)
                (root / "usr/bin" / name).chmod(0o755)
            _remove_installation_records(root / SITE)
            interpreter(work).compile_below(root)
            writer.tree(root)

        return Part(f"product {_VERSION} {hashlib.sha256(content).hexdigest()}", write)


def interpreter(work: Path) -> Interpreter:
    """The images' Python, for this machine."""
    return Interpreter.of(layer(Layers(oci.architecture())._plain_python(), _scratch(work, "interpreter")))


@cache
def wheel() -> bytes:
    """The wheel of the product, built once by a process."""
    with tempfile.TemporaryDirectory() as folder:
        return checkout.distribution("wheel", Path(folder)).read_bytes()


def compressed(plain: Path, work: Path) -> Path:
    """A layer compressed with gzip."""
    target = plain.with_name(f"{plain.name}.gz")
    if not target.exists():
        interpreter(work).compress(plain, work / "layer.gz")
        binaries.publish(work / "layer.gz", target)
    return binaries.used(target)


def _scratch(work: Path, name: str) -> Path:
    """A folder of its own: a layer may be made for another one."""
    (work / name).mkdir(exist_ok=True)
    return work / name


def _write_certificates(tree: Path) -> None:
    """All certificates in one file, as update-ca-certificates does it, where OpenSSL looks for them."""
    folder = tree / "usr/share/ca-certificates"
    target = tree / CERTIFICATES
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.crt"))))
    shutil.rmtree(folder)
    (tree / "usr/lib/ssl").mkdir(exist_ok=True)
    for name, place in {"cert.pem": CERTIFICATES, "certs": str(Path(CERTIFICATES).parent)}.items():
        (tree / "usr/lib/ssl" / name).unlink(missing_ok=True)
        (tree / "usr/lib/ssl" / name).symlink_to(f"/{place}")


def _remove_installation_records(site: Path) -> None:
    """Remove programs, and files that say where and how a package was installed."""
    shutil.rmtree(site / "bin", ignore_errors=True)
    for name in ("RECORD", "REQUESTED", "INSTALLER", "direct_url.json", "uv_cache.json", "uv_build.json"):
        for path in site.glob(f"*.dist-info/{name}"):
            path.unlink()
    (site / ".lock").unlink(missing_ok=True)


def _launchers(entry_points: str) -> Iterator[tuple[str, str]]:
    """A program for each entry point. ``-I``: neither the environment nor the working directory change what it runs."""
    parser = configparser.ConfigParser()
    parser.read_string(entry_points)
    for name, place in parser["console_scripts"].items():
        module, _, function = place.partition(":")
        yield name, f"#!/usr/bin/python3 -I\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
