"""Parts of every Kubernetes object (meta.k8s.io/v1): metadata, conditions, selectors, and the address of a kind."""

from __future__ import annotations

import enum
import re
from typing import Annotated, Any, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

from spiderpool.errors import BadRequest

GROUP = "spiderpool.spidernet.io"
VERSION = "v2beta1"
"""API group and version of our own kinds."""
FINALIZER = f"{GROUP}/in-use"
"""Keeps a pool or subnet until its addresses are free. API servers warn of finalizers without a path."""
FORMER_FINALIZER = GROUP
"""The same in objects of Spiderpool and of earlier versions: replaced at the next change, removed like our own."""
INT64_MAX = 2**63 - 1
"""The largest number that an int64 field holds; an IPv6 subnet may have more addresses."""
PATH_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]*")
"""Names in request paths; narrower than what Kubernetes allows, by characters that a URL would give a meaning."""
SERVER_DEFAULT = "x-server-default"
"""Keyword under which `field_doc` hands a default to the generator of CRDs."""


def field_doc(text: str, *, default: Any = None, **schema: Any) -> Meta:
    """The description of a field for ``kubectl explain``; further keywords go into the CRD's schema unchanged.

    The API server fills in ``default``, not we, so the Python default stays None (absent).
    """
    extra = schema if default is None else {**schema, SERVER_DEFAULT: default}
    return Meta(description=text, extra_json_schema=extra or None)


def immutable(remedy: str) -> dict[str, Any]:
    """Keywords of `field_doc` for a field that the API server lets nobody change once it is set (a CEL rule)."""
    rule = {"rule": "self == oldSelf", "message": f"cannot be changed; {remedy}", "reason": "FieldValueForbidden"}
    return {"x-kubernetes-validations": [rule]}


class Scope(enum.StrEnum):
    """apiextensions/v1 ResourceScope: whether the objects of a kind are in a Namespace."""

    CLUSTER = "Cluster"
    NAMESPACED = "Namespaced"


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column of ``kubectl get`` (apiextensions/v1 CustomResourceColumnDefinition)."""

    name: str
    type: str
    jsonPath: str
    priority: int = 0


class Rule(msgspec.Struct, frozen=True):
    """A CEL rule of a CRD (apiextensions/v1 ValidationRule), and what the API server says where it is false."""

    rule: str
    message: str


class Kind(msgspec.Struct, frozen=True):
    """The address of a kind in the API, and what its CRD holds beside the schema."""

    group: str
    version: str
    name: str
    plural: str
    scope: Scope
    shortNames: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    status: bool = False
    """Whether the kind has a status subresource."""
    selectable: tuple[str, ...] = ()
    """Paths of fields that field selectors may name; an API server before 1.31 leaves them out of the CRD."""
    rules: tuple[Rule, ...] = ()
    """What the API server checks of a whole object."""

    @property
    def api_version(self) -> str:
        """``group/version``, or the bare version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None) -> str:
        """The request path of a list, without a leading slash. Without a namespace it addresses all Namespaces."""
        words = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace and self.scope is Scope.NAMESPACED:
            words += ["namespaces", _checked(namespace, f"namespace of a {self.name}")]
        return "/".join((*words, self.plural))

    def object_path(self, namespace: str | None, name: str, sub: str | None = None) -> str:
        """The request path of one object. Raises BadRequest for what is no name: the path could be that of a list."""
        if self.scope is Scope.NAMESPACED:
            _checked(namespace or "", f"namespace of a {self.name}")
        return "/".join((self.path(namespace), _checked(name, f"name of a {self.name}"), *((sub,) if sub else ())))


def _checked(word: str, what: str) -> str:
    if not PATH_WORD.fullmatch(word):
        raise BadRequest(f"{word!r} cannot be the {what}")
    return word


class Condition(msgspec.Struct, omit_defaults=True, gc=False):
    """metav1.Condition."""

    type: Annotated[str, field_doc("Name of the condition.")]
    status: Annotated[str, field_doc("True, False or Unknown.", enum=["True", "False", "Unknown"])]
    reason: Annotated[str, field_doc("One word, for programs.")]
    message: Annotated[str, field_doc("A sentence, for people.")]
    lastTransitionTime: Annotated[str | None, field_doc("When the status last changed.")] = None
    observedGeneration: Annotated[int | None, field_doc("The metadata.generation that it is about.")] = None


Conditions: TypeAlias = Annotated[
    list[Condition] | None,
    field_doc(
        "What is the case, and since when.",
        **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class OwnerReference(msgspec.Struct, omit_defaults=True, gc=False):
    """metav1.OwnerReference."""

    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    blockOwnerDeletion: bool | None = None


class ObjectMeta(msgspec.Struct, omit_defaults=True, gc=False):
    """metav1.ObjectMeta, in part."""

    name: str = ""
    namespace: str | None = None
    generateName: str | None = None
    uid: str | None = None
    resourceVersion: str | None = None
    generation: int | None = None
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    deletionGracePeriodSeconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    ownerReferences: list[OwnerReference] | None = None


class Object(msgspec.Struct, omit_defaults=True, gc=False, kw_only=True):
    """Base of every object; ``KIND`` is its address in the API.

    An object is a tree of values, so Python's garbage collection, which looks for cycles, need not visit it
    (``gc=False``, here and in the parts of which a large cluster has many): it would visit millions at a time.
    """

    KIND: ClassVar[Kind]

    apiVersion: str | None = None
    kind: str | None = None
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return self.metadata.name

    @property
    def key(self) -> str:
        """``namespace/name``, or the name alone for cluster-scoped objects."""
        return f"{self.metadata.namespace}/{self.metadata.name}" if self.metadata.namespace else self.metadata.name

    def defect(self) -> str | None:
        """Why the object cannot be used though it fits its type, as one that is older than a rule; None: it can be."""
        return None

    @property
    def terminating(self) -> bool:
        """Whether the object is being deleted and waits for finalizers or its grace period."""
        return self.metadata.deletionTimestamp is not None

    @property
    def controller(self) -> OwnerReference | None:
        """The owner reference of the object's controller; None without one."""
        return next((owner for owner in self.metadata.ownerReferences or () if owner.controller), None)

    def as_owner(self, *, controller: bool = False) -> OwnerReference:
        """The owner reference by which Kubernetes deletes an object together with this one.

        ``controller``: this object makes the other one, and does not go before it in a foreground deletion.
        """
        flag = controller or None
        return OwnerReference(self.KIND.api_version, self.KIND.name, self.name, self.metadata.uid or "", flag, flag)


def revision(version: str | None) -> int:
    """A resourceVersion as a number: the revision of etcd, which grows with each write; 0 for none."""
    return int(version) if version and version.isdigit() else 0


class SelectorRequirement(msgspec.Struct, omit_defaults=True):
    """metav1.LabelSelectorRequirement."""

    key: str
    operator: Annotated[str, field_doc("In, NotIn, Exists or DoesNotExist.")]
    values: Annotated[
        list[str] | None, field_doc("Values for In and NotIn.", **{"x-kubernetes-list-type": "atomic"})
    ] = None


class LabelSelector(msgspec.Struct, omit_defaults=True):
    """metav1.LabelSelector."""

    matchLabels: dict[str, str] | None = None
    matchExpressions: Annotated[
        list[SelectorRequirement] | None,
        field_doc("Requirements, all of which must hold.", **{"x-kubernetes-list-type": "atomic"}),
    ] = None


def spiderpool_kind(
    name: str,
    scope: Scope,
    short: str,
    columns: tuple[Column, ...] = (),
    *,
    status: bool = False,
) -> Kind:
    """A kind of our own group, in the category ``spiderpool`` of kubectl."""
    return Kind(GROUP, VERSION, name, name.lower() + "s", scope, (short,), ("spiderpool",), columns, status)
