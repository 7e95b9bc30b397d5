"""What our chart makes of the settings of Spiderpool's own release, in Go: of a values file, and of its ConfigMap."""

from __future__ import annotations

import json
import shlex
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.errors import BadConfig

SERVED, REFUSED, WITHOUT_EFFECT, UNKNOWN = "served", "refused", "without effect", "unknown"

KEYS: Mapping[str, str] = {
    "enableIPv4": "ipam.enableIPv4",
    "enableIPv6": "ipam.enableIPv6",
    "enableStatefulSet": "ipam.enableStatefulSet",
    "enableKubevirtStaticIP": "ipam.enableKubevirtStaticIP",
    "enableSpiderSubnet": "ipam.spiderSubnet.enable",
    "enableAutoPoolForApplication": "ipam.spiderSubnet.autoPool.enable",
    "enableIPConflictDetection": "ipam.enableIPConflictDetection",
    "enableGatewayDetection": "ipam.enableGatewayDetection",
    "enableValidatingResourcesDeletedWebhook": "spiderpoolController.enableValidatingResourcesDeletedWebhook",
    "tuneSysctlConfig": "spiderpoolAgent.tuneSysctlConfig",
    "podResourceInject.enabled": "spiderpoolController.podResourceInject.enabled",
    "podResourceInject.namespacesExclude": "spiderpoolController.podResourceInject.namespacesExclude",
    "podResourceInject.namespacesInclude": "spiderpoolController.podResourceInject.namespacesInclude",
}
"""Key of ``conf.yml`` → the value of our chart."""
WITHOUT_COUNTERPART: Mapping[str, str] = {
    "ipamUnixSocketPath": "the path is built into the CNI executable",
    "enableCleanOutdatedEndpoint": "SpiderEndpoints without a pod always go",
    "clusterSubnetDefaultFlexibleIPNumber": "nothing has ever read it",
    "clusterSubnetAutoPoolDefaultRedundantIPNumber": "ours is ipam.spiderSubnet.autoPool.defaultRedundantIPNumber",
    "agent.networkResourcePlugin": "set spiderpoolAgent.networkResourcePlugin",
    "iaasNetworkProvider.serverUrl": "addresses are kept in the cluster alone",
    "iaasNetworkProvider.httpRequestTimeout": "as serverUrl",
}
"""Key of ``conf.yml`` → what is here instead."""


REGISTRY = "global.imageRegistryOverride"
OF_AN_IMAGE = ("registry", "repository", "tag", "digest")
"""What of a block ``image`` says which image it is."""
OTHER_IMAGE = "it names an image of the other release: leave it out, and name ours by global.imageRegistryOverride"


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting of the other release."""

    name: str
    value: str
    outcome: str
    remedy: str = ""


class UnusedValue(msgspec.Struct):
    """A value of the other chart that has no effect in ours."""

    value: str


class RefusedValue(UnusedValue):
    """A value of the other chart that ours refuses, but for some."""

    accepts: list[Any]
    instead: str


class CompatibilityTable(msgspec.Struct):
    """compatibility.yaml of our chart."""

    refused: list[RefusedValue]
    unused: list[UnusedValue]


def value_rows(given: Mapping[str, Any], chart: Path) -> list[SettingRow]:
    """What our chart makes of each value of a file. Raises BadConfig where its files cannot be read."""
    try:
        table = msgspec.yaml.decode((chart / "compatibility.yaml").read_bytes(), type=CompatibilityTable)
        schema = msgspec.json.decode((chart / "values.schema.json").read_bytes(), type=dict[str, Any])
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BadConfig(f"{chart} is no checkout of our chart: {error}; name its folder by --chart") from error
    refused = {row.value: row for row in table.refused}
    unused = {row.value for row in table.unused}
    return [_row(path, value, refused, unused, schema) for path, value in _leaves(given, {*refused, *unused}, schema)]


def _row(
    path: str, value: Any, refused: Mapping[str, RefusedValue], unused: Container[str], schema: Mapping[str, Any]
) -> SettingRow:
    shown = json.dumps(value)
    if path in refused:
        is_accepted = any(_same(value, each) for each in refused[path].accepts)
        return SettingRow(path, shown, SERVED if is_accepted else REFUSED, "" if is_accepted else refused[path].instead)
    if path in unused:
        return SettingRow(path, shown, WITHOUT_EFFECT)
    if _known(path, schema) is None:
        return SettingRow(path, shown, UNKNOWN, "the chart refuses it: remove it, or correct its name")
    if value and _names_image(path):
        return SettingRow(path, shown, REFUSED, OTHER_IMAGE)
    return SettingRow(path, shown, SERVED)


def _names_image(path: str) -> bool:
    """Whether a value says which program pods run: our chart would run theirs."""
    *_, block, name = path.split(".")
    return path == REGISTRY or (block == "image" and name in OF_AN_IMAGE)


def _same(value: Any, other: Any) -> bool:
    """Whether two values are the same to the chart, to which true is not 1."""
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)


def _leaves(
    block: Mapping[str, Any], whole: set[str], schema: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Each value by its path; mappings that the chart, or the table, takes as one value are one."""
    for key, value in block.items():
        path = f"{prefix}{key}"
        known = _known(path, schema)
        is_block = known is None or "properties" in known
        if isinstance(value, dict) and value and path not in whole and is_block:
            yield from _leaves(value, whole, schema, f"{path}.")
        else:
            yield path, value


def _known(path: str, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of a value; None for one that the chart does not know. What an open block holds is known."""
    found: Mapping[str, Any] = schema
    for word in path.split("."):
        inner = found.get("properties", {}).get(word)
        if inner is None:
            return {} if found is not schema and found.get("additionalProperties", True) is not False else None
        found = inner
    return found


def setting_rows(conf: Mapping[str, Any]) -> list[SettingRow]:
    """What stands here for each key of the other release's ``conf.yml``."""
    rows = []
    for key, value in _flat(conf):
        shown = json.dumps(value)
        if key in KEYS:
            rows.append(SettingRow(key, shown, SERVED, f"{KEYS[key]}"))
        else:
            remedy = WITHOUT_COUNTERPART.get(key, "")
            rows.append(SettingRow(key, shown, WITHOUT_EFFECT if remedy else UNKNOWN, remedy))
    return rows


def _flat(conf: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in conf.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and path not in WITHOUT_COUNTERPART:
            yield from _flat(value, f"{path}.")
        else:
            yield path, value


def flags(conf: Mapping[str, Any]) -> list[str]:
    """The options of helm by which our chart has the settings of a ``conf.yml``."""
    found = []
    for key, value in _flat(conf):
        if key in KEYS:
            found.append(f"--set-json {shlex.quote(f'{KEYS[key]}={json.dumps(value)}')}")
    return found
