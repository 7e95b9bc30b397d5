"""CustomResourceDefinition (apiextensions.k8s.io/v1), in part: read by commands alone."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from spiderpool.api.meta import Kind, Object, Scope


class VersionSchema(msgspec.Struct):
    """apiextensions/v1 CustomResourceValidation."""

    openAPIV3Schema: dict[str, Any] = msgspec.field(default_factory=dict)


class DefinedVersion(msgspec.Struct):
    """apiextensions/v1 CustomResourceDefinitionVersion, in part."""

    name: str
    served: bool = False
    schema: VersionSchema = msgspec.field(default_factory=VersionSchema)


class DefinitionSpec(msgspec.Struct):
    """apiextensions/v1 CustomResourceDefinitionSpec, in part."""

    group: str = ""
    versions: list[DefinedVersion] = msgspec.field(default_factory=list)


class CustomResourceDefinition(Object, kw_only=True):
    """apiextensions/v1 CustomResourceDefinition."""

    KIND: ClassVar[Kind] = Kind(
        "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", Scope.CLUSTER
    )

    spec: DefinitionSpec = msgspec.field(default_factory=DefinitionSpec)
