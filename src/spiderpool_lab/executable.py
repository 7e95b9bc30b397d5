"""Builds the CNI executable from its C file, as the image build does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import spiderpool
from spiderpool.errors import IOFailure

SOURCE = Path(spiderpool.__file__).parent / "cni" / "shim.c"
FLAGS = ("-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror")


def build(directory: Path) -> Path:
    """Compile it into ``directory`` with musl-gcc, else gcc, and return its path. Raises IOFailure."""
    compiler = shutil.which("musl-gcc") or shutil.which("gcc")
    if compiler is None:
        raise IOFailure("no C compiler for the CNI executable; install musl-tools or gcc")
    target = directory / "cni"
    result = subprocess.run(
        [compiler, *FLAGS, "-o", str(target), str(SOURCE)], capture_output=True, text=True, timeout=60, check=False
    )
    if result.returncode:
        raise IOFailure(f"{compiler} cannot build {SOURCE.name}: {result.stderr.strip()}")
    return target
