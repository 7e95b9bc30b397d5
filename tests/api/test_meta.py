"""What all objects share: metadata, conditions, selectors, request paths."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.meta import (
    Column,
    Condition,
    Kind,
    LabelSelector,
    Object,
    ObjectMeta,
    OwnerReference,
    Scope,
    SelectorRequirement,
    field_doc,
    immutable,
    revision,
    spiderpool_kind,
)
from spiderpool.errors import BadRequest
from tests.api.documents import read

pytestmark = pytest.mark.unit

POD = Kind("", "v1", "Pod", "pods", Scope.NAMESPACED)
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases", Scope.NAMESPACED)
NODE = Kind("", "v1", "Node", "nodes", Scope.CLUSTER)
POOL = spiderpool_kind("SpiderIPPool", Scope.CLUSTER, "sp", (Column("SUBNET", "string", ".spec.subnet"),), status=True)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (POD.path(), "api/v1/pods"),
        (POD.path("shop"), "api/v1/namespaces/shop/pods"),
        (POD.object_path("shop", "web", "status"), "api/v1/namespaces/shop/pods/web/status"),
        (LEASE.object_path("kube-system", "a"), "apis/coordination.k8s.io/v1/namespaces/kube-system/leases/a"),
        (NODE.object_path("ignored", "n1"), "api/v1/nodes/n1"),
        (POOL.object_path(None, "blue", "status"), "apis/spiderpool.spidernet.io/v2beta1/spiderippools/blue/status"),
    ],
)
def test_request_paths(path: str, expected: str) -> None:
    assert path == expected


@pytest.mark.parametrize("word", ["", ".", "..", "a/b", "a?b", "a%2Fb", "../nodes", "a b", "ä", "-a"])
def test_what_is_no_name_makes_no_path(word: str) -> None:
    with pytest.raises(BadRequest, match="cannot be the name of a Pod"):
        POD.object_path("shop", word)
    with pytest.raises(BadRequest, match="cannot be the namespace of a Pod"):
        POD.object_path(word, "web")
    if word:  # without a namespace all Namespaces are listed
        with pytest.raises(BadRequest):
            POD.path(word)


def test_names_of_every_kind_make_a_path() -> None:
    role = Kind("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", Scope.CLUSTER)
    assert role.object_path(None, "system:node_x-1.y").endswith("/clusterroles/system:node_x-1.y")
    with pytest.raises(BadRequest):
        POD.object_path(None, "web")


def test_api_versions() -> None:
    assert (POD.api_version, LEASE.api_version) == ("v1", "coordination.k8s.io/v1")


def test_our_own_kinds_share_group_version_and_category() -> None:
    assert POOL.api_version == "spiderpool.spidernet.io/v2beta1"
    assert (POOL.plural, POOL.shortNames, POOL.categories, POOL.status) == (
        "spiderippools",
        ("sp",),
        ("spiderpool",),
        True,
    )


@pytest.mark.parametrize(
    ("metadata", "key", "terminating"),
    [
        ({"name": "blue"}, "blue", False),
        ({"name": "web", "namespace": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "shop/web", True),
    ],
)
def test_key_and_termination_of_an_object(metadata: dict[str, str], key: str, terminating: bool) -> None:
    found = read({"metadata": metadata}, Object)
    assert (found.name, found.key, found.terminating) == (metadata["name"], key, terminating)


@pytest.mark.parametrize(
    ("owners", "controller"),
    [
        (None, None),
        ([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u-1"}], None),
        (
            [
                {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u-1", "controller": False},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u-2", "controller": True},
            ],
            "web",
        ),
    ],
)
def test_of_several_owners_one_controls(owners: list[dict[str, object]] | None, controller: str | None) -> None:
    found = read({"metadata": {"name": "web-1"} | ({"ownerReferences": owners} if owners else {})}, Object).controller
    assert (found and found.name) == controller


def test_metadata() -> None:
    document = {
        "name": "web-1",
        "namespace": "shop",
        "uid": "u-1",
        "resourceVersion": "7",
        "generation": 2,
        "labels": {"app": "web"},
        "annotations": {"a": "b"},
        "finalizers": ["f"],
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u-0", "controller": True}
        ],
    }
    metadata = read(document, ObjectMeta)
    assert metadata.ownerReferences == [OwnerReference("apps/v1", "ReplicaSet", "web", "u-0", controller=True)]


def test_conditions_and_selectors() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Ok", "message": "all is well"}
    assert read(ready, Condition).lastTransitionTime is None
    document = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]}
    assert read(document, LabelSelector).matchExpressions == [SelectorRequirement("c", "In", ["d"])]


def test_descriptions_and_defaults_of_fields() -> None:
    assert field_doc("A port.") == msgspec.Meta(description="A port.")
    described = field_doc("A port.", default=80, maximum=90)
    assert described.extra_json_schema == {"maximum": 90, "x-server-default": 80}


def test_an_immutable_field_has_a_rule_with_a_remedy() -> None:
    (rule,) = immutable("create another one")["x-kubernetes-validations"]
    assert (rule["rule"], rule["message"]) == ("self == oldSelf", "cannot be changed; create another one")


@pytest.mark.parametrize("controller", [None, True])
def test_what_an_object_owns_is_deleted_with_it(controller: bool | None) -> None:
    class Anything(Object):
        KIND = LEASE

    owner = Anything(metadata=ObjectMeta(name="a", namespace="shop", uid="u"))
    found = owner.as_owner(controller=bool(controller))
    assert found == OwnerReference("coordination.k8s.io/v1", "Lease", "a", "u", controller, controller)


@pytest.mark.parametrize(("version", "number"), [(None, 0), ("", 0), ("odd", 0), ("9", 9), ("10", 10)])
def test_resource_versions_as_numbers(version: str | None, number: int) -> None:
    assert revision(version) == number


def test_an_object_is_sound_unless_its_kind_knows_better() -> None:
    assert Object().defect() is None
