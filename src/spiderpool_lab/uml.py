"""The command that starts a User Mode Linux kernel on this machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from spiderpool.errors import IOFailure
from spiderpool_lab import binaries

XSTATE_SOURCE = Path(__file__).with_name("uml_xstate.c")
COMPILER_FLAGS = (
    "-shared",
    "-fPIC",
    "-O2",
    "-nostdlib",
    "-ffreestanding",
    "-fno-builtin",
    "-Wall",
    "-Wextra",
    "-Werror",
)


def kernel_command() -> list[str]:
    """The command that starts linux.uml, without its arguments. Raises IOFailure if a part of it is missing.

    Processors with AMX have a larger register state than Linux 6.1 expects: see ``uml_xstate.c``.
    """
    return ["env", f"LD_PRELOAD={_xstate_library()}", str(binaries.find("linux.uml"))]


def _xstate_library() -> Path:
    """The library made from ``uml_xstate.c``, compiled once per version of that file."""
    source = XSTATE_SOURCE.read_bytes()
    library = binaries.cache() / f"uml-xstate-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if library.exists():
        return library
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise IOFailure("no C compiler for User Mode Linux's register state; install gcc")
    library.parent.mkdir(parents=True, exist_ok=True)
    draft = library.with_suffix(f".{os.getpid()}")
    command = [compiler, *COMPILER_FLAGS, "-o", str(draft), str(XSTATE_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise IOFailure(f"{compiler} cannot build {XSTATE_SOURCE.name}: {done.stderr.strip()}")
    draft.replace(library)
    return library
