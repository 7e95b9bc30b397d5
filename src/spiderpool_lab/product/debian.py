"""Downloads the Debian packages of an image, for any architecture, whatever Debian or Ubuntu this machine runs.

apt works in a folder of ours, with lists of its own, and needs no rights of root. What is not wanted in an image, it
takes for installed. ``$DEBIAN_MIRROR`` names another mirror than that of this machine, such as
``http://mirror.example.com/debian``.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spiderpool.errors import BadConfig, IOFailure
from spiderpool_lab import binaries
from spiderpool_lab.commands import output, print_progress, run

SUITE = "trixie"
RELEASE = "13"
MIRROR = "DEBIAN_MIRROR"
"""Environment variable with the mirror to download from."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LISTS_AGE = 7 * 86_400
"""Seconds after which the lists of packages are updated."""

ABSENT = {
    "debconf": "debconf-2.0",
    "dpkg": "",
    "libdb5.3t64": "",
    "libncursesw6": "",
    "libreadline8t64": "",
    "libsqlite3-0": "",
    "mawk": "awk",
    "openssl": "",
    "openssl-provider-legacy": "",
    "tar": "",
    "tzdata": "",
}
"""Packages on which others depend but of which no program of ours needs anything → what they provide.

Scripts of packages are never run, so nothing needs dpkg, tar, debconf and awk; modules of Python that load these
libraries are left out (:mod:`spiderpool_lab.product.layers`).
"""


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """A binary package."""

    name: str
    version: str
    architecture: str
    """``all`` where it fits every architecture."""

    @property
    def file(self) -> str:
        """Its name in apt's folder."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


@dataclass(frozen=True)
class Apt:
    """apt for one architecture of :data:`SUITE`. Processes that use it at the same time wait for each other."""

    architecture: str

    @property
    def _folder(self) -> Path:
        return binaries.cache() / "debian" / f"{SUITE}-{self.architecture}"

    def closure(self, names: Iterable[str]) -> list[Package]:
        """The packages and all that they depend on, in the order of their names. Raises IOFailure, BadConfig."""
        return [*_closure(self, tuple(names))]

    def simulated(self, names: Sequence[str]) -> Iterator[Package]:
        """What apt would install. Raises IOFailure, BadConfig."""
        if not shutil.which("apt-get"):
            raise IOFailure("images are made of Debian packages, and there is no apt-get")
        with binaries.scratch_folder(self._folder):
            self._update_if_older(LISTS_AGE)
            simulated = output([*self._command(), "--simulate", "install", *names])
        found = re.findall(r"^Inst (\S+) \((\S+) .*\[(\S+)\]\)", simulated, re.MULTILINE)
        if missing := {*names} - {name for name, *_ in found}:
            raise IOFailure(f"Debian {SUITE} offers no {', '.join(sorted(missing))} for {self.architecture}")
        return (Package(name, *rest) for name, *rest in found)

    def update(self) -> None:
        """Read the lists of packages anew, so that `closure` finds the latest versions."""
        with binaries.scratch_folder(self._folder):
            self._update_if_older(0)
        _closure.cache_clear()

    def download(self, packages: Sequence[Package]) -> list[Path]:
        """The files of packages; apt has verified them. Raises IOFailure, after which `update` may help."""
        archives = self._folder / "archives"
        with binaries.scratch_folder(self._folder):
            missing = [each for each in packages if not (archives / each.file).exists()]
            if missing:
                wanted = [f"{each.name}={each.version}" for each in missing]
                try:
                    run([*self._command(), "--yes", "--download-only", "install", *wanted])
                except IOFailure as failure:
                    remedy = "their versions may be gone from the mirror; run make images, which reads its lists anew"
                    raise IOFailure(f"packages cannot be downloaded: {remedy}", details=failure.details) from failure
            return [binaries.used(archives / each.file) for each in packages]

    def _update_if_older(self, seconds: float) -> None:
        stamp = self._folder / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < seconds:
            return
        print_progress(f"reading the lists of Debian {SUITE} for {self.architecture}")
        for name in ("lists/partial", "archives/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").write_text("\n".join(self._stubs()))
        (self._folder / "sources.list").write_text(sources())
        try:
            run([*self._command(), "update"])
        except IOFailure as failure:
            if not stamp.exists():
                raise
            print_progress(f"{failure.message}; going on with the lists that are there")
        else:
            stamp.touch()

    def _stubs(self) -> Iterable[str]:
        for name, provided in ABSENT.items():
            yield (
                f"Package: {name}\nStatus: install ok installed\nVersion: 999\nArchitecture: {self.architecture}\n"
                f"Multi-Arch: foreign\nMaintainer: nobody\nDescription: not wanted\n"
                + (f"Provides: {provided}\n" if provided else "")
            )

    def _command(self) -> list[str]:
        """apt-get without anything of this machine but what it says about proxies."""
        options = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "true",
            "Dir::State": self._folder,
            "Dir::State::lists": self._folder / "lists",
            "Dir::State::status": self._folder / "status",
            "Dir::Cache": self._folder,
            "Dir::Cache::archives": self._folder / "archives",
            "Dir::Etc::sourcelist": self._folder / "sources.list",
            **{f"Dir::Etc::{name}": "/dev/null" for name in ("sourceparts", "preferences", "preferencesparts")},
        }
        return ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


@cache
def _closure(apt: Apt, names: tuple[str, ...]) -> tuple[Package, ...]:
    return tuple(sorted(apt.simulated(names)))


def sources() -> str:
    """Where apt downloads from, as sources.list(5) has it. Raises IOFailure, BadConfig."""
    if not KEYRING.exists():
        raise IOFailure(f"{KEYRING} is missing: install debian-archive-keyring")
    main, security = _mirrors()
    signed = f"[signed-by={KEYRING}]"
    lines = [(main, SUITE), (main, f"{SUITE}-updates"), (security, f"{SUITE}-security")]
    return "".join(f"deb {signed} {uri} {suite} main\n" for uri, suite in lines)


def _mirrors() -> tuple[str, str]:
    """Where Debian and its security updates are: as this machine's apt has it, unless a mirror is named."""
    if mirror := os.environ.get(MIRROR, "").rstrip("/"):
        return mirror, f"{mirror}-security"
    binaries.update_lists_if_empty()
    known = output(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Origin: Debian"])
    by_label = dict(line.split() for line in known.splitlines() if len(line.split()) == 2)
    if "Debian" not in by_label:
        raise BadConfig(f"this machine's apt has no mirror of Debian; set {MIRROR} to one")
    main = by_label["Debian"].rstrip("/")
    return main, by_label.get("Debian-Security", f"{main}-security").rstrip("/")
