"""The Python of an image, run on this machine without a container: by its own loader, with its own libraries."""

from __future__ import annotations

import platform
import shutil
import tarfile
from pathlib import Path

from spiderpool_lab import binaries
from spiderpool_lab.archives import unpack
from spiderpool_lab.commands import run

VERSION = "3.13"
"""The Python of the packages in :mod:`spiderpool_lab.product.debian`."""
_SCRIPT = Path(__file__).with_name("inside.py")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


class Interpreter:
    """The Python in the file tree ``root`` of an image for this machine's architecture."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    def of(cls, layer: Path) -> Interpreter:
        """The one in a layer, which is unpacked if it is not yet. Call it with a lock on the folder of layers."""
        root = layer.with_name(f"{layer.stem}-tree")
        if not root.exists():
            with binaries.scratch_folder(layer.parent) as work:
                with tarfile.open(layer) as tree:
                    unpack(tree, work / "tree", "tar")
                binaries.publish(work / "tree", root)
            _remove_without_layer(layer.parent)
        return cls(root)

    def compile_below(self, root: Path) -> None:
        """Put the bytecode of every module below ``root`` beside it; ``root`` stands for ``/``."""
        self._run("compile", root)

    def compress(self, source: Path, target: Path) -> None:
        """Compress a file with gzip."""
        self._run("compress", source, target)

    def _run(self, *arguments: str | Path) -> None:
        libraries = self._root / f"usr/lib/{platform.machine()}-linux-gnu"
        (loader,) = libraries.glob("ld-linux-*.so.*")
        python = self._root / f"usr/bin/python{VERSION}"
        command = [loader, "--library-path", libraries, python, "-s", "-P", "-S", _SCRIPT, *arguments]
        run(command, env=_ENVIRONMENT)


def _remove_without_layer(folder: Path) -> None:
    """Remove the trees of layers that are gone."""
    for tree in folder.glob("*-tree"):
        if not tree.with_name(f"{tree.name.removesuffix('-tree')}.tar").exists():
            shutil.rmtree(tree)
