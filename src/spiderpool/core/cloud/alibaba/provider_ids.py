"""The provider ID of an ECS instance, ``spec.providerID`` of its Node: ``[alicloud://]region.instance``."""

from __future__ import annotations

SCHEME = "alicloud://"
"""Older Nodes have it in front."""


def parse_provider_id(text: str) -> tuple[str, str] | None:
    """Returns region and instance; None for an empty text and for provider IDs of another form or cloud."""
    region, dot, identity = text.removeprefix(SCHEME).partition(".")
    return (region, identity) if dot and region and identity and "." not in identity and ":" not in region else None
