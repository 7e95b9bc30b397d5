"""Builds static programs from C files: the CNI executable, as the image build does, and those of the lab's images."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import spiderpool
from spiderpool.errors import IOFailure
from spiderpool_lab import cni_calls

SOURCE = Path(spiderpool.__file__).parent / "cni" / "shim.c"
FLAGS = ("-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror")


def build(directory: Path) -> Path:
    """Compile the CNI executable into ``directory`` and return its path. Raises IOFailure."""
    return compile_static(SOURCE, directory / "cni")


def build_recorder(program: Path, records: Path) -> Path:
    """Compile what records the calls of ``program`` in a file of the node, beside it, and return its path."""
    defined = {"PROGRAM": program, "RECORDS": records}
    options = [f'-D{name}="{path}"' for name, path in defined.items()]
    return compile_static(cni_calls.SOURCE, program.with_name("cni-recorder"), *options)


def compile_static(source: Path, target: Path, *options: str) -> Path:
    """Compile a C file with musl-gcc, else gcc, and return ``target``. Raises IOFailure."""
    compiler = shutil.which("musl-gcc") or shutil.which("gcc")
    if compiler is None:
        raise IOFailure(f"no C compiler for {source.name}; install musl-tools or gcc")
    command = [compiler, *FLAGS, *options, "-o", str(target), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode:
        raise IOFailure(f"{compiler} cannot build {source.name}: {result.stderr.strip()}")
    return target
