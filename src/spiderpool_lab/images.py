"""Makes the images of a lab's pods as archives for containerd, from Debian packages and programs built here.

No registry and no engine for containers is needed. An image that stands in for a published one has the same programs
in the same places. Archives and layers are kept in our cache folder.

``python -m spiderpool_lab.images`` makes the images of the demo and prints where each archive is.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from spiderpool.errors import BadConfig, IOFailure
from spiderpool_lab import binaries, executable, go_build, oci
from spiderpool_lab.certificates import Authority
from spiderpool_lab.commands import print_progress, run

PAUSE = "registry.k8s.io/pause:3.10.2"
SERVER = "docker.io/centos/tools:latest"
BUSYBOX = "docker.io/library/busybox:latest"
NGINX = "docker.io/library/nginx:latest"
COREDNS = f"registry.k8s.io/coredns/coredns:{go_build.locked_version(go_build.MODULE, 'github.com/coredns/coredns')}"
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.66.1"
HTTPD = "registry.k8s.io/e2e-test-images/httpd:2.4.38-4"
IPTABLES = "registry.k8s.io/build-image/distroless-iptables:v0.9.9"

DEMO = (PAUSE, SERVER, COREDNS)

_SOURCES = Path(__file__).parent
_E2E = "registry.k8s.io/e2e-test-images"
_VERSION = 2
"""Raised when the code below makes other layers of equal recipes."""


@dataclass(frozen=True, slots=True)
class Part:
    """A layer of an image: ``write`` adds its files. Layers of equal ``key`` are equal."""

    key: str
    write: Callable[[oci.LayerWriter, Path], None]
    """Gets the layer, and a folder for what it needs in between."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image: its names, its layers from the lowest, and how its containers start."""

    names: tuple[str, ...]
    parts: Callable[[], tuple[Part, ...]]
    """Raises IOFailure if a program that was to be built before is missing."""
    config: oci.Config = field(default_factory=oci.Config)


def archives(names: Iterable[str] = DEMO) -> list[Path]:
    """The archives of images, one for each, made if they are missing; progress is printed to stderr.

    An archive holds the image under all its names. Processes that call it at the same time wait for each other.
    Raises IOFailure if an image cannot be made, BadConfig for a name that is not in :data:`IMAGES`.
    """
    wanted = dict.fromkeys(_image(name).names[0] for name in names)
    return [_archive(_image(name)) for name in wanted]


def _image(name: str) -> Image:
    for image in IMAGES:
        if name in image.names:
            return image
    raise BadConfig(f"{name} is no image that the lab can make; see IMAGES of {__name__}")


def _archive(image: Image) -> Path:
    parts = image.parts()
    identity = [repr((image.names, image.config)), *(part.key for part in parts)]
    target = folder() / f"{image.names[0].rpartition('/')[2].replace(':', '-')}-{digest(*identity)}.tar"
    if not target.exists():
        with binaries.scratch_folder(folder()) as work:
            prune()
            if not target.exists():
                print_progress(f"making image {image.names[0]}")
                layers = [layer(part, work) for part in parts]
                oci.write_archive(work / "archive.tar", image.names, [oci.Platform(layers, image.config)])
                binaries.publish(work / "archive.tar", target)
    return binaries.used(target)


def layer(part: Part, work: Path) -> Path:
    """The layer of a part, made if it is missing. Call it with the lock of `folder`; ``work`` is a scratch folder."""
    target = folder() / "layers" / f"{digest(part.key)}.tar"
    if not target.exists():
        with oci.LayerWriter(work / "layer.tar") as writer:
            part.write(writer, work)
        binaries.publish(work / "layer.tar", target)
    return binaries.used(target)


def folder() -> Path:
    """Where archives and layers are kept."""
    return binaries.cache() / "images"


def prune() -> None:
    """Remove archives and layers that nobody has used for long. Call it with the lock of `folder`."""
    (folder() / "layers").mkdir(exist_ok=True)
    binaries.prune(folder())
    binaries.prune(folder() / "layers")


def digest(*values: str) -> str:
    """The name in the cache of what is made of these values."""
    return hashlib.sha256("\n".join((str(_VERSION), *values)).encode()).hexdigest()[:16]


def _compiled(name: str, path: str) -> Part:
    """A static program from a C file of ours."""
    source = _SOURCES / f"{name}.c"

    def write(layer: oci.LayerWriter, work: Path) -> None:
        layer.file(path, executable.compile_static(source, work / name), 0o755)

    return Part(f"{path} {executable.FLAGS} {source.read_text()}", write)


def _program(name: str, *paths: str, folders: tuple[str, ...] = ()) -> Part:
    """A program of the lab, at the first path, with links at the others. Raises IOFailure if it is missing."""
    program = binaries.find(name)
    state = program.stat()

    def write(layer: oci.LayerWriter, work: Path) -> None:
        layer.file(paths[0], program, 0o755)
        for path in paths[1:]:
            layer.link(path, paths[0])
        for folder in folders:
            layer.folder(folder, 0o777)

    return Part(f"{program} {state.st_size} {state.st_mtime_ns} {paths} {folders}", write)


def _files(contents: Mapping[str, str], links: Mapping[str, str] | None = None) -> Part:
    """Text files and links; programs of shell are executable."""

    def write(layer: oci.LayerWriter, work: Path) -> None:
        for path, text in contents.items():
            layer.file(path, text, 0o755 if text.startswith("#!") else 0o644)
        for path, target in (links or {}).items():
            layer.link(path, target)

    return Part(repr((contents, links)), write)


def _localhost_certificate() -> Part:
    """The certificate of servers that speak TLS; nobody verifies it."""

    def write(layer: oci.LayerWriter, work: Path) -> None:
        pair = Authority.create("images").server(["localhost", "127.0.0.1"])
        layer.file("/localhost.crt", pair.certificate)
        layer.file("/localhost.key", pair.key, 0o644)

    return Part("localhost certificate", write)


def _packages(*names: str) -> Part:
    """The files of Debian packages and of all that they depend on, as this machine's apt has them."""
    return Part(f"packages {names} {_distribution()}", partial(_write_packages, names))


def _write_packages(names: tuple[str, ...], layer: oci.LayerWriter, work: Path) -> None:
    layer.merged_folders()
    layer.folder("/tmp", 0o1777)  # of the image
    for folder in ("/proc", "/sys", "/dev", "/run", "/root", "/var/log", "/var/tmp"):
        layer.folder(folder)
    for deb in _downloaded(names, work):
        layer.package(deb)


def _downloaded(names: tuple[str, ...], work: Path) -> list[Path]:
    """Download packages with their dependencies, as for a machine on which nothing is installed."""
    if not shutil.which("apt-get"):
        raise IOFailure(f"images are made of Debian packages ({', '.join(names)}) and there is no apt-get")
    binaries.update_lists_if_empty()
    debs, status = work / "debs", work / "status"
    shutil.rmtree(debs, ignore_errors=True)
    (debs / "partial").mkdir(parents=True)
    status.touch()
    options = [f"Dir::State::status={status}", f"Dir::Cache::archives={debs}", "Debug::NoLocking=1"]
    flags = [word for option in options for word in ("-o", option)]
    only = ["--no-install-recommends", "--download-only", "--yes"]
    run(["apt-get", "-qq", *binaries.AS_ROOT, *flags, *only, "install", *names])
    return sorted(debs.glob("*.deb"))


def _distribution() -> str:
    release = Path("/etc/os-release")
    return release.read_text() if release.exists() else ""


_APPLETS = (
    "[ arp arping ash awk base64 basename bc bunzip2 bzcat bzip2 cal cat chgrp chmod chown chroot clear cmp cp cpio "
    "cut date dd df diff dirname dmesg dnsdomainname du echo egrep env expand expr factor false fgrep find fold "
    "free ftpget getopt grep groups gunzip gzip head hexdump hostid hostname httpd id ifconfig ip ipcalc kill "
    "killall last less link ln logger login ls lsmod md5sum mkdir mkfifo mknod mktemp more mount mv nc netstat nl "
    "nproc nsenter nslookup od paste patch pidof ping ping6 printf ps pwd readlink realpath renice rev rm rmdir "
    "route sed seq setsid sh sha1sum sha256sum sha512sum shuf sleep sort stat strings stty sync sysctl tac tail tar "
    "taskset tee telnet test tftp time timeout top touch tr traceroute traceroute6 true truncate tty umount uname "
    "uniq unlink unshare unxz unzip uptime usleep vi watch wc wget which whoami xargs xxd xzcat yes zcat"
)
"""Programs of Debian's busybox, which a shell and scripts find by name."""
_ACCOUNTS = {
    "/etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "www-data:x:33:33:www-data:/var/www:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/:/bin/sh\n"
        "user-defined-in-image:x:1000:1000::/:/bin/sh\n"
    ),
    "/etc/group": (
        "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n"
        "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"
    ),
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
"""Files that the scripts of packages write; the user of the tests' images is among them."""
_NGINX_CONFIGURATION = """\
user www-data;
worker_processes 1;
error_log stderr;
pid /run/nginx.pid;
events {}
http {
    include /etc/nginx/mime.types;
    access_log /dev/stdout;
    server {
        listen 80;
        listen [::]:80;
        root /usr/share/nginx/html;
    }
}
"""
_HTTPD_CONFIGURATION = """\
ServerName localhost
Listen 80
PidFile /run/httpd.pid
User www-data
Group www-data
ErrorLog /dev/stderr
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
TypesConfig /etc/mime.types
DocumentRoot /usr/local/apache2/htdocs
<Directory /usr/local/apache2/htdocs>
    Require all granted
</Directory>
"""
_PAGE = "<html><body><h1>It works!</h1></body></html>\n"


def _applets(*others: str) -> Part:
    """Links to busybox for all programs but those of other packages, and the accounts."""
    return _files(_ACCOUNTS, {f"/usr/bin/{name}": "busybox" for name in _APPLETS.split() if name not in others})


def _busybox() -> tuple[Part, ...]:
    return _packages("busybox"), _applets()


def _nginx() -> tuple[Part, ...]:
    contents = {"/etc/nginx/nginx.conf": _NGINX_CONFIGURATION, "/usr/share/nginx/html/index.html": _PAGE}
    folders = {"/var/lib/nginx/.keep": "", "/var/log/nginx/.keep": ""}
    return _packages("busybox", "nginx-light"), _applets(), _files({**contents, **folders})


def _httpd() -> tuple[Part, ...]:
    contents = {"/usr/local/apache2/conf/httpd.conf": _HTTPD_CONFIGURATION}
    page = {"/usr/local/apache2/htdocs/index.html": _PAGE}
    return _packages("busybox", "apache2-bin", "media-types"), _applets(), _files({**contents, **page})


def _agnhost() -> tuple[Part, ...]:
    """What the Dockerfile of Kubernetes' agnhost installs, by Debian's names for it.

    wget is busybox' there, but that of Debian 12 crashes when it is given a timeout (``-T``).
    """
    packages = ("bash", "busybox", "curl", "netcat-openbsd", "bind9-dnsutils", "iproute2", "iperf", "socat", "wget")
    more = ("libc-bin", "util-linux", "iputils-ping", "ca-certificates")
    links = {"/usr/bin/nc": "nc.openbsd", "/usr/local/bin/iperf": "/usr/bin/iperf"}
    return (
        _packages(*packages, *more),
        _applets(
            *("nc", "ip", "ping", "ping6", "wget"),
            *("nsenter", "taskset", "unshare", "mount", "umount", "getopt", "dmesg"),
        ),
        _files({}, links),
        _localhost_certificate(),
        _program("coredns", "/coredns"),
        _program("agnhost", "/agnhost", "/agnhost-2", folders=("/uploads",)),
    )


def _iptables() -> tuple[Part, ...]:
    """The form of iptables for kernels without nftables; Debian's scripts would link it."""
    names = [f"{family}{command}" for family in ("iptables", "ip6tables") for command in ("", "-save", "-restore")]
    links = {f"/usr/sbin/{name}": name.replace("tables", "tables-legacy") for name in names}
    return _packages("busybox", "iptables", "conntrack", "kmod"), _applets("lsmod"), _files({}, links)


IMAGES = (
    Image(
        (PAUSE, "registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.9"),
        lambda: (_compiled("pause", "/pause"),),
        oci.Config(["/pause"]),
    ),
    Image((SERVER,), lambda: (*_busybox(), _compiled("pod_server", "/pod-server")), oci.Config(["/pod-server"])),
    Image(
        (BUSYBOX, f"{_E2E}/busybox:1.37.0-2", f"{_E2E}/busybox:1.36.1-1"),
        _busybox,
        oci.Config(arguments=["sh"]),
    ),
    Image((COREDNS,), lambda: (_program("coredns", "/coredns"),), oci.Config(["/coredns"])),
    Image(
        (
            NGINX,
            *(f"{_E2E}/nginx:{version}" for version in ("1.27.0-2", "1.28.0-2", "1.14-4", "1.15-4")),
        ),
        _nginx,
        oci.Config(arguments=["nginx", "-g", "daemon off;"]),
    ),
    Image(
        (HTTPD, f"{_E2E}/httpd:2.4.39-4"),
        _httpd,
        oci.Config(arguments=["apache2", "-f", "/usr/local/apache2/conf/httpd.conf", "-D", "FOREGROUND"]),
    ),
    Image(
        (
            AGNHOST,
            *(f"{_E2E}/agnhost:{version}" for version in ("2.55", "2.47")),
            f"{_E2E}/glibc-dns-testing:2.1.1",
            f"{_E2E}/jessie-dnsutils:1.7",
        ),
        _agnhost,
        oci.Config(["/agnhost"], ["pause"]),
    ),
    Image(
        (IPTABLES, "registry.k8s.io/build-image/distroless-iptables:v0.6.11"),
        _iptables,
        oci.Config(arguments=["sh"]),
    ),
)
"""All images that the lab can make."""


def main() -> int:
    """Make the images of the demo and print the path of each archive."""
    try:
        made = archives()
    except (IOFailure, BadConfig) as failure:
        print_progress("\n".join(filter(None, (failure.details, f"error: {failure.message}"))))
        return 1
    for archive in made:
        print(f"{archive.stat().st_size / 1e6:8.1f} MB  {archive}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
