"""The images of the product, from layers that they share.

``python -m spiderpool_lab.product`` builds them for every architecture (``make images``); a lab calls `archives`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spiderpool import __version__
from spiderpool.errors import BadConfig
from spiderpool_lab import binaries, oci
from spiderpool_lab.commands import print_progress
from spiderpool_lab.images import Part, digest, folder, layer, prune
from spiderpool_lab.product import programs
from spiderpool_lab.product.checkout import Commit
from spiderpool_lab.product.layers import USER, Layers, compressed

AGENT, CONTROLLER, CLOUD = "spiderpool-agent", "spiderpool-controller", "spiderpool-cloud"
DESCRIPTIONS = {
    AGENT: "Attaches the pods of a node to underlay networks and gives them their addresses",
    CONTROLLER: "Checks and completes Spiderpool's objects, and collects addresses that nobody uses",
    CLOUD: "Keeps nodes, addresses and load balancers of the cloud in line with the cluster",
}
"""Image → what it does. Its entry point has its name."""
REGISTRY = "docker.io/library"
"""What container runtimes put before a name without a registry."""
LIMIT = 150 * 10**6
"""Bytes that an image may have, compressed."""
KEPT = 4
"""Archives of one image that the cache keeps: each change of the product makes a new one."""


@dataclass(frozen=True, slots=True)
class Built:
    """The layers of an image for one architecture."""

    image: str
    architecture: str
    parts: Mapping[str, Path]
    """What a layer holds → its compressed file."""

    @property
    def size(self) -> int:
        """Bytes that a node downloads."""
        return sum(path.stat().st_size for path in self.parts.values())

    def platform(self, commit: Commit | None) -> oci.Platform:
        """For an archive. Without a commit, the image depends on its layers alone."""
        return oci.Platform([*self.parts.values()], _config(self.image, commit), self.architecture)


def tag() -> str:
    """The tag of this version's images."""
    return f"v{__version__}"


def archives(images: Iterable[str] = tuple(DESCRIPTIONS), registry: str = REGISTRY) -> list[Path]:
    """Archives of images for this machine, one for each, made if they are missing; progress is printed to stderr.

    An image is named ``<registry>/<image>:<tag>``. Its archive changes with its contents alone, not with commits.
    Raises IOFailure if an image cannot be made, BadConfig for an unknown one.
    """
    return [_archive(image, registry) for image in dict.fromkeys(images)]


def prepare(architecture: str) -> None:
    """Make the programs for nodes, which takes minutes the first time, before the folder of images is locked."""
    programs.cni_executable(architecture)
    programs.reference_plugins(architecture)


def _archive(image: str, registry: str) -> Path:
    prepare(oci.architecture())
    with binaries.scratch_folder(folder()) as work:
        built = build(image, oci.architecture(), work)
        identity = digest(registry, repr(_config(image, None)), *(path.name for path in built.parts.values()))
        target = folder() / f"{image}-{tag()}-{identity}.tar"
        if not target.exists():
            oci.write_archive(work / "archive.tar", [f"{registry}/{image}:{tag()}"], [built.platform(None)])
            binaries.publish(work / "archive.tar", target)
            _remove_older(image)
    return binaries.used(target)


def _remove_older(image: str) -> None:
    known = sorted(folder().glob(f"{image}-v*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in known[KEPT:]:
        path.unlink()


def build(image: str, architecture: str, work: Path) -> Built:
    """The layers of an image, made if they are missing. Call it with the lock of the folder of images."""
    prune()
    made = {}
    for name, part in _parts(image, architecture).items():
        plain = layer(part, _scratch(work, f"{image}-{architecture}-{name.replace(' ', '-')}"))
        made[name] = compressed(plain, work)
    return Built(image, architecture, made)


def _scratch(work: Path, name: str) -> Path:
    (work / name).mkdir()
    return work / name


def _parts(image: str, architecture: str) -> dict[str, Part]:
    if image not in DESCRIPTIONS:
        raise BadConfig(f"{image} is no image of the product; choose one of {', '.join(DESCRIPTIONS)}")
    print_progress(f"making image {image} for {architecture}")
    layers = Layers(architecture)
    parts = {"Python and certificates": layers.python(), "locked packages": layers.dependencies()}
    if image == AGENT:
        parts |= {"nftables and iptables": layers.packet_filters(), "programs for the node": layers.node_programs()}
    return parts | {"the product": layers.product()}


def _config(image: str, commit: Commit | None) -> oci.Config:
    labels = {
        "title": image,
        "description": DESCRIPTIONS[image],
        "version": __version__,
        "licenses": "Apache-2.0",
    }
    if commit:
        labels |= {"revision": commit.revision, "created": commit.created}
    return oci.Config(
        [f"/usr/bin/{image}"],
        environment={"PATH": "/usr/sbin:/usr/bin"},
        user="0:0" if image == AGENT else f"{USER}:{USER}",
        labels={f"org.opencontainers.image.{name}": value for name, value in labels.items() if value},
        created=commit.created if commit else "",
    )


def write(image: str, platforms: Sequence[Built], target: Path, commit: Commit) -> str:
    """Write the archive of an image for several architectures; its digest."""
    return oci.write_archive(target, [f"{REGISTRY}/{image}:{tag()}"], [each.platform(commit) for each in platforms])
