"""Reads a SpiderMultusConfig: the block that describes its interface, and its NetworkAttachmentDefinition's name."""

from __future__ import annotations

from spiderpool.api.multusconfig import (
    CNI_TYPES,
    NAD_NAME_ANNOTATION,
    IbsriovConfig,
    IpoibConfig,
    MacvlanConfig,
    MultusConfigSpec,
    OvsConfig,
    SpiderMultusConfig,
    SriovConfig,
)

BLOCK_FIELDS = {cni_type: cni_type.replace("-", "") for cni_type in CNI_TYPES if cni_type != "custom"}
"""cniType → field of ``spec`` that describes the interface; ``custom`` has no such field."""

NICBlock = MacvlanConfig | SriovConfig | IbsriovConfig | IpoibConfig
"""A block whose interface is made from a NIC of the node."""
Block = NICBlock | OvsConfig


def interface_block(spec: MultusConfigSpec) -> Block | None:
    """The block that ``cniType`` names; None for ``custom``, and when the block is missing."""
    field = BLOCK_FIELDS.get(spec.cniType or "")
    return getattr(spec, field) if field else None


def attachment_name(config: SpiderMultusConfig) -> str:
    """Name of the NetworkAttachmentDefinition: the annotation's value, otherwise the SpiderMultusConfig's own name."""
    return (config.metadata.annotations or {}).get(NAD_NAME_ANNOTATION, config.name)
