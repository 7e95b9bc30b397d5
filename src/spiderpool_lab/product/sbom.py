"""Bills of materials, of images and of the product itself: CycloneDX 1.5, as JSON. Equal contents have equal ones.

``make sbom`` runs it, and writes that of the product.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from email.parser import BytesHeaderParser
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from spiderpool import __version__
from spiderpool_lab.commands import output, run
from spiderpool_lab.product import checkout, programs
from spiderpool_lab.product.checkout import Commit
from spiderpool_lab.product.debian import RELEASE, SUITE, Apt
from spiderpool_lab.product.images import AGENT, Built, tag
from spiderpool_lab.product.layers import Layers

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "spiderpool")


def document(built: Built, commit: Commit) -> str:
    """The bill of an image for one architecture."""
    components = [*_debian(built), *_python(built.parts.values())]
    if built.image == AGENT:
        components += _programs(built.architecture)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in built.parts.values()]
    described = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, ' '.join([built.image, commit.revision, *digests]))}",
        "version": 1,
        "metadata": {
            "timestamp": commit.created,
            "component": {
                "type": "container",
                "bom-ref": built.image,
                "name": built.image,
                "version": tag(),
                "properties": [{"name": "architecture", "value": built.architecture}],
            },
        },
        "components": sorted(components, key=lambda each: str(each["bom-ref"])),
    }
    return json.dumps(described, indent=2) + "\n"


def of_product(commit: Commit) -> str:
    """The bill of the product: what uv.lock names, without the tools of development. Raises IOFailure."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "bill.json"
        options = ["--frozen", "--no-default-groups", "--format", "cyclonedx1.5", "--quiet"]
        run([checkout.uv(), "export", "--project", checkout.ROOT, *options, "--output-file", written])
        bill = json.loads(written.read_text())
    # uv writes a random number, the time, and no version of what has it in its code.
    locked = (checkout.ROOT / "uv.lock").read_text()
    bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{commit.revision} {locked}')}"
    bill["metadata"]["timestamp"] = commit.created
    bill["metadata"]["component"]["version"] = __version__
    return json.dumps(bill, indent=2) + "\n"


def _component(purl: str, name: str, version: str, **more: Any) -> dict[str, Any]:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, **more}


def _debian(built: Built) -> Iterator[dict[str, Any]]:
    layers = Layers(built.architecture)
    packages = layers.python_packages() + (layers.packet_filter_packages() if built.image == AGENT else [])
    for package, deb in zip(packages, Apt(built.architecture).download(packages), strict=True):
        place = f"arch={package.architecture}&distro=debian-{RELEASE}"
        purl = f"pkg:deb/debian/{quote(package.name)}@{quote(package.version)}?{place}"
        hashes = [{"alg": "SHA-256", "content": hashlib.sha256(deb.read_bytes()).hexdigest()}]
        source = output(["dpkg-deb", "--field", deb, "Source"]).split()
        properties = [{"name": "debian:source", "value": source[0] if source else package.name}]
        properties.append({"name": "debian:suite", "value": SUITE})
        yield _component(purl, package.name, package.version, hashes=hashes, properties=properties)


def _python(layers: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The installed distributions."""
    return (_distribution(metadata) for path in layers for metadata in _metadata(path))


@cache
def _metadata(path: Path) -> tuple[bytes, ...]:
    """The files with which distributions describe themselves, in a layer."""
    with tarfile.open(path) as layer:
        contents = (layer.extractfile(each) for each in layer if each.name.endswith(".dist-info/METADATA"))
        return tuple(content.read() for content in contents if content)


def _distribution(metadata: bytes) -> dict[str, Any]:
    fields = BytesHeaderParser().parsebytes(metadata)
    name, version = str(fields["Name"]), str(fields["Version"])
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    if expression := fields.get("License-Expression"):
        return _component(purl, name, version, licenses=[{"expression": str(expression)}])
    text = str(fields.get("License") or "").splitlines()
    return _component(purl, name, version, **({"licenses": [{"license": {"name": text[0]}}]} if text else {}))


def _programs(architecture: str) -> Iterator[dict[str, Any]]:
    """The programs for the node: the CNI executable with its C library, and the Go modules of the plugins."""
    compiler = checkout.requirements("--only-group", "images").split()[0].partition("==")[2]
    yield _component("pkg:generic/musl", "musl", f"of ziglang {compiler}")
    modules = {module for plugin in programs.reference_plugins(architecture) for module in programs.go_modules(plugin)}
    for name, version in sorted(modules):
        yield _component(f"pkg:golang/{name}@{version}", name, version)


def main() -> int:
    """Write the bill of the product to dist/sbom.json."""
    target = checkout.ROOT / "dist/sbom.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(of_product(Commit.current()))
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
