from __future__ import annotations

import pytest

from spiderpool.errors import KernelFailure
from spiderpool.kernel import sysctl

pytestmark = pytest.mark.unit


def test_sysctls_that_do_not_exist() -> None:
    assert sysctl.read("net/ipv4/nonsense") == ""
    assert sysctl.scopes("net/nonsense") == ()
    sysctl.write("net/ipv4/nonsense", "1", required=False)
    with pytest.raises(KernelFailure, match="sysctl net/ipv4/nonsense = 1: No such file"):
        sysctl.write("net/ipv4/nonsense", "1")


def test_sysctls_that_exist() -> None:
    assert sysctl.read("net/ipv4/ip_forward") in ("0", "1")
    assert {"all", "default", "lo"} <= set(sysctl.scopes("net/ipv4/conf"))


def test_what_cannot_be_read_is_a_failure() -> None:
    with pytest.raises(KernelFailure, match="read sysctl net/ipv4: Is a directory"):
        sysctl.read("net/ipv4")
    with pytest.raises(KernelFailure, match="list sysctls net/ipv4/ip_forward: Not a directory"):
        sysctl.scopes("net/ipv4/ip_forward")
