"""Whoever has the token of spiderpool-controller wants to change what Nodes say of themselves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from spiderpool.api.address_resources import AdvertisingNode
from spiderpool.api.core_v1 import Node
from spiderpool.kube.client import Client, Forbidden
from spiderpool_lab.control_plane import ControlPlane
from tests.support.eventually import eventually

pytestmark = pytest.mark.control_plane

NAME = "attacked"
OURS = "addresses.spidernet.io/kube-system.a"
STATUS: dict[str, Any] = {
    "capacity": {"cpu": "8", "example.com/gpu": "2", OURS: "5"},
    "allocatable": {"cpu": "7", "example.com/gpu": "2", OURS: "5"},
    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
    "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "x"}],
    "nodeInfo": {"bootID": "b"},
    "images": [{"names": ["a:1"], "sizeBytes": 1}],
    "volumesInUse": ["a"],
    "volumesAttached": [{"name": "a", "devicePath": "/a"}],
    "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
}


def status(**fields: Any) -> dict[str, Any]:
    return {"status": fields}


OWNER = {"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}
EVIL: dict[str, dict[str, Any]] = {
    **{f"{field} of a resource grows": status(**{field: {"cpu": "64"}}) for field in ("capacity", "allocatable")},
    **{
        f"{field} of a resource goes": status(**{field: {"example.com/gpu": None}})
        for field in ("capacity", "allocatable")
    },
    "a resource is no more allocatable": status(allocatable={"example.com/gpu": "0"}),
    "another's resource is added": status(capacity={"example.com/other": "9"}),
    "another's resource is allocatable": status(allocatable={"example.com/other": "9"}),
    "a domain that begins alike": status(capacity={"addresses.spidernet.io.example.com/x": "9"}),
    "another resource beside ours": status(capacity={OURS: "9", "cpu": "64"}),
    "all resources go": status(capacity=None, allocatable=None),
    "all that is allocatable goes": status(allocatable=None),
    "not ready": status(conditions=[{**STATUS["conditions"][0], "status": "False"}]),
    "no conditions": status(conditions=None),
    "another address": status(addresses=[{"type": "InternalIP", "address": "10.0.0.66"}]),
    "another port of the kubelet": status(daemonEndpoints={"kubeletEndpoint": {"Port": 10666}}),
    "another boot": status(nodeInfo={"bootID": "c"}),
    "other images": status(images=None),
    "volumes that are used no more": status(volumesInUse=None),
    "volumes that are attached no more": status(volumesAttached=None),
    "labels": {"metadata": {"labels": {"a": "b"}}},
    "annotations": {"metadata": {"annotations": {"a": "b"}}},
    "finalizers": {"metadata": {"finalizers": ["a.b/c"]}},
    "owners": {"metadata": {"ownerReferences": [OWNER]}},
}
"""Patches of a Node's status that the API server shall never carry out for this account, by name."""


@pytest.fixture
def node(control_plane: ControlPlane) -> Iterator[None]:
    control_plane.kubectl(
        "create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}})
    )
    control_plane.kubectl(
        "patch", "node", NAME, "--subresource=status", "--type=merge", "-p", json.dumps({"status": STATUS})
    )
    yield
    control_plane.kubectl("delete", "node", NAME)


@pytest.fixture
async def thief(control_plane: ControlPlane) -> AsyncIterator[Client]:
    """A client with the controller's token."""
    account = control_plane.service_account_kubeconfig("kube-system", "spiderpool-controller")
    async with Client.load(account) as client:
        yield client


async def resources(client: Client) -> Any:
    return (await client.get(AdvertisingNode, NAME)).status.capacity


@pytest.mark.parametrize("what", EVIL)
async def test_its_account_changes_no_more_of_a_status_than_our_resources(
    control_plane: ControlPlane, node: None, thief: Client, what: str
) -> None:
    before = json.loads(control_plane.kubectl("get", "node", NAME, "-o", "json"))

    async def is_refused() -> bool:  # a new policy is enforced some moments after it was made
        with pytest.raises(Forbidden, match="spiderpool-controller"):
            await thief.patch(Node, NAME, EVIL[what], sub="status")
        return True

    await eventually(is_refused)
    after = json.loads(control_plane.kubectl("get", "node", NAME, "-o", "json"))
    assert (after["status"], after["metadata"].get("labels")) == (before["status"], before["metadata"].get("labels"))


async def test_our_resources_come_change_and_go(node: None, thief: Client) -> None:
    other = "addresses.spidernet.io/pools-0a"
    for held in ({OURS: "7"}, {OURS: "7", other: "1"}, {OURS: None, other: "100k"}, {OURS: None, other: None}):
        await thief.patch(Node, NAME, status(capacity=held, allocatable=held), sub="status")
        assert (await resources(thief) or {}) == {name: text for name, text in held.items() if text}


async def test_the_rest_of_a_node_is_not_within_its_reach_by_the_status(node: None, thief: Client) -> None:
    """The API server itself ignores a spec that is sent with a status."""
    await thief.patch(Node, NAME, {"spec": {"unschedulable": True}, **status(capacity={OURS: "6"})}, sub="status")
    assert not (await thief.get(Node, NAME)).spec.unschedulable
    with pytest.raises(Forbidden):
        await thief.patch(Node, NAME, {"spec": {"unschedulable": True}})
    with pytest.raises(Forbidden):
        await thief.patch(Node, NAME, {"metadata": {"labels": {"a": "b"}}}, sub="proxy")
