"""Run nft and iptables, whose answers say what exists. They act in the network namespace of the calling thread."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

from spiderpool.errors import KernelFailure

Backend: TypeAlias = Literal["nft", "iptables"]

IPTABLES = {4: "iptables-legacy", 6: "ip6tables-legacy"}
"""IP version → the program that speaks with the kernel's ip_tables; add ``-save`` or ``-restore``."""
TIMEOUT = 10.0
"""Seconds for one call of a program."""

NFT_ABSENT = (
    "No such file or directory",  # the table does not exist
    "Operation not supported",  # the kernel lacks the family
    "Protocol not supported",  # the kernel has no nfnetlink
    "cache initialization failed: Invalid argument",  # the kernel has no nf_tables
)
IPTABLES_ABSENT = (
    "do you need to insmod?",  # the kernel has no ip_tables, or lacks the table
    "Address family not supported by protocol",  # the kernel has no IPv6, or runs with ipv6.disable=1
)

MISSING_PROGRAM = 127
"""Exit status of a program that does not exist, as the shell's."""
_TIMED_OUT = 124  # the exit status of timeout(1)
_NOTHING: Mapping[str, str] = MappingProxyType({})


def run(command: Sequence[str], text: str = "", environment: Mapping[str, str] = _NOTHING) -> tuple[int, str]:
    """Exit status and all output. A missing program and one that hangs have an exit status and a reason, too.

    ``text`` is the standard input; ``environment`` is added to our own.
    """
    try:
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            env={**os.environ, **environment, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        return MISSING_PROGRAM, str(error)
    except OSError as error:
        raise KernelFailure(f"{command[0]} could not be started", str(error)) from error
    except subprocess.TimeoutExpired:
        return _TIMED_OUT, f"no answer within {TIMEOUT:g} seconds"
    return done.returncode, done.stdout.strip()


def refusal(command: Sequence[str], text: str, environment: Mapping[str, str] = _NOTHING) -> str:
    """Run a program that changes something; why it failed, empty on success."""
    code, output = run(command, text, environment)
    return (output or f"exit status {code}") if code else ""


def query(command: Sequence[str], absent: tuple[str, ...], environment: Mapping[str, str] = _NOTHING) -> str:
    """A program's output; empty if the program is missing or its error contains one of ``absent``.

    Raises:
        KernelFailure: the program failed otherwise.
    """
    code, output = run(command, "", environment)
    if code == 0:
        return output
    if code == MISSING_PROGRAM or any(words in output for words in absent):
        return ""
    raise KernelFailure(f"{command[0]} has failed", output or f"exit status {code}")
