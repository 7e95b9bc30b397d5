"""The table of all settings: the only place that holds their names, defaults, bounds and help.

The dataclasses of the daemons, the parser and docs/reference/settings.md are made from it. A chart's schema can be too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from spiderpool.settings import kinds
from spiderpool.settings.setting import AGENT, ALL, CLOUD, CONTROLLER, IN_CLUSTER, REPLICATED, Setting

DAY: Final = 86400.0
"""Seconds of a day."""


UNUSED_KEYS: Final = (
    "agent.networkResourcePlugin.devicePluginAffinity",
    "agent.networkResourcePlugin.kubeletRootDir",
    "enableCleanOutdatedEndpoint",
    "iaasNetworkProvider",
    "networkMode",
    "tuneSysctlConfig",
)
"""Keys of Spiderpool's conf.yml that nobody reads here, with all below them: a ConfigMap written for it is accepted."""

CONFIG_FILE: Final = Setting(
    kind=kinds.PATH,
    default=Path("/tmp/spiderpool/config-map/conf.yml"),
    help="the file with the keys below: the mounted ConfigMap",
    readers=ALL,
    variables=("SPIDERPOOL_CONFIG",),
)
"""Read before all others, since it locates the file with the keys."""


# Access to the cluster, and logs.

KUBECONFIG: Final = Setting(
    kind=kinds.OPTIONAL_PATH,
    default=None,
    help="kubeconfig file for the API server",
    readers=ALL,
    variables=("KUBECONFIG",),
    shown="the pod's service account",
)
POD_NAMESPACE: Final = Setting(
    kind=kinds.TEXT,
    default="kube-system",
    help="Namespace of our objects, and of networks that are named without one",
    readers=ALL,
    variables=("SPIDERPOOL_POD_NAMESPACE",),
)
LOG_LEVEL: Final = Setting(
    kind=kinds.WORD,
    default="info",
    help="the least important lines that are logged",
    readers=ALL,
    variables=("SPIDERPOOL_LOG_LEVEL",),
    choices=("debug", "info", "warn", "error", "fatal", "panic"),
)

# Which features of IPAM are on.

ENABLE_IPV4: Final = Setting(
    kind=kinds.FLAG, default=True, help="pods get IPv4 addresses", readers=ALL, keys=("enableIPv4",)
)
ENABLE_IPV6: Final = Setting(
    kind=kinds.FLAG, default=False, help="pods get IPv6 addresses", readers=ALL, keys=("enableIPv6",)
)
ENABLE_STATEFULSET: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="a StatefulSet's ordinal keeps its address; switch off on clouds that bind addresses to servers",
    readers=ALL,
    keys=("enableStatefulSet",),
)
ENABLE_KUBEVIRT_STATIC_IP: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="a KubeVirt machine keeps its address when its pod is replaced",
    readers=ALL,
    keys=("enableKubevirtStaticIP",),
)
ENABLE_SPIDER_SUBNET: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="SpiderSubnets are served",
    readers=ALL,
    keys=("enableSpiderSubnet",),
    page="usage/subnet.md",
)
ENABLE_AUTO_POOLS: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="applications may ask for a pool of their own, cut from a SpiderSubnet",
    readers=ALL,
    keys=("enableAutoPoolForApplication",),
    page="usage/subnet.md",
)

# The cloud that the servers run in.

CLOUD_PROVIDER: Final = Setting(
    kind=kinds.WORD,
    default="",
    help="cloud that the servers run in; without one nothing is discovered, and pods are kept from no metadata service",
    readers=ALL,
    variables=("CLOUD_PROVIDER",),
    keys=("cloud.provider",),
    choices=("", "alibaba"),
    page="usage/discovery.md",
)
CLOUD_DISCOVERY: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="make pools and networks from the ENIs of the provider's servers; false: they are written by hand",
    readers=ALL,
    keys=("cloud.discovery",),
    page="usage/discovery.md",
)
METADATA_ENDPOINT: Final = Setting(
    kind=kinds.OPTIONAL_TEXT,
    default=None,
    help="host or URL of the metadata service",
    readers=ALL,
    variables=("METADATA_ENDPOINT",),
    shown="`100.100.100.200`, the provider's own",
    page="usage/discovery.md",
)
DISCOVERY_INTERVAL: Final = Setting(
    kind=kinds.SECONDS,
    default=25.0,
    help="between two reads of a server's ENIs, ± 20 %",
    readers=ALL,
    variables=("SPIDERPOOL_DISCOVERY_INTERVAL_SECONDS",),
    minimum=1,
    reason="the metadata service bears one reading a second",
    page="usage/discovery.md",
)
PRIMARY_ENI: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="pods also use the primary ENI of a server",
    readers=ALL,
    keys=("cloud.primaryCard",),
    page="usage/discovery.md",
)

# The agent.

NODE_NAME: Final = Setting(
    kind=kinds.TEXT,
    default="",
    help="name of the agent's Node",
    readers=AGENT,
    variables=("SPIDERPOOL_NODE_NAME",),
    required="spec.nodeName of the pod",
)
SOCKET: Final = Setting(
    kind=kinds.SOCKET,
    default=Path("/var/run/spidernet/spiderpool.sock"),
    help="socket on which the CNI executable reaches the agent",
    readers=AGENT,
    keys=("ipamUnixSocketPath",),
)
CNI_BIN_DIR: Final = Setting(
    kind=kinds.PATH,
    default=Path("/opt/cni/bin"),
    help="directory of the CNI executables on the node",
    readers=AGENT,
    variables=("SPIDERPOOL_CNI_BIN_DIR",),
)
CNI_CONF_DIR: Final = Setting(
    kind=kinds.PATH,
    default=Path("/etc/cni/net.d"),
    help="directory of the CNI network lists on the node",
    readers=AGENT,
    variables=("SPIDERPOOL_CNI_CONF_DIR",),
)
CNI_EXECUTABLE: Final = Setting(
    kind=kinds.PATH,
    default=Path("/usr/libexec/spiderpool/cni"),
    help="the CNI executable in our image, to be installed on the node",
    readers=AGENT,
    variables=("SPIDERPOOL_CNI_EXECUTABLE",),
)
INSTALL_CNI: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="install the executable and the network list in these directories",
    readers=AGENT,
    variables=("SPIDERPOOL_INSTALL_CNI",),
)
REPLACED_LISTS: Final = Setting(
    kind=kinds.NAMES,
    default=(),
    help="network lists of others, separated by commas, that are set aside, since runtimes would take them before ours",
    readers=AGENT,
    variables=("SPIDERPOOL_REPLACED_NETWORK_LISTS",),
    page="usage/migration.md",
)
CNI_PLUGINS: Final = Setting(
    kind=kinds.PATH,
    default=Path("/usr/libexec/spiderpool/plugins"),
    help="directory of the CNI project's reference plugins in our image",
    readers=AGENT,
    variables=("SPIDERPOOL_CNI_PLUGINS",),
    page="usage/images.md",
)
INSTALL_PLUGINS: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="install these plugins too, but for those that somebody else has installed",
    readers=AGENT,
    variables=("SPIDERPOOL_INSTALL_PLUGINS",),
    page="usage/images.md",
)
CNI_STATUS: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="the network list offers CNI 1.1.0 too: a Node whose agent is away for more than 10 s is not ready",
    readers=AGENT,
    variables=("SPIDERPOOL_CNI_STATUS",),
    page="reference/cni-protocol.md",
)
DEFAULT_NETWORK: Final = Setting(
    kind=kinds.OPTIONAL_TEXT,
    default=None,
    help="`namespace/name` of the network of pods that name none",
    readers=IN_CLUSTER,
    variables=("MULTUS_CLUSTER_NETWORK",),
    page="usage/multus.md",
)
NAMESPACE_ISOLATION: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="pods may only use networks of their own Namespace and of the global Namespaces",
    readers=AGENT,
    variables=("MULTUS_NAMESPACE_ISOLATION",),
    page="usage/multus.md",
)
GLOBAL_NAMESPACES: Final = Setting(
    kind=kinds.NAMES,
    default=("default",),
    help="Namespaces whose networks all pods may use, separated by commas",
    readers=AGENT,
    variables=("MULTUS_GLOBAL_NAMESPACES",),
    page="usage/multus.md",
)
TUNE_NODE: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="set rules, route tables and connection marks, so that each NIC of the node answers for itself",
    readers=AGENT,
    variables=("SPIDERPOOL_TUNE_NODE",),
    page="reference/data-path.md",
)
BLOCK_POD_METADATA: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="where there is a provider, keep pods from its metadata service, which gives the keys of the server's role",
    readers=AGENT,
    variables=("SPIDERPOOL_BLOCK_POD_METADATA",),
    page="security.md",
)
METADATA_NAMESPACES: Final = Setting(
    kind=kinds.NAMES,
    default=(),
    help="Namespaces whose pods reach the metadata service all the same",
    readers=AGENT,
    variables=("SPIDERPOOL_METADATA_ALLOWED_NAMESPACES",),
    keys=("metadataService.allowedNamespaces",),
    shown="none",
    page="security.md",
)
ADD_TIMEOUT: Final = Setting(
    kind=kinds.SECONDS,
    default=60.0,
    help="longest ADD, waits included; keep it below the container runtime's own limit",
    readers=AGENT,
    variables=("SPIDERPOOL_ADD_TIMEOUT_SECONDS",),
)
AUTO_POOL_WAIT: Final = Setting(
    kind=kinds.SECONDS,
    default=2.0,
    help="an ADD waits for an automatic pool this long, times the retries",
    readers=AGENT,
    variables=("SPIDERPOOL_WAIT_SUBNET_POOL_TIME_IN_SECOND",),
    page="usage/subnet.md",
)
AUTO_POOL_RETRIES: Final = Setting(
    kind=kinds.NUMBER,
    default=25.0,
    help="how often an ADD waits for an automatic pool",
    readers=AGENT,
    variables=("SPIDERPOOL_WAIT_SUBNET_POOL_MAX_RETRIES",),
    page="usage/subnet.md",
)
ENABLE_METRICS: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="serve `/metrics` on TCP",
    readers=AGENT,
    variables=("SPIDERPOOL_ENABLED_METRIC",),
)
METRICS_PORT: Final = Setting(
    kind=kinds.PORT,
    default=5711,
    help="port of `/metrics`",
    readers=AGENT,
    variables=("SPIDERPOOL_METRIC_HTTP_PORT",),
)
AGENT_HEALTH_PORT: Final = Setting(
    kind=kinds.PORT,
    default=0,
    help="port of the kubelet's probes; 0: served on the socket only",
    readers=AGENT,
    variables=("SPIDERPOOL_HEALTH_PORT",),
)
DETECT_CONFLICTS: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="before a pod uses an address, ask on the NIC's network whether another machine has it",
    readers=AGENT,
    keys=("enableIPConflictDetection",),
    page="usage/detection.md",
)
DETECT_GATEWAY: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="before a pod uses an address, check that its gateway answers",
    readers=AGENT,
    keys=("enableGatewayDetection",),
    page="usage/detection.md",
)
RELEASE_CONFLICTS: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="`DELETE /v1/ipam/ips` may release an address in conflict while its pod lives",
    readers=AGENT,
    variables=("SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS",),
    page="usage/detection.md",
)

# The controller.

WEBHOOK_HOST: Final = Setting(
    kind=kinds.TEXT,
    default="0.0.0.0",
    help="address on which webhooks and probes listen",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_WEBHOOK_HOST",),
)
WEBHOOK_PORT: Final = Setting(
    kind=kinds.PORT,
    default=5722,
    help="port of the webhooks",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_WEBHOOK_PORT",),
)
WEBHOOK_URL: Final = Setting(
    kind=kinds.OPTIONAL_TEXT,
    default=None,
    help="URL by which the API server calls the webhooks; `controller-policy.yaml` must name it",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_WEBHOOK_URL",),
    page="reference/high-availability.md",
    shown="by the Service",
)
WEBHOOK_CLIENT_CA: Final = Setting(
    kind=kinds.OPTIONAL_PATH,
    default=None,
    help="file with the authorities of client certificates, without one of which no caller gets a review",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_WEBHOOK_CLIENT_CA",),
    shown="anybody may call",
    page="security.md",
)
SERVICE: Final = Setting(
    kind=kinds.TEXT,
    default="spiderpool-controller",
    help="name of the webhooks' Service; `controller-policy.yaml` must name it",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_CONTROLLER_DEPLOYMENT_NAME",),
    page="reference/high-availability.md",
)
CLUSTER_DOMAIN: Final = Setting(
    kind=kinds.TEXT,
    default="cluster.local",
    help="DNS domain of the cluster, for the certificate of the webhooks",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_CLUSTER_DOMAIN",),
    page="reference/high-availability.md",
)
UPDATE_CUSTOM_RESOURCES: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="`spiderpool-controller prepare` brings the custom resources up to date",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_UPDATE_CUSTOM_RESOURCES",),
    page="usage/install.md",
)
INITIAL_OBJECTS: Final = Setting(
    kind=kinds.OPTIONAL_PATH,
    default=None,
    help="YAML file with the objects that `spiderpool-controller prepare` makes where there are none",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_INITIAL_OBJECTS",),
    page="usage/install.md",
)
UNINSTALLER: Final = Setting(
    kind=kinds.TEXT,
    default="",
    help="DaemonSet in our Namespace whose pods must be ready before `spiderpool-controller clean` ends",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_UNINSTALLER",),
    page="usage/install.md",
)
CLEAN_CLUSTER: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="`spiderpool-controller clean` empties registrations, and removes finalizers and Leases, beside the nodes",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_CLEAN_CLUSTER",),
    page="usage/migration.md",
)
CONTROLLER_HEALTH_PORT: Final = Setting(
    kind=kinds.PORT,
    default=5720,
    help="port of probes and `/metrics`",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_HEALTH_PORT",),
)
COORDINATOR_NAME: Final = Setting(
    kind=kinds.TEXT,
    default="default",
    help="name of the SpiderCoordinator that the controller fills in",
    readers=CONTROLLER,
    # The misspelt name is the one that Spiderpool's chart sets.
    variables=("SPIDERPOOL_COORDINATOR_DEAFULT_NAME", "SPIDERPOOL_COORDINATOR_NAME"),
)
HOST_CNI_DIR: Final = Setting(
    kind=kinds.PATH,
    default=Path("/etc/cni/net.d"),
    help="directory in which `podCIDRType: auto` looks for the cluster's own network; need not exist",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_CNI_CONFIG_DIR",),
)
CILIUM_CONFIG: Final = Setting(
    kind=kinds.TEXT,
    default="kube-system/cilium-config",
    help="`namespace/name` of Cilium's ConfigMap",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_CILIUM_CONFIGMAP_NAMESPACE_NAME",),
)
GC_ENABLED: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="release addresses that nobody holds any more",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_GC_IP_ENABLED",),
    page="reference/collection.md",
)
GC_INTERVAL: Final = Setting(
    kind=kinds.SECONDS,
    default=5.0,
    help="between two passes over the records whose pod, Node or self has changed",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_GC_TRACE_POD_GAP_DURATION", "SPIDERPOOL_GC_INTERVAL_SECONDS"),
    page="reference/collection.md",
)
GC_FULL_INTERVAL: Final = Setting(
    kind=kinds.SECONDS,
    default=600.0,
    help="between two passes over all records",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_GC_DEFAULT_INTERVAL_DURATION",),
    page="reference/collection.md",
)
GC_GRACE: Final = Setting(
    kind=kinds.SECONDS,
    default=5.0,
    help="between the two observations that a release needs",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_GC_GRACE_SECONDS",),
    page="reference/collection.md",
)
GC_NODE_GRACE: Final = Setting(
    kind=kinds.SECONDS,
    default=60.0,
    help="the same for pods whose Node object is gone: it may come back under its name",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_GC_NODE_GRACE_SECONDS",),
    page="reference/collection.md",
)
GC_AGENT_GRACE: Final = Setting(
    kind=kinds.SECONDS,
    default=30.0,
    help="how long pods are gone, have finished or should have ended before their node is asked whether a sandbox has "
    "the address; the node has as long to answer before it is reported, or believed to be stopped",
    readers=IN_CLUSTER,
    variables=("SPIDERPOOL_GC_AGENT_GRACE_SECONDS",),
    page="reference/collection.md",
)
GC_DELAY: Final = Setting(
    kind=kinds.SECONDS,
    default=0.0,
    help="a terminating pod gets this beyond its grace period",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_GC_ADDITIONAL_GRACE_DELAY",),
    page="reference/collection.md",
)
GC_ON_READY_NODE: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="pods that should have ended are among those whose addresses may be released, on Nodes that are ready",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON_READY_NODE_ENABLED",),
    page="reference/collection.md",
)
GC_ON_NOT_READY_NODE: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="the same on Nodes that are not ready",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON_NOT_READY_NODE_ENABLED",),
    page="reference/collection.md",
)
GC_BY_TIME: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="a node that does not answer counts as one where nothing runs: time is enough, as in Spiderpool",
    readers=IN_CLUSTER,
    variables=("SPIDERPOOL_GC_BY_TIME_ENABLED",),
    page="reference/collection.md",
)
HISTORY_OBJECTS: Final = Setting(
    kind=kinds.COUNT,
    default=256,
    help="SpiderIPHistory objects for who held which address, each of some 1,900 rows in 125 KB; 0: no history",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_HISTORY_OBJECTS",),
    page="usage/history.md",
)
HISTORY_INTERVAL: Final = Setting(
    kind=kinds.SECONDS,
    default=10.0,
    help="between two writes of the history, and about what a crash may lose of it",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_HISTORY_INTERVAL_SECONDS",),
    minimum=1,
    reason="each rewrites an object of up to some 125 KB",
    page="usage/history.md",
)
REDUNDANT_IPS: Final = Setting(
    kind=kinds.COUNT,
    default=1,
    help="spare addresses of an automatic pool that names no number",
    readers=CONTROLLER,
    keys=("clusterSubnetAutoPoolDefaultRedundantIPNumber", "clusterSubnetDefaultFlexibleIPNumber"),
    page="usage/subnet.md",
)
STATUS_DEBOUNCE: Final = Setting(
    kind=kinds.SECONDS,
    default=0.3,
    help="how long the status of a pool waits for further changes",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_STATUS_DEBOUNCE_SECONDS",),
)
CERTIFICATE_LIFE: Final = Setting(
    kind=kinds.SECONDS,
    default=365 * DAY,
    help="validity of a webhook certificate, which is replaced after two thirds of it",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_WEBHOOK_CERTIFICATE_LIFE_SECONDS",),
    shown="one year",
    page="reference/high-availability.md",
)
AUTHORITY_LIFE: Final = Setting(
    kind=kinds.SECONDS,
    default=10 * 365 * DAY,
    help="validity of the authority of these certificates, which is replaced likewise",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_WEBHOOK_AUTHORITY_LIFE_SECONDS",),
    shown="ten years",
    page="reference/high-availability.md",
)
CERTIFICATE_FOLDER: Final = Setting(
    kind=kinds.OPTIONAL_PATH,
    default=None,
    help="folder with ca.crt, tls.crt and tls.key that somebody else makes and renews; without one the controller does",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_WEBHOOK_CERTIFICATE_FOLDER",),
    page="reference/high-availability.md",
)
PROTECT_USED: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="refuse to delete pools and subnets whose addresses are in use",
    readers=CONTROLLER,
    keys=("enableValidatingResourcesDeletedWebhook",),
    page="reference/admission.md",
)
REMOVE_STARTUP_TAINT: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="remove the taint `spiderpool.spidernet.io/agent-not-ready` from a Node once its agent is ready",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_REMOVE_STARTUP_TAINT",),
    page="usage/install.md",
)
NODE_RESOURCES: Final = Setting(
    kind=kinds.TEXT,
    default="none",
    help="what Nodes tell the scheduler of free addresses: `advertise` them as extended resources, which new pods then "
    "request; `withdraw` what was advertised; or `none`",
    readers=CONTROLLER,
    variables=("SPIDERPOOL_NODE_ADDRESS_RESOURCES",),
    choices=("none", "advertise", "withdraw"),
    page="usage/scheduling.md",
)
INJECT: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="inject networks and resources into new pods",
    readers=CONTROLLER,
    keys=("podResourceInject.enabled",),
    page="usage/network-injection.md",
)
INJECT_EXCLUDED: Final = Setting(
    kind=kinds.NAMES,
    default=("kube-system", "spiderpool", "metallb-system", "istio-system"),
    help="Namespaces whose pods stay as they are, beside kube-system",
    readers=CONTROLLER,
    keys=("podResourceInject.namespacesExclude",),
    page="usage/network-injection.md",
)
INJECT_INCLUDED: Final = Setting(
    kind=kinds.NAMES,
    default=(),
    help="the only Namespaces whose pods are changed, without the excluded ones",
    readers=CONTROLLER,
    keys=("podResourceInject.namespacesInclude",),
    shown="all",
    page="usage/network-injection.md",
)
DEVICE_PLUGIN: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="a device plugin offers the node's NICs as resources",
    readers=CONTROLLER,
    keys=("agent.networkResourcePlugin.enabled",),
    page="usage/network-injection.md",
)
DEVICE_OFFERS: Final = Setting(
    kind=kinds.OBJECTS,
    default=(),
    help="what the device plugin offers; if it holds a `masterNIC`, injected pods also request the NICs",
    readers=CONTROLLER,
    keys=("agent.networkResourcePlugin.resourceAdvertisement",),
    page="usage/network-injection.md",
)

# Leader election, of controller and spiderpool-cloud.

POD_NAME: Final = Setting(
    kind=kinds.TEXT,
    default="",
    help="name of this replica in the leader election",
    readers=REPLICATED,
    variables=("SPIDERPOOL_POD_NAME",),
    shown="host name and process ID",
    page="reference/high-availability.md",
)
LEADER_DURATION: Final = Setting(
    kind=kinds.SECONDS,
    default=15.0,
    help="without renewal after which another replica may take the Lease",
    readers=REPLICATED,
    variables=("SPIDERPOOL_LEADER_DURATION",),
    page="reference/high-availability.md",
)
LEADER_RENEW_DEADLINE: Final = Setting(
    kind=kinds.SECONDS,
    default=10.0,
    help="without a successful renewal after which the leader stops; below the duration",
    readers=REPLICATED,
    variables=("SPIDERPOOL_LEADER_RENEW_DEADLINE",),
    page="reference/high-availability.md",
)
LEADER_RETRY_PERIOD: Final = Setting(
    kind=kinds.SECONDS,
    default=2.0,
    help="between two renewals, or two tries to take the Lease; below the renew deadline",
    readers=REPLICATED,
    variables=("SPIDERPOOL_LEADER_RETRY_PERIOD",),
    page="reference/high-availability.md",
)

# spiderpool-cloud: access to the cloud's API.

CLOUD_REGION: Final = Setting(
    kind=kinds.TEXT,
    default="",
    help="region of calls that name none",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_REGION",),
    keys=("cloud.region",),
    shown="the region of the servers",
    page="usage/cloud.md",
)
CLUSTER_ID: Final = Setting(
    kind=kinds.TEXT,
    default="clusterid",
    help="distinguishes what this cluster creates in the account from what other clusters create",
    readers=CLOUD,
    keys=("cloud.clusterID",),
    page="usage/cloud.md",
)
INTERNAL_ENDPOINTS: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="call the cloud's API by names inside the VPC, which works without access to the Internet",
    readers=CLOUD,
    keys=("cloud.internalEndpoints",),
    page="usage/cloud.md",
)
CLOUD_ENDPOINT: Final = Setting(
    kind=kinds.OPTIONAL_TEXT,
    default=None,
    help="one URL for the whole API",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_ENDPOINT",),
    shown="the cloud's own names",
    page="usage/cloud.md",
)
CLOUD_AUTHORITY: Final = Setting(
    kind=kinds.OPTIONAL_PATH,
    default=None,
    help="file with the certificate authority of that URL",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_CA",),
    shown="the public authorities",
    page="usage/cloud.md",
)
CREDENTIALS: Final = Setting(
    kind=kinds.TEXT,
    default="auto",
    help="the only source of credentials that is used; `auto`: the first that has some",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_CREDENTIALS",),
    keys=("cloud.credentials",),
    choices=("auto", "role", "oidc", "secret", "cloud-config"),
    page="usage/cloud.md",
)
SECRET_DIR: Final = Setting(
    kind=kinds.PATH,
    default=Path("/etc/spiderpool/cloud-credentials"),
    help="directory of a mounted Secret with `accessKeyID` and `accessKeySecret`",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_SECRET_DIR",),
    page="usage/cloud.md",
)
CLOUD_CONFIG_FILE: Final = Setting(
    kind=kinds.PATH,
    default=Path("/etc/spiderpool/cloud-config/cloud-config.conf"),
    help="file of the mounted ConfigMap `cloud-config`",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_CONFIG_FILE",),
    page="usage/cloud.md",
)
STS_ENDPOINT: Final = Setting(
    kind=kinds.OPTIONAL_TEXT,
    default=None,
    help="where an OIDC token is exchanged for credentials",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_STS_ENDPOINT",),
    shown="`sts.aliyuncs.com`",
    page="usage/cloud.md",
)
NODE_PERIOD: Final = Setting(
    kind=kinds.SECONDS,
    default=60.0,
    help="between two queries about the servers of silent Nodes; longer than the cloud's descriptions may lag, since "
    "a Node is deleted when two answers lack its server",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_NODE_PERIOD_SECONDS",),
    page="usage/cloud.md",
)
CLOUD_HEALTH_PORT: Final = Setting(
    kind=kinds.PORT,
    default=5730,
    help="port of probes and `/metrics`",
    readers=CLOUD,
    variables=("SPIDERPOOL_HEALTH_PORT",),
    page="usage/cloud.md",
)

# spiderpool-cloud: addresses in advance.

ASSIGN: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="assign addresses to ENIs in advance",
    readers=CLOUD,
    keys=("cloud.alibaba.assign",),
    page="usage/cloud.md",
)
MIN_FREE: Final = Setting(
    kind=kinds.COUNT,
    default=5,
    help="with fewer free addresses on an ENI, per family, more are assigned",
    readers=CLOUD,
    keys=("cloud.alibaba.minFreeAddresses",),
    minimum=1,
    page="usage/cloud.md",
)
MAX_FREE: Final = Setting(
    kind=kinds.COUNT,
    default=15,
    help="with more free addresses on an ENI, per family, some are unassigned",
    readers=CLOUD,
    keys=("cloud.alibaba.maxFreeAddresses",),
    minimum=1,
    page="usage/cloud.md",
)
IDLE: Final = Setting(
    kind=kinds.SECONDS,
    default=600.0,
    help="an address must have been free this long before it is unassigned",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_IDLE_SECONDS",),
    page="usage/cloud.md",
)
FENCE: Final = Setting(
    kind=kinds.SECONDS,
    default=60.0,
    help="between excluding an address from its pool and unassigning it from its ENI",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_FENCE_SECONDS",),
    page="usage/cloud.md",
)
ADDRESS_PERIOD: Final = Setting(
    kind=kinds.SECONDS,
    default=60.0,
    help="between two reads of the ENIs in the cloud",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_ADDRESS_PERIOD_SECONDS",),
    page="usage/cloud.md",
)

# spiderpool-cloud: Services of type LoadBalancer.

BALANCING: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="serve Services of type LoadBalancer",
    readers=REPLICATED,
    keys=("cloud.loadBalancers.enabled",),
    page="usage/load-balancers.md",
)
INJECT_GATES: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="inject the readiness gates of load balancers into new pods of Namespaces with the label for it",
    readers=CONTROLLER,
    keys=("cloud.loadBalancers.injectReadinessGates",),
    page="usage/load-balancers.md",
)
BALANCER_VPC: Final = Setting(
    kind=kinds.TEXT,
    default="",
    help="VPC of network load balancers, of private ones, and of pods that are backends",
    readers=CLOUD,
    keys=("cloud.loadBalancers.vpcID",),
    page="usage/load-balancers.md",
)
BALANCER_VSWITCH: Final = Setting(
    kind=kinds.TEXT,
    default="",
    help="vSwitch of private classic load balancers that name none",
    readers=CLOUD,
    keys=("cloud.loadBalancers.vswitchID",),
    page="usage/load-balancers.md",
)
BALANCER_ZONES: Final = Setting(
    kind=kinds.ZONES,
    default="",
    help="zones and vSwitches of new network load balancers that name none, as `zone:vswitch,zone:vswitch`",
    readers=CLOUD,
    keys=("cloud.loadBalancers.zoneMaps",),
    page="usage/load-balancers.md",
)
RESOURCE_GROUP: Final = Setting(
    kind=kinds.TEXT,
    default="",
    help="resource group of load balancers that name none",
    readers=CLOUD,
    keys=("cloud.loadBalancers.resourceGroupID",),
    page="usage/load-balancers.md",
)
BACKEND_TYPE: Final = Setting(
    kind=kinds.TEXT,
    default="ecs",
    help="backends of Services that do not say: `ecs` (nodes) or `eni` (pods)",
    readers=CLOUD,
    keys=("cloud.loadBalancers.backendType",),
    choices=("ecs", "eni"),
    page="usage/load-balancers.md",
)
DEFAULT_TYPE: Final = Setting(
    kind=kinds.TEXT,
    default="clb",
    help="load balancers of Services that name no type and have none yet: `clb` (classic) or `nlb` (network)",
    readers=CLOUD,
    keys=("cloud.loadBalancers.defaultType",),
    choices=("clb", "nlb"),
    page="usage/load-balancers.md",
)
PUBLIC: Final = Setting(
    kind=kinds.FLAG,
    default=True,
    help="Services may ask for a public address",
    readers=CLOUD,
    keys=("cloud.loadBalancers.public",),
    page="usage/load-balancers.md",
)
IPV6_BACKENDS: Final = Setting(
    kind=kinds.FLAG,
    default=False,
    help="the server groups of the account take IPv6 servers",
    readers=CLOUD,
    keys=("cloud.loadBalancers.ipv6Backends",),
    page="usage/load-balancers.md",
)
MAX_PER_NAMESPACE: Final = Setting(
    kind=kinds.COUNT,
    default=10,
    help="load balancers of a Namespace, unless its SpiderLoadBalancerGrant says otherwise; no new ones beyond that",
    readers=CLOUD,
    keys=("cloud.loadBalancers.maxPerNamespace",),
    page="usage/load-balancers.md",
)
MAX_PER_CLUSTER: Final = Setting(
    kind=kinds.COUNT,
    default=60,
    help="load balancers of the cluster; no new ones beyond that",
    readers=CLOUD,
    keys=("cloud.loadBalancers.maxPerCluster",),
    page="usage/load-balancers.md",
)
BALANCER_PERIOD: Final = Setting(
    kind=kinds.SECONDS,
    default=300.0,
    help="between two checks of a load balancer whose Service has not changed",
    readers=CLOUD,
    variables=("SPIDERPOOL_CLOUD_BALANCER_PERIOD_SECONDS",),
    page="usage/load-balancers.md",
)

SETTINGS: Final[tuple[Setting[Any], ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Setting) and value is not CONFIG_FILE
)
"""All rows in the order above, without CONFIG_FILE, which is no field of a dataclass."""
