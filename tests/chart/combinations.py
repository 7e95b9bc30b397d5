"""Combinations of values that users install."""

from __future__ import annotations

WALKTHROUGH = ("ipam.enableStatefulSet=false", "multus.multusCNI.defaultCniCRName=ipvlan-eth0")
POOLS = (
    "clusterDefaultPool.installIPv4IPPool=true",
    "clusterDefaultPool.ipv4Subnet=172.18.40.0/24",
    "clusterDefaultPool.ipv4IPRanges={172.18.40.40-172.18.40.200}",
    "clusterDefaultPool.ipv4Gateway=172.18.40.1",
)
IPV6_POOLS = (
    "clusterDefaultPool.installIPv6IPPool=true",
    "clusterDefaultPool.ipv6Subnet=fd00:10::/64",
    "clusterDefaultPool.ipv6IPRanges={fd00:10::10-fd00:10::20}",
)
CLOUD = ("cloud.enabled=true", "cloud.provider=alibaba")
OIDC = ("cloud.credentials.oidc.roleARN=acs:ram::1:role/x", "cloud.credentials.oidc.providerARN=acs:ram::1:oidc/y")

COMBINATIONS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "walkthrough": WALKTHROUGH,
    "walkthrough, plugins": (*WALKTHROUGH, "plugins.installCNI=true"),
    "walkthrough, registry": (*WALKTHROUGH, "global.imageRegistryOverride=ghcr.m.daocloud.io"),
    "walkthrough, tuned": (*WALKTHROUGH, "spiderpoolAgent.tuneSysctlConfig=true"),
    "discovery": ("cloud.provider=alibaba", "ipam.enableStatefulSet=false"),
    "cloud by role": CLOUD,
    "cloud by OIDC": (*CLOUD, *OIDC, "spiderpoolCloud.hostnetwork=false"),
    "cloud by Secret": (*CLOUD, "cloud.credentials.secretName=keys", "cloud.alibaba.assign=true"),
    "cloud by ConfigMap": (*CLOUD, "cloud.credentials.cloudConfigMap=cloud-config"),
    "no load balancers": (*CLOUD, "cloud.loadBalancers.enabled=false"),
    "IPv4 alone, with pools": (*POOLS, "ipam.enableIPv6=false"),
    "IPv6 alone, with pools": (*IPV6_POOLS, "ipam.enableIPv4=false", "ipam.spiderSubnet.enable=false"),
    "both families, with pools": (*POOLS, *IPV6_POOLS),
    "several replicas": (
        *CLOUD,
        "spiderpoolController.replicas=3",
        "spiderpoolController.podDisruptionBudget.enabled=true",
        "spiderpoolController.podDisruptionBudget.minAvailable=50%",
        "spiderpoolCloud.replicas=2",
        "spiderpoolCloud.podDisruptionBudget.enabled=true",
    ),
    "agents alone": ("migration.agentsOnly=true", "migration.replacedNetworkLists={00-multus.conf,01-x.conf}"),
    "network of pods": ("spiderpoolController.hostnetwork=false", "spiderpoolController.replicas=2"),
    "startup taint": ("spiderpoolController.removeStartupTaint=true",),
    "addresses for the scheduler": ("spiderpoolController.nodeAddressResources=advertise",),
    "withdrawn addresses": ("spiderpoolController.nodeAddressResources=withdraw",),
    "provided certificate": ("spiderpoolController.tls.method=provided",),
    "metrics": (
        *CLOUD,
        *(f"{each}.prometheus.enabled=true" for each in ("spiderpoolAgent", "spiderpoolController", "spiderpoolCloud")),
        *(f"{each}.prometheus.serviceMonitor.install=true" for each in ("spiderpoolAgent", "spiderpoolController")),
        *(
            f"{each}.prometheus.prometheusRule.install=true"
            for each in ("spiderpoolAgent", "spiderpoolController", "spiderpoolCloud")
        ),
        "grafanaDashboard.install=true",
    ),
    "pull secrets, digest": (
        "global.imagePullSecrets[0].name=all",
        "spiderpoolAgent.image.imagePullSecrets[0].name=own",
        f"spiderpoolAgent.image.digest=sha256:{'0' * 64}",
        "spiderpoolAgent.image.registry=registry.example.com",
    ),
    "more of everything": (
        "global.commonLabels.team=net",
        "global.commonAnnotations.owner=net",
        "spiderpoolAgent.podLabels.a=b",
        "spiderpoolAgent.podAnnotations.a=b",
        "spiderpoolAgent.extraEnv[0].name=MULTUS_GLOBAL_NAMESPACES",
        "spiderpoolAgent.extraEnv[0].value=default",
        "spiderpoolAgent.extraVolumes[0].name=more",
        "spiderpoolAgent.extraVolumes[0].hostPath.path=/more",
        "spiderpoolAgent.extraVolumeMounts[0].name=more",
        "spiderpoolAgent.extraVolumeMounts[0].mountPath=/more",
        "spiderpoolAgent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
        ".matchExpressions[0].key=x",
        "spiderpoolAgent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]"
        ".matchExpressions[0].operator=Exists",
        "spiderpoolAgent.securityContext.capabilities.add={NET_ADMIN,NET_RAW,SYS_ADMIN,SYS_MODULE}",
        "spiderpoolController.extraEnv[0].name=SPIDERPOOL_WEBHOOK_URL",
        "spiderpoolController.extraEnv[0].value=https://webhooks.example.com/",
    ),
    "nothing optional": (
        "spiderpoolController.cleanup.enable=false",
        "spiderpoolInit.updateCustomResources=false",
        "spiderpoolAgent.serviceAccount.create=false",
        "spiderpoolController.serviceAccount.create=false",
        "ipam.gc.enabled=false",
        "spiderpoolAgent.priorityClassName=",
        "spiderpoolController.priorityClassName=",
    ),
    "injection": (
        "spiderpoolController.podResourceInject.enabled=true",
        "spiderpoolController.podResourceInject.namespacesInclude={team}",
        "spiderpoolAgent.networkResourcePlugin.enabled=true",
        "spiderpoolAgent.networkResourcePlugin.resourceAdvertisement[0].masterNIC.prefix=eth",
    ),
}
