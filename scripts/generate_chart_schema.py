"""Write values.schema.json of the chart and docs/reference/values.md, from values.yaml and the table of settings.

Run after a change of either. Names, defaults and comments are those of values.yaml; what a value may be is what the
setting that it becomes may be (SERVED), or what is written here (RULES), or else the type of its default.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.crd import schema as crd_schema
from spiderpool.settings import kinds, table
from spiderpool.settings.kinds import Kind
from spiderpool.settings.setting import Setting

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts" / "spiderpool"
SCHEMA = CHART / "values.schema.json"
PAGE = ROOT / "docs" / "reference" / "values.md"

Schema = dict[str, Any]

SERVED: Final[Mapping[str, Setting[Any]]] = {
    "ipam.enableIPv4": table.ENABLE_IPV4,
    "ipam.enableIPv6": table.ENABLE_IPV6,
    "ipam.enableStatefulSet": table.ENABLE_STATEFULSET,
    "ipam.enableKubevirtStaticIP": table.ENABLE_KUBEVIRT_STATIC_IP,
    "ipam.enableIPConflictDetection": table.DETECT_CONFLICTS,
    "ipam.enableGatewayDetection": table.DETECT_GATEWAY,
    "ipam.spiderSubnet.enable": table.ENABLE_SPIDER_SUBNET,
    "ipam.spiderSubnet.autoPool.enable": table.ENABLE_AUTO_POOLS,
    "ipam.spiderSubnet.autoPool.defaultRedundantIPNumber": table.REDUNDANT_IPS,
    "ipam.gc.enabled": table.GC_ENABLED,
    "ipam.gc.gcAll.intervalInSecond": table.GC_FULL_INTERVAL,
    "ipam.gc.statelessPod.zombieOnReadyNode": table.GC_ON_READY_NODE,
    "ipam.gc.statelessPod.zombieOnNotReadyNode": table.GC_ON_NOT_READY_NODE,
    "ipam.gc.gcDeletingTimeOutPodDelay": table.GC_DELAY,
    "global.clusterDnsDomain": table.CLUSTER_DOMAIN,
    "global.ciliumConfigMap": table.CILIUM_CONFIG,
    "coordinator.name": table.COORDINATOR_NAME,
    "plugins.installCNI": table.INSTALL_PLUGINS,
    "spiderpoolAgent.tuneSysctlConfig": table.TUNE_NODE,
    "spiderpoolAgent.httpPort": table.AGENT_HEALTH_PORT,
    "spiderpoolAgent.networkResourcePlugin.enabled": table.DEVICE_PLUGIN,
    "spiderpoolAgent.networkResourcePlugin.resourceAdvertisement": table.DEVICE_OFFERS,
    "spiderpoolAgent.prometheus.enabled": table.ENABLE_METRICS,
    "spiderpoolAgent.prometheus.port": table.METRICS_PORT,
    "spiderpoolAgent.debug.logLevel": table.LOG_LEVEL,
    "spiderpoolController.httpPort": table.CONTROLLER_HEALTH_PORT,
    "spiderpoolController.webhookPort": table.WEBHOOK_PORT,
    "spiderpoolController.enableValidatingResourcesDeletedWebhook": table.PROTECT_USED,
    "spiderpoolController.removeStartupTaint": table.REMOVE_STARTUP_TAINT,
    "spiderpoolController.nodeAddressResources": table.NODE_RESOURCES,
    "spiderpoolController.podResourceInject.enabled": table.INJECT,
    "spiderpoolController.podResourceInject.namespacesExclude": table.INJECT_EXCLUDED,
    "spiderpoolController.podResourceInject.namespacesInclude": table.INJECT_INCLUDED,
    "spiderpoolController.debug.logLevel": table.LOG_LEVEL,
    "spiderpoolInit.updateCustomResources": table.UPDATE_CUSTOM_RESOURCES,
    "cloud.provider": table.CLOUD_PROVIDER,
    "cloud.discovery": table.CLOUD_DISCOVERY,
    "cloud.primaryCard": table.PRIMARY_ENI,
    "cloud.metadataEndpoint": table.METADATA_ENDPOINT,
    "cloud.blockPodMetadata": table.BLOCK_POD_METADATA,
    "cloud.metadataAllowedNamespaces": table.METADATA_NAMESPACES,
    "cloud.region": table.CLOUD_REGION,
    "cloud.clusterID": table.CLUSTER_ID,
    "cloud.internalEndpoints": table.INTERNAL_ENDPOINTS,
    "cloud.credentials.source": table.CREDENTIALS,
    "cloud.alibaba.assign": table.ASSIGN,
    "cloud.alibaba.minFreeAddresses": table.MIN_FREE,
    "cloud.alibaba.maxFreeAddresses": table.MAX_FREE,
    "cloud.loadBalancers.enabled": table.BALANCING,
    "cloud.loadBalancers.vpcID": table.BALANCER_VPC,
    "cloud.loadBalancers.vswitchID": table.BALANCER_VSWITCH,
    "cloud.loadBalancers.zoneMaps": table.BALANCER_ZONES,
    "cloud.loadBalancers.resourceGroupID": table.RESOURCE_GROUP,
    "cloud.loadBalancers.backendType": table.BACKEND_TYPE,
    "cloud.loadBalancers.defaultType": table.DEFAULT_TYPE,
    "cloud.loadBalancers.public": table.PUBLIC,
    "cloud.loadBalancers.injectReadinessGates": table.INJECT_GATES,
    "cloud.loadBalancers.ipv6Backends": table.IPV6_BACKENDS,
    "cloud.loadBalancers.maxPerNamespace": table.MAX_PER_NAMESPACE,
    "cloud.loadBalancers.maxPerCluster": table.MAX_PER_CLUSTER,
    "spiderpoolCloud.httpPort": table.CLOUD_HEALTH_PORT,
    "spiderpoolCloud.debug.logLevel": table.LOG_LEVEL,
}
"""Value → the setting that it becomes."""

DIFFERENT_DEFAULTS: Final = {
    "ipam.enableIPv6": "as in Spiderpool's chart",
    "spiderpoolAgent.tuneSysctlConfig": "as in Spiderpool's chart",
    "spiderpoolAgent.httpPort": "probes need a port",
}
"""Values whose default is not that of their setting, and why."""

ANY: Final[Schema] = {}
OBJECT: Final[Schema] = {"type": "object"}
ZONE: Final = kinds.ZONE.pattern
PATTERNS: Final[Mapping[Kind[Any], Schema]] = {kinds.ZONES: {"pattern": f"^({ZONE}(, *{ZONE})+)?$"}}
"""Of texts, by the kind of their setting."""
PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": kinds.MAX_PORT}
DAYS: Final[Schema] = {"type": ["integer", "string"], "minimum": 1, "pattern": "^[1-9][0-9]*$"}
AMOUNT: Final[Schema] = {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+%?$"}
MAPPING: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
ABSOLUTE: Final[Schema] = {"type": "string", "pattern": "^/"}
NETWORK: Final = {
    4: r"^([0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2})?$",
    6: r"^([0-9a-fA-F:]*:[0-9a-fA-F:.]*/[0-9]{1,3})?$",
}
ADDRESS: Final = {4: r"^([0-9]{1,3}(\.[0-9]{1,3}){3})?$", 6: r"^([0-9a-fA-F:]*:[0-9a-fA-F:.]*)?$"}


def one_of(*words: str) -> Schema:
    """Text that is one of some words. A pattern, since helm's error about it also gives the value."""
    return {"type": "string", "pattern": f"^({'|'.join(words)})$"}


_COORDINATOR = crd_schema(SpiderCoordinator)["properties"]["spec"]["properties"]

RULES: Final[Mapping[str, Schema]] = {
    "global.cniBinHostPath": ABSOLUTE,
    "global.cniConfHostPath": ABSOLUTE,
    "global.securityContextConstraints": one_of("auto", "always", "never"),
    "global.ciliumConfigMap": {"type": "string", "pattern": "^[a-z0-9.-]+/[a-z0-9.-]+$"},
    "coordinator.mode": one_of(*_COORDINATOR["mode"]["enum"]),
    "coordinator.podCIDRType": one_of(*_COORDINATOR["podCIDRType"]["enum"]),
    "coordinator.vethLinkAddress": {"type": "string", "pattern": ADDRESS[4]},
    "coordinator.vethMTU": {"type": "integer", "minimum": 1},
    **{f"clusterDefaultPool.ipv{family}Subnet": {"type": "string", "pattern": NETWORK[family]} for family in (4, 6)},
    **{f"clusterDefaultPool.ipv{family}Gateway": {"type": "string", "pattern": ADDRESS[family]} for family in (4, 6)},
    "spiderpoolController.tls.method": one_of("auto", "certmanager", "provided"),
    "spiderpoolController.tls.certmanager.issuerKind": one_of("Issuer", "ClusterIssuer"),
    "spiderpoolController.tls.certmanager.certValidityDuration": DAYS,
    "spiderpoolController.tls.auto.caExpiration": DAYS,
    "spiderpoolController.tls.auto.certExpiration": DAYS,
}
"""Value → what it may be."""

NAMED_RULES: Final[Mapping[str, Schema]] = {
    "pullPolicy": one_of("Always", "IfNotPresent", "Never"),
    "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "replicas": {"type": "integer", "minimum": 0},
    "minAvailable": AMOUNT,
    "port": PORT,
    "httpPort": PORT,
    "webhookPort": PORT,
    "type": one_of("ClusterIP", "NodePort", "LoadBalancer"),
    "annotations": MAPPING,
    "labels": MAPPING,
    "podAnnotations": MAPPING,
    "podLabels": MAPPING,
    "commonAnnotations": MAPPING,
    "commonLabels": MAPPING,
    "nodeSelector": MAPPING,
    "resources": OBJECT,
    "affinity": OBJECT,
    "securityContext": OBJECT,
    "updateStrategy": OBJECT,
    "startupProbe": OBJECT,
    "livenessProbe": OBJECT,
    "readinessProbe": OBJECT,
    "imagePullSecrets": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    "extraEnv": {
        "type": "array",
        "items": {"type": "object", "required": ["name"], "properties": {"value": {"type": "string"}}},
    },
    "hijackCIDR": {"type": "array", "items": {"type": "string"}},
    "ipv4IPRanges": {"type": "array", "items": {"type": "string"}},
    "ipv6IPRanges": {"type": "array", "items": {"type": "string"}},
}
"""Last word of a value → what it may be, wherever it is."""

MEANINGS: Final = {
    "affinity": "Affinity of the pods.",
    "annotations": "Its annotations.",
    "cpu": "CPU of a container.",
    "extraVolumeMounts": "Further mounts of the container.",
    "extraVolumes": "Further volumes of the pods.",
    "imagePullSecrets": "Secrets with which this image is pulled.",
    "labels": "Its labels.",
    "livenessProbe": "When the container is started again.",
    "nodeSelector": "Nodes on which pods may run.",
    "podAnnotations": "Further annotations of the pods.",
    "podLabels": "Further labels of the pods.",
    "priorityClassName": "Priority class of the pods.",
    "pullPolicy": "When the image is pulled.",
    "readinessProbe": "When the pod is ready.",
    "registry": "Registry of the image.",
    "repository": "Name of the image.",
    "resources": "Requests and limits of the container.",
    "startupProbe": "How long the container may take to start.",
    "tag": "Tag of the image.",
    "digest": "Digest of the image.",
    "tolerations": "Taints that the pods tolerate.",
    "type": "Its type.",
}
"""Last word of a value → what it means, where values.yaml has no comment because every chart has it."""

OPEN: Final = ("rdma.rdmaSharedDevicePlugin", "sriov")
"""Parts of Spiderpool's chart of which only the switch counts, which is refused."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of values.yaml."""

    path: str
    default: Any
    comment: str
    """Its own, or that of the value before it in the block."""


def values() -> Iterator[Value]:
    """All values in their order, each block before what is in it."""
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    yield from _below(root, "", text.splitlines(), yaml.safe_load(text))


def _below(node: yaml.MappingNode, prefix: str, lines: list[str], content: Mapping[str, Any]) -> Iterator[Value]:
    comment = ""
    for key, inner in node.value:
        path = f"{prefix}{key.value}"
        default = content[key.value]
        own = _comment(lines, key.start_mark.line)
        comment = own or ("" if is_block(path, default) or key.value in MEANINGS else comment)
        yield Value(path, default, comment)
        if isinstance(inner, yaml.MappingNode) and is_block(path, default):
            yield from _below(inner, f"{path}.", lines, default)


def is_block(path: str, default: Any) -> bool:
    """Whether a value holds further values, rather than a mapping of Kubernetes or of the user."""
    return isinstance(default, dict) and bool(default) and path.rpartition(".")[2] not in NAMED_RULES


def _comment(lines: list[str], line: int) -> str:
    """The comment above a line."""
    found: list[str] = []
    while line and lines[line - 1].strip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].strip().removeprefix("#").strip())
    return " ".join(found)


def meaning(value: Value) -> str:
    """What a value means; of a block, nothing where that is clear."""
    return value.comment or MEANINGS.get(value.path.rpartition(".")[2], "")


def schema() -> Schema:
    """The JSON schema of values.yaml."""
    root: Schema = {"$schema": "http://json-schema.org/draft-07/schema#", **_block(), "title": "Values of spiderpool"}
    blocks = {"": root}
    for value in values():
        parent, _, name = value.path.rpartition(".")
        own = _block() if is_block(value.path, value.default) else dict(_rule(value))
        if described := meaning(value):
            own["description"] = described
        if value.path in OPEN:
            own["additionalProperties"] = True
        blocks[parent]["properties"][name] = own
        blocks[value.path] = own
    for path in _elsewhere():
        parent, _, name = path.rpartition(".")
        if "properties" in blocks.get(parent, {}):
            blocks[parent]["properties"].setdefault(name, {})
    return root


def _block() -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _rule(value: Value) -> Schema:
    name = value.path.rpartition(".")[2]
    if value.path in RULES:
        return RULES[value.path]
    if value.path in SERVED:
        return of_setting(SERVED[value.path])
    if name in NAMED_RULES and not (name == "pullPolicy" and value.default == ""):
        return NAMED_RULES[name]
    return _of_default(value.default)


def of_setting(setting: Setting[Any]) -> Schema:
    """What a setting may be."""
    if setting.choices:
        return one_of(*setting.choices)
    match setting.kind:
        case kinds.FLAG:
            return {"type": "boolean"}
        case kinds.COUNT:
            return {"type": "integer", "minimum": setting.minimum}
        case kinds.PORT:
            return PORT
        case kinds.SECONDS | kinds.NUMBER:
            return {"type": "number", "minimum": setting.minimum}
        case kinds.NAMES:
            return {"type": "array", "items": {"type": "string"}}
        case kinds.OBJECTS:
            return {"type": "array", "items": {"type": "object"}}
        case kind:
            return {"type": "string", **PATTERNS.get(kind, {})}


def _of_default(default: Any) -> Schema:
    names = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    return {"type": names[type(default)]}


def compatibility() -> Mapping[str, list[dict[str, Any]]]:
    """The values of Spiderpool's own chart that are not served."""
    loaded: dict[str, list[dict[str, Any]]] = yaml.safe_load((CHART / "compatibility.yaml").read_text())
    return loaded


def _elsewhere() -> Iterator[str]:
    """Values that values.yaml does not show: templates say what replaces them, which a schema cannot."""
    for rows in compatibility().values():
        yield from (row["value"] for row in rows)


INTRODUCTION = """\
# Values of the chart

What `helm install` and `helm upgrade` take by `--set` and `--values`. Names and defaults are those of Spiderpool's own
chart, so a values file written for it can be used ([installation](../usage/install.md)). A value that does not exist,
or cannot be what it is set to, is refused with its name and what is allowed. Values of the original's
programs in Go that have no counterpart here are marked so.

What a daemon may be told beyond these values, `extraEnv` tells it: any variable of the [settings](settings.md).

`scripts/generate_chart_schema.py` makes this page from `charts/spiderpool/values.yaml`.
"""


def page() -> str:
    """The whole page, as Markdown."""
    return "\n".join([INTRODUCTION, *_sections(), *_refusals()])


def _sections() -> Iterator[str]:
    section = ""
    for value in values():
        top = value.path.partition(".")[0]
        if top != section:
            section = top
            yield f"{'' if value.path == 'global' else chr(10)}## {top}\n"
            if value.comment:
                yield f"{value.comment}\n"
            yield "| value | default | allowed | meaning |"
            yield "|---|---|---|---|"
        if not is_block(value.path, value.default):
            cells = (f"`{value.path}`", f"`{_shown(value.default)}`", _allowed(_rule(value)), meaning(value))
            yield f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _shown(value: Any) -> str:
    return json.dumps(value).replace("|", "\\|") if value != "" else '""'


def _allowed(rule: Schema) -> str:
    """What a rule allows, in words."""
    pattern = str(rule.get("pattern", ""))
    if pattern.startswith("^(") and pattern.endswith(")$") and not set(pattern[2:-2]) & set("[]{}\\"):
        words = pattern[2:-2].split("|")
        return ", ".join(f"`{word}`" for word in words if word) + " or empty" * ("" in words)
    kind = rule.get("type", "")
    name = " or ".join(kind) if isinstance(kind, list) else kind
    return name + (f", at least {rule['minimum']:g}" if rule.get("minimum") else "")


def _refusals() -> Iterator[str]:
    rows = compatibility()
    yield "\n## Values of Spiderpool's chart that are not served\n"
    yield "A values file may hold them as long as they ask for nothing that is not there. Otherwise they are refused:\n"
    yield "| value | accepted | what to do instead |"
    yield "|---|---|---|"
    for row in rows["refused"]:
        accepted = ", ".join(f"`{_shown(each)}`" for each in row["accepts"]) or "never"
        yield f"| `{row['value']}` | {accepted} | {row['instead']} |"
    yield "\nThese are accepted and have no effect. The notes after an installation name those that are set:\n"
    yield ", ".join(f"`{row['value']}`" for row in rows["unused"]) + ".\n"


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(), indent=1) + "\n")
    PAGE.write_text(page())
    for file in (SCHEMA, PAGE):
        print(file.relative_to(ROOT))
