"""NLB: network load balancers, created, described, changed, protected, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spiderpool_lab.alibaba import addressing, nlb_jobs, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import NLB, ZoneMapping
from spiderpool_lab.alibaba.ecs_enis import describe_tags, timestamp
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, absent, invalid, missing
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.settings import FLAG, NumberRange, Rule, numbers, read_settings

RULES: dict[str, Rule] = {
    "AddressType": ("Internet", "Intranet"),
    "AddressIpVersion": ("ipv4", "DualStack"),
    "Cps": NumberRange(0, 1_000_000),
    "CrossZoneEnabled": FLAG,
    "Ipv6AddressType": ("Internet", "Intranet"),
    "LoadBalancerType": ("network",),
}
_KEPT = (*RULES, "BandwidthPackageId", "ResourceGroupId")
_DELETION = "DeletionProtection"
_MODIFICATION = "ModificationProtection"


@action(
    "nlb",
    "CreateLoadBalancer",
    needed="AddressType VpcId ZoneMappings",
    known="AddressIpVersion BandwidthPackageId ClientToken DeletionProtectionConfig DryRun LoadBalancerBillingConfig "
    "LoadBalancerName LoadBalancerType ModificationProtectionConfig ResourceGroupId Tag",
)
def create_load_balancer(account: Account, parameters: Parameters) -> Answer:
    """A balancer that is Provisioning until it is Active; the answer spells its id as the real one does."""
    if parameters.needed("VpcId") != account.vpc.identity:
        raise absent("ResourceNotFound.vpc", "resource vpc", parameters.needed("VpcId"))
    settings = {
        "AddressIpVersion": "ipv4",
        "CrossZoneEnabled": "true",
        "LoadBalancerType": "network",
        **read_settings(parameters, _KEPT, RULES),
        **_protection(parameters),
    }
    identity = account.new_id("nlb-")
    made = NLB(
        identity,
        parameters.text("LoadBalancerName", identity),
        f"{identity}.{account.region}.nlb.aliyuncs.com",
        _zones(account, parameters, settings),
        settings,
        status="Provisioning",
        tags=parameters.tags(),
        created=account.clock(),
    )
    account.world.nlbs.put(made)
    account.later(account.delays.job, lambda: _settle(account, identity))
    return {"LoadbalancerId": identity}


def _protection(parameters: Parameters) -> dict[str, str]:
    deletion = parameters.object(f"{_DELETION}Config")
    modification = parameters.object(f"{_MODIFICATION}Config")
    return {
        f"{_DELETION}Enabled": str(deletion.flag("Enabled")).lower(),
        f"{_DELETION}Reason": deletion.text("Reason"),
        f"{_MODIFICATION}Status": modification.one_of(
            "Status", ("NonProtection", "ConsoleProtection"), "NonProtection"
        ),
        f"{_MODIFICATION}Reason": modification.text("Reason"),
    }


def _zones(account: Account, parameters: Parameters, settings: Mapping[str, str]) -> tuple[ZoneMapping, ...]:
    """The zones of a balancer, each with its addresses."""
    zones: list[ZoneMapping] = []
    for sent in parameters.objects("ZoneMappings"):
        zones.append(_zone(account, sent, settings, zones))
    if len({zone.zone for zone in zones}) < len(zones):
        raise invalid("ZoneMappings", "names a zone twice")
    if not zones:
        raise missing("ZoneMappings")
    return tuple(zones)


def _zone(account: Account, sent: Parameters, settings: Mapping[str, str], before: list[ZoneMapping]) -> ZoneMapping:
    vswitch = account.vswitch(sent.needed("VSwitchId"))
    if vswitch.zone != sent.needed("ZoneId"):
        raise Refusal("Mismatch.VSwitchIdAndZone", f"The vSwitch {vswitch.identity} is not in {sent.text('ZoneId')}.")
    taken = [zone.private_address for zone in before]
    private = sent.text("PrivateIPv4Address") or account.take_addresses(vswitch.identity, 1, beside=taken)[0]
    return ZoneMapping(
        vswitch.zone,
        vswitch.identity,
        private,
        _public(account, sent, before) if settings["AddressType"] == "Internet" else "",
        _ipv6(account, vswitch.ipv6_block, before) if settings["AddressIpVersion"] == "DualStack" else "",
        sent.text("AllocationId"),
    )


def _public(account: Account, sent: Parameters, before: list[ZoneMapping]) -> str:
    if not (allocation := sent.text("AllocationId")):
        return account.take_public(beside=[zone.public_address for zone in before])
    eip = account.world.eips.get(allocation)
    if eip is None:
        raise absent("ResourceNotFound.eip", "resource eip", allocation)
    return eip.address


def _ipv6(account: Account, block: str | None, before: list[ZoneMapping]) -> str:
    if block is None:
        raise Refusal(
            "OperationDenied.VSwitchNotSupportIpv6", "The operation is not allowed because of VSwitchNotSupportIpv6."
        )
    used = {address for eni in account.world.enis for address in eni.ipv6_addresses}
    used.update(zone.ipv6_address for nlb in account.world.nlbs for zone in nlb.zones)
    return addressing.free_ipv6(block, used | {zone.ipv6_address for zone in before}, 1)[0]


def _settle(account: Account, identity: str) -> None:
    """A balancer has become, or is again, active; unless it went meanwhile."""
    if (found := account.world.nlbs.get(identity)) is not None:
        account.world.nlbs.put(replace(found, status="Active"))


def change(account: Account, found: NLB, work: NLB) -> Answer:
    """Configure a balancer: ``work`` is what it becomes when the job is done."""
    account.world.nlbs.put(replace(found, status="Configuring"))
    return nlb_jobs.start(account, lambda: _apply(account, work))


def _apply(account: Account, work: NLB) -> None:
    if (present := account.world.nlbs.get(work.identity)) is not None:
        account.world.nlbs.put(replace(work, status="Active", tags=present.tags))


@action("nlb", "DeleteLoadBalancer", needed="LoadBalancerId", known="ClientToken DryRun")
def delete_load_balancer(account: Account, parameters: Parameters) -> Answer:
    """Delete a balancer with its listeners, unless it is protected."""
    found = nlb_jobs.balancer(account, parameters.needed("LoadBalancerId"), settled=True)
    if found.settings[f"{_DELETION}Enabled"] == "true":
        raise Refusal(
            "OperationDenied.DeletionProtectionEnabled",
            "The operation is not allowed because of DeletionProtectionEnabled.",
        )
    account.world.nlbs.put(replace(found, status="Deleting"))
    return nlb_jobs.start(account, lambda: _remove(account, found.identity))


def _remove(account: Account, identity: str) -> None:
    for listener in account.world.nlb_listeners:
        if listener.balancer == identity:
            account.world.nlb_listeners.remove(listener.identity)
    account.world.nlbs.remove(identity)


@action("nlb", "GetLoadBalancerAttribute", needed="LoadBalancerId", known="ClientToken DryRun")
def get_load_balancer_attribute(account: Account, parameters: Parameters) -> Answer:
    """One balancer."""
    found = nlb_jobs.balancer(account, parameters.needed("LoadBalancerId"))
    return {**_describe(account, found), "Tags": describe_tags(found.tags)}


@action(
    "nlb",
    "ListLoadBalancers",
    known="AddressIpVersion AddressType DNSName Ipv6AddressType LoadBalancerBusinessStatus LoadBalancerIds "
    "LoadBalancerNames LoadBalancerStatus LoadBalancerType MaxResults NextToken ResourceGroupId Tag VpcIds ZoneId",
)
def list_load_balancers(account: Account, parameters: Parameters) -> Answer:
    """The balancers that pass every filter."""
    found = [item for item in account.world.nlbs if _passes(account, item, parameters)]
    page, token = paging.by_token(found, parameters)
    items = [{**_describe(account, item), "Tags": key_value_tags(item.tags)} for item in page]
    return {"TotalCount": len(found), "MaxResults": len(items), "NextToken": token, "LoadBalancers": items}


def _passes(account: Account, item: NLB, parameters: Parameters) -> bool:
    exact = {**item.settings, "DNSName": item.domain, "LoadBalancerStatus": item.status}
    filters = (
        "AddressIpVersion",
        "AddressType",
        "DNSName",
        "LoadBalancerStatus",
        "LoadBalancerType",
        "ResourceGroupId",
    )
    sets = {"LoadBalancerIds": item.identity, "LoadBalancerNames": item.name, "VpcIds": account.vpc.identity}
    zone, wanted = parameters.text("ZoneId"), parameters.tags()
    return (
        all(parameters.text(name) in ("", exact.get(name)) for name in filters)
        and all(not (values := parameters.texts(name)) or value in values for name, value in sets.items())
        and (not zone or any(mapping.zone == zone for mapping in item.zones))
        and all(key in item.tags and value in ("", item.tags[key]) for key, value in wanted.items())
    )


def key_value_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as the lists of the NLB write them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _describe(account: Account, item: NLB) -> dict[str, Any]:
    settings = {name: text for name, text in item.settings.items() if not name.startswith((_DELETION, _MODIFICATION))}
    described: dict[str, Any] = numbers(settings, RULES)
    return {
        **described,
        "CrossZoneEnabled": settings["CrossZoneEnabled"] == "true",
        "LoadBalancerId": item.identity,
        "LoadBalancerName": item.name,
        "LoadBalancerStatus": item.status,
        "LoadBalancerBusinessStatus": "Normal",
        "DNSName": item.domain,
        "RegionId": account.region,
        "VpcId": account.vpc.identity,
        "CreateTime": timestamp(item.created),
        "SecurityGroupIds": list(item.security_groups),
        "DeletionProtectionConfig": {
            "Enabled": item.settings[f"{_DELETION}Enabled"] == "true",
            "Reason": item.settings[f"{_DELETION}Reason"],
        },
        "ModificationProtectionConfig": {
            "Status": item.settings[f"{_MODIFICATION}Status"],
            "Reason": item.settings[f"{_MODIFICATION}Reason"],
        },
        "LoadBalancerBillingConfig": {"PayType": "PostPay"},
        "ZoneMappings": [_describe_zone(zone) for zone in item.zones],
    }


def _describe_zone(zone: ZoneMapping) -> dict[str, Any]:
    addresses = {
        "PrivateIPv4Address": zone.private_address,
        "PublicIPv4Address": zone.public_address,
        "Ipv6Address": zone.ipv6_address,
        "AllocationId": zone.allocation,
    }
    return {"ZoneId": zone.zone, "VSwitchId": zone.vswitch, "Status": "Active", "LoadBalancerAddresses": [addresses]}


@action(
    "nlb",
    "UpdateLoadBalancerAttribute",
    needed="LoadBalancerId",
    known="ClientToken Cps CrossZoneEnabled DryRun LoadBalancerName",
)
def update_load_balancer_attribute(account: Account, parameters: Parameters) -> Answer:
    """Change name, connection limit or cross-zone forwarding."""
    found = nlb_jobs.balancer(account, parameters.needed("LoadBalancerId"), settled=True)
    sent = read_settings(parameters, ("Cps", "CrossZoneEnabled"), RULES)
    name = parameters.text("LoadBalancerName", found.name)
    return change(account, found, replace(found, name=name, settings={**found.settings, **sent}))


@action(
    "nlb",
    "UpdateLoadBalancerProtection",
    needed="LoadBalancerId",
    known="ClientToken DeletionProtectionEnabled DeletionProtectionReason DryRun ModificationProtectionReason "
    "ModificationProtectionStatus",
)
def update_load_balancer_protection(account: Account, parameters: Parameters) -> Answer:
    """Change the protections, at once."""
    found = nlb_jobs.balancer(account, parameters.needed("LoadBalancerId"))
    names = (f"{_DELETION}Enabled", f"{_DELETION}Reason", f"{_MODIFICATION}Reason", f"{_MODIFICATION}Status")
    rules: dict[str, Rule] = {
        f"{_DELETION}Enabled": FLAG,
        f"{_MODIFICATION}Status": ("NonProtection", "ConsoleProtection"),
    }
    account.world.nlbs.put(replace(found, settings={**found.settings, **read_settings(parameters, names, rules)}))
    return {}


@action(
    "nlb",
    "UpdateLoadBalancerAddressTypeConfig",
    needed="LoadBalancerId AddressType",
    known="ClientToken DryRun ZoneMappings",
)
def update_load_balancer_address_type_config(account: Account, parameters: Parameters) -> Answer:
    """Give a balancer public addresses, or take them away."""
    found = nlb_jobs.balancer(account, parameters.needed("LoadBalancerId"), settled=True)
    kind = parameters.one_of("AddressType", ("Internet", "Intranet"))
    zones: list[ZoneMapping] = []
    for zone in found.zones:
        public = account.take_public(beside=[item.public_address for item in zones]) if kind == "Internet" else ""
        zones.append(
            replace(zone, public_address=zone.public_address if kind == "Internet" and zone.public_address else public)
        )
    return change(account, found, replace(found, zones=tuple(zones), settings={**found.settings, "AddressType": kind}))


@action("nlb", "UpdateLoadBalancerZones", needed="LoadBalancerId ZoneMappings", known="ClientToken DryRun")
def update_load_balancer_zones(account: Account, parameters: Parameters) -> Answer:
    """Change the zones; one that stays keeps its addresses."""
    found = nlb_jobs.balancer(account, parameters.needed("LoadBalancerId"), settled=True)
    present = {(zone.zone, zone.vswitch): zone for zone in found.zones}
    wanted = _zones(account, parameters, found.settings)
    zones = tuple(present.get((zone.zone, zone.vswitch), zone) for zone in wanted)
    return change(account, found, replace(found, zones=zones))


def _security_groups(name: str, *, join: bool) -> None:
    @action("nlb", name, needed="LoadBalancerId SecurityGroupIds", known="ClientToken DryRun")
    def update(account: Account, parameters: Parameters) -> Answer:
        found = nlb_jobs.balancer(account, parameters.needed("LoadBalancerId"), settled=True)
        sent = parameters.texts("SecurityGroupIds")
        for identity in sent:
            if identity not in account.world.security_groups:
                raise absent("ResourceNotFound.SecurityGroup", "resource SecurityGroup", identity)
        kept = tuple(item for item in found.security_groups if item not in sent)
        return change(account, found, replace(found, security_groups=(*kept, *sent) if join else kept))


_security_groups("LoadBalancerJoinSecurityGroup", join=True)
_security_groups("LoadBalancerLeaveSecurityGroup", join=False)
