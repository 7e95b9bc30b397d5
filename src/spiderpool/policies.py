"""What the settings of agents say about pods, as core decides by it."""

from __future__ import annotations

from spiderpool.core.ipam.pod_context import AddressPolicy
from spiderpool.core.network.attachment import AttachmentPolicy
from spiderpool.settings import AgentSettings, ControllerSettings


def attachment_policy(settings: AgentSettings) -> AttachmentPolicy:
    """Which networks pods get."""
    return AttachmentPolicy(
        default_network=settings.default_network,
        namespace=settings.common.namespace,
        isolated=settings.namespace_isolation,
        shared_namespaces=settings.global_namespaces,
    )


def requirement_policies(settings: ControllerSettings) -> tuple[AttachmentPolicy, AddressPolicy]:
    """The same for who only counts what pods need: whether one may use a network is left to its agent."""
    networks = AttachmentPolicy(default_network=settings.default_network, namespace=settings.common.namespace)
    return networks, address_policy(settings)


def address_policy(settings: AgentSettings | ControllerSettings) -> AddressPolicy:
    """Which addresses they get."""
    common = settings.common
    return AddressPolicy(
        families=tuple(sorted(common.families)),
        subnets=common.enable_spider_subnet,
        automatic=common.enable_auto_pools,
        namespace=common.namespace,
        statefulsets=common.enable_statefulset,
        machines=common.enable_kubevirt_static_ip,
    )
