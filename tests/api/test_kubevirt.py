"""KubeVirt's virtual machines and their instances."""

from __future__ import annotations

import pytest

from spiderpool.api.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.api.meta import Object
from tests.api.documents import read

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "plural", "short"),
    [(VirtualMachine, "virtualmachines", "vm"), (VirtualMachineInstance, "virtualmachineinstances", "vmi")],
)
def test_machines_are_read_by_name(kind: type[Object], plural: str, short: str) -> None:
    found = read({"apiVersion": "kubevirt.io/v1", "kind": kind.KIND.name, "metadata": {"name": "a"}}, kind)
    assert found.name == "a"
    assert kind.KIND.object_path("shop", found.name) == f"apis/kubevirt.io/v1/namespaces/shop/{plural}/a"
    assert kind.KIND.shortNames == (short,)
