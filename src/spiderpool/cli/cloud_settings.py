"""The settings of spiderpool-cloud for commands that look at the cloud: of the cluster, or of a file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from spiderpool.api.core_v1 import ConfigMap, Node
from spiderpool.cli.connection import Cluster
from spiderpool.cli.files import text_at
from spiderpool.cli.policies import CONFIG, FILE, read_as_conf
from spiderpool.cloud import registry
from spiderpool.cloud.registry import Provider
from spiderpool.core.cloud.instances import ProviderIDParser
from spiderpool.errors import BadConfig
from spiderpool.settings import CloudSettings, cloud_settings, text_source

FEATURES = registry.DEFAULT.features
"""Features of spiderpool-cloud, all of which need permissions."""


async def read_cloud_settings(cluster: Cluster, values: Path | None, namespace: str) -> CloudSettings:
    """Returns the settings of a file, else of the cluster's ConfigMap, with the variables of this process.

    Raises BadConfig, also where there are none: with a false ID of the cluster nothing would be recognised.
    """
    if values is not None:
        return settings_of(text_at(values), values)
    config = await cluster.find(ConfigMap, CONFIG, namespace)
    text = ((config.data if config else None) or {}).get(FILE)
    if text is None:
        raise BadConfig(
            f"ConfigMap {namespace}/{CONFIG} with {FILE} was not found: name its Namespace by --spiderpool-namespace, "
            "or where Spiderpool is not installed yet the file that it will get by --values"
        )
    return settings_of(text, None)


def settings_of(text: str, values: Path | None) -> CloudSettings:
    """Returns the settings that the text of conf.yml and the variables of this process make. Raises BadConfig."""
    with read_as_conf(values):
        return cloud_settings(text_source(text, str(values or f"ConfigMap {CONFIG}"), os.environ))


def provider_of(settings: CloudSettings) -> Provider:
    """Returns the provider of the settings; the default one when they name none, as a dry run needs no settings."""
    name = settings.common.cloud.provider
    return registry.provider(name) if name else registry.DEFAULT


def region_of(settings: CloudSettings, nodes: Iterable[Node], parse: ProviderIDParser) -> str:
    """Returns the region of the settings, else that of the nodes. Raises BadConfig where neither names one."""
    named = (parse(node.spec.providerID or "") for node in nodes)
    region = settings.region or next((found[0] for found in named if found), "")
    if not region:
        raise BadConfig("no node has a provider ID that names a region: set cloud.region in conf.yml, or give --values")
    return region
