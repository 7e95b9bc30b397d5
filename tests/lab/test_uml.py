"""User Mode Linux can be started: its kernel is there, and the library that is preloaded into it replaces ptrace(2)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spiderpool.errors import IOFailure
from spiderpool_lab import binaries, uml

pytestmark = pytest.mark.lab

TRACE = """
import ctypes, os, signal, sys

TRACEME, PEEKDATA, POKEDATA, CONT, GETREGSET, SETREGSET = 0, 2, 5, 7, 0x4204, 0x4205
XSTATE, NO_PROCESS = 0x202, 2**22 + 1

class iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
word = ctypes.c_long(-7)

def ptrace(request, pid, address=None, data=None):
    ctypes.set_errno(0)
    result = libc.ptrace(request, pid, address, data)
    return result, ctypes.get_errno()

child = os.fork()
if child == 0:
    libc.ptrace(TRACEME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(41 + word.value)
os.waitpid(child, 0)

# A word is the result, also a negative one; poked, the child sees it.
address = ctypes.addressof(word)
assert ptrace(PEEKDATA, child, address) == (-7, 0)
assert ptrace(POKEDATA, child, address, 1) == (0, 0)
assert ptrace(PEEKDATA, child, address) == (1, 0)
assert ptrace(PEEKDATA, NO_PROCESS, address) == (-1, 3)  # ESRCH

# The state that Linux 6.1 knows, a part of the whole, can be read and set.
known = ctypes.create_string_buffer(int(sys.argv[1]))
vector = iovec(ctypes.addressof(known), len(known))
assert ptrace(GETREGSET, child, XSTATE, ctypes.addressof(vector)) == (0, 0)
MXCSR = 24  # Intel SDM, volume 1, section 10.5.1
known[MXCSR:MXCSR + 4] = (0x1F80 | 0x8000).to_bytes(4, "little")
assert ptrace(SETREGSET, child, XSTATE, ctypes.addressof(vector)) == (0, 0)
after = ctypes.create_string_buffer(len(known))
vector = iovec(ctypes.addressof(after), len(after))
assert ptrace(GETREGSET, child, XSTATE, ctypes.addressof(vector)) == (0, 0)
assert after.raw[MXCSR:MXCSR + 4] == known.raw[MXCSR:MXCSR + 4]

ptrace(CONT, child)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 42
print("traced")
"""
LINUX_6_1_XSTATE = 2696
"""Bytes of extended processor state that User Mode Linux 6.1 reads and writes."""


def test_the_command_names_a_library_and_a_kernel_that_exist() -> None:
    environment, library, kernel = uml.kernel_command()
    assert environment == "env"
    assert library.startswith("LD_PRELOAD=")
    assert Path(library.removeprefix("LD_PRELOAD=")).is_file()
    assert os.access(kernel, os.X_OK)
    version = subprocess.run([*uml.kernel_command(), "--version"], capture_output=True, text=True, timeout=20)
    assert version.stdout.startswith("6.1.")


def test_a_child_is_traced_through_the_library() -> None:
    """As linux.uml does: with a buffer for the state that is shorter than what some processors have."""
    env, library, _ = uml.kernel_command()
    command = [env, library, sys.executable, "-c", TRACE, str(LINUX_6_1_XSTATE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stdout == "traced\n", done.stderr


def test_the_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "assets/linux.uml"
    kernel.parent.mkdir()
    kernel.symlink_to(binaries.find("linux.uml"))
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(kernel.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = uml.kernel_command()
    (library,) = (tmp_path / "spiderpool").iterdir()
    monkeypatch.setenv("PATH", "/nowhere")
    assert uml.kernel_command() == first == ["env", f"LD_PRELOAD={library}", str(kernel)]
    library.unlink()
    with pytest.raises(IOFailure, match="install gcc"):
        uml.kernel_command()
