"""Actions of NLB 2022-04-30 on network load balancers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spiderpool_lab.alibaba import nlb_jobs, nlb_zones, paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.balancers import NLB, ZoneMapping
from spiderpool_lab.alibaba.ecs_enis import describe_tags, timestamp
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, not_found
from spiderpool_lab.alibaba.registry import Answer, action
from spiderpool_lab.alibaba.settings import FLAG, NumberRange, Rule, read_settings, typed_settings

RULES: dict[str, Rule] = {
    "AddressType": ("Internet", "Intranet"),
    "AddressIpVersion": ("ipv4", "DualStack"),
    "Cps": NumberRange(0, 1_000_000),
    "CrossZoneEnabled": FLAG,
    "Ipv6AddressType": ("Internet", "Intranet"),
    "LoadBalancerType": ("network",),
}
SECURITY_GROUPS = 4
"""Quota of the real API, for one NLB."""
_STORED = (*RULES, "BandwidthPackageId", "ResourceGroupId")
_DELETION = "DeletionProtection"
_MODIFICATION = "ModificationProtection"


@action(
    "nlb",
    "CreateLoadBalancer",
    required="AddressType VpcId ZoneMappings",
    optional="AddressIpVersion BandwidthPackageId ClientToken DeletionProtectionConfig DryRun "
    "LoadBalancerBillingConfig LoadBalancerName LoadBalancerType ModificationProtectionConfig ResourceGroupId Tag",
)
def create_load_balancer(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 CreateLoadBalancer: creates an NLB, Active after ``delays.job`` seconds."""
    if parameters.required("VpcId") != account.vpc.identity:
        raise not_found("ResourceNotFound.vpc", "resource vpc", parameters.required("VpcId"))
    settings = {
        "AddressIpVersion": "ipv4",
        "CrossZoneEnabled": "true",
        "LoadBalancerType": "network",
        **read_settings(parameters, _STORED, RULES),
        **_protection(parameters),
    }
    if settings["AddressIpVersion"] == "DualStack":
        settings.setdefault("Ipv6AddressType", "Intranet")
    if settings.get("BandwidthPackageId") and settings["AddressType"] != "Internet":
        raise Refusal("OperationDenied.AddressTypeNotSupport", "The load balancer has no public address.")
    identity = account.new_id("nlb-")
    created = NLB(
        identity,
        parameters.text("LoadBalancerName", identity),
        f"{identity}.{account.region}.nlb.aliyuncs.com",
        nlb_zones.requested(account, parameters, settings),
        settings,
        status="Provisioning",
        tags=parameters.tags(),
        created=account.clock(),
    )
    account.tables.nlbs.put(created)
    account.schedule(account.delays.job, lambda: _set_active(account, identity))
    return {"LoadbalancerId": identity}  # spelt with a lower-case b, as the real API does


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


def _set_active(account: Account, identity: str) -> None:
    """Make an NLB Active, unless it was deleted in the meantime."""
    if (found := account.tables.nlbs.get(identity)) is not None:
        account.tables.nlbs.put(replace(found, status="Active"))


def change(account: Account, found: NLB, changed: NLB) -> Answer:
    """Make an NLB Configuring, and ``changed`` when the job is done."""
    account.tables.nlbs.put(replace(found, status="Configuring"))
    return nlb_jobs.start(account, lambda: _apply(account, changed))


def _apply(account: Account, changed: NLB) -> None:
    if (present := account.tables.nlbs.get(changed.identity)) is not None:
        account.tables.nlbs.put(replace(changed, status="Active", tags=present.tags))


@action("nlb", "DeleteLoadBalancer", required="LoadBalancerId", optional="ClientToken DryRun")
def delete_load_balancer(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 DeleteLoadBalancer: deletes an NLB with its listeners, unless it is protected."""
    found = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"), idle=True)
    if found.settings[f"{_DELETION}Enabled"] == "true":
        raise Refusal(
            "OperationDenied.DeletionProtectionEnabled",
            "The operation is not allowed because of DeletionProtectionEnabled.",
        )
    account.tables.nlbs.put(replace(found, status="Deleting"))
    return nlb_jobs.start(account, lambda: _remove(account, found.identity))


def _remove(account: Account, identity: str) -> None:
    for listener in account.tables.nlb_listeners:
        if listener.balancer == identity:
            account.tables.nlb_listeners.remove(listener.identity)
    account.tables.nlbs.remove(identity)


@action("nlb", "GetLoadBalancerAttribute", required="LoadBalancerId", optional="ClientToken DryRun")
def get_load_balancer_attribute(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 GetLoadBalancerAttribute: describes one NLB."""
    found = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"))
    return {**_describe(account, found), "Tags": describe_tags(found.tags)}


@action(
    "nlb",
    "ListLoadBalancers",
    optional="AddressIpVersion AddressType DNSName Ipv6AddressType LoadBalancerBusinessStatus LoadBalancerIds "
    "LoadBalancerNames LoadBalancerStatus LoadBalancerType MaxResults NextToken ResourceGroupId Tag VpcIds ZoneId",
)
def list_load_balancers(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 ListLoadBalancers: lists the NLBs that pass all filters."""
    found = [item for item in account.tables.nlbs if _passes(account, item, parameters)]
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
    zone, tags = parameters.text("ZoneId"), parameters.tags()
    return (
        all(parameters.text(name) in ("", exact.get(name)) for name in filters)
        and all(not (values := parameters.texts(name)) or value in values for name, value in sets.items())
        and (not zone or any(mapping.zone == zone for mapping in item.zones))
        and all(key in item.tags and value in ("", item.tags[key]) for key, value in tags.items())
    )


def key_value_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags in the form of the lists of NLB."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _describe(account: Account, item: NLB) -> dict[str, Any]:
    settings = {name: text for name, text in item.settings.items() if not name.startswith((_DELETION, _MODIFICATION))}
    described: dict[str, Any] = typed_settings(settings, RULES)
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
        "ZoneMappings": [nlb_zones.describe(zone) for zone in item.zones],
    }


@action(
    "nlb",
    "UpdateLoadBalancerAttribute",
    required="LoadBalancerId",
    optional="ClientToken Cps CrossZoneEnabled DryRun LoadBalancerName",
)
def update_load_balancer_attribute(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 UpdateLoadBalancerAttribute: changes name, connection limit or cross-zone forwarding."""
    found = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"), idle=True)
    sent = read_settings(parameters, ("Cps", "CrossZoneEnabled"), RULES)
    name = parameters.text("LoadBalancerName", found.name)
    return change(account, found, replace(found, name=name, settings={**found.settings, **sent}))


@action(
    "nlb",
    "UpdateLoadBalancerProtection",
    required="LoadBalancerId",
    optional="ClientToken DeletionProtectionEnabled DeletionProtectionReason DryRun ModificationProtectionReason "
    "ModificationProtectionStatus",
)
def update_load_balancer_protection(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 UpdateLoadBalancerProtection: changes the protections, immediately."""
    found = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"))
    names = (f"{_DELETION}Enabled", f"{_DELETION}Reason", f"{_MODIFICATION}Reason", f"{_MODIFICATION}Status")
    rules: dict[str, Rule] = {
        f"{_DELETION}Enabled": FLAG,
        f"{_MODIFICATION}Status": ("NonProtection", "ConsoleProtection"),
    }
    account.tables.nlbs.put(replace(found, settings={**found.settings, **read_settings(parameters, names, rules)}))
    return {}


@action(
    "nlb",
    "UpdateLoadBalancerAddressTypeConfig",
    required="LoadBalancerId AddressType",
    optional="ClientToken DryRun ZoneMappings",
)
def update_load_balancer_address_type_config(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 UpdateLoadBalancerAddressTypeConfig: adds or removes public addresses."""
    found = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"), idle=True)
    kind = parameters.one_of("AddressType", ("Internet", "Intranet"))
    if kind == "Intranet" and found.settings.get("BandwidthPackageId"):
        raise Refusal("OperationDenied.CommonBandwidthPackageAttached", "Detach the bandwidth package first.")
    sent = {zone.required("ZoneId"): zone for zone in parameters.objects("ZoneMappings")}
    zones: list[ZoneMapping] = []
    for zone in found.zones:
        is_public = kind == "Internet"
        requested = sent.get(zone.zone)
        zones.append(nlb_zones.readdressed(account, zone, requested, zones) if is_public else nlb_zones.private(zone))
    return change(account, found, replace(found, zones=tuple(zones), settings={**found.settings, "AddressType": kind}))


@action("nlb", "UpdateLoadBalancerZones", required="LoadBalancerId ZoneMappings", optional="ClientToken DryRun")
def update_load_balancer_zones(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 UpdateLoadBalancerZones: sets the zones; a zone that stays keeps the addresses not named."""
    found = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"), idle=True)
    present = {(zone.zone, zone.vswitch): zone for zone in found.zones}
    zones: list[ZoneMapping] = []
    for wanted, sent in zip(
        nlb_zones.requested(account, parameters, found.settings), parameters.objects("ZoneMappings"), strict=True
    ):
        former = present.get((wanted.zone, wanted.vswitch))
        if former is None:
            zones.append(wanted)
        else:
            is_public = found.settings["AddressType"] == "Internet"
            zones.append(nlb_zones.readdressed(account, former, sent, zones) if is_public else former)
    return change(account, found, replace(found, zones=tuple(zones)))


@action(
    "nlb",
    "AttachCommonBandwidthPackageToLoadBalancer",
    required="LoadBalancerId BandwidthPackageId",
    optional="ClientToken DryRun",
)
def attach_common_bandwidth_package(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 AttachCommonBandwidthPackageToLoadBalancer: gives a public NLB without a package one."""
    found = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"), idle=True)
    if not found.public:
        raise Refusal("OperationDenied.AddressTypeNotSupport", "The load balancer has no public address.")
    if found.settings.get("BandwidthPackageId"):
        raise Refusal("ResourceAlreadyAssociated.BandwidthPackage", "The load balancer has a bandwidth package.")
    sent = {"BandwidthPackageId": parameters.required("BandwidthPackageId")}
    return change(account, found, replace(found, settings={**found.settings, **sent}))


@action(
    "nlb",
    "DetachCommonBandwidthPackageFromLoadBalancer",
    required="LoadBalancerId BandwidthPackageId",
    optional="ClientToken DryRun",
)
def detach_common_bandwidth_package(account: Account, parameters: Parameters) -> Answer:
    """NLB 2022-04-30 DetachCommonBandwidthPackageFromLoadBalancer: takes the package from an NLB that has it."""
    found = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"), idle=True)
    package = parameters.required("BandwidthPackageId")
    if found.settings.get("BandwidthPackageId") != package:
        raise not_found("ResourceNotFound.BandwidthPackage", "resource BandwidthPackage", package)
    return change(account, found, replace(found, settings={**found.settings, "BandwidthPackageId": ""}))


def _ipv6_internet(name: str, kind: str) -> None:
    """Register EnableLoadBalancerIpv6Internet or DisableLoadBalancerIpv6Internet of NLB 2022-04-30."""

    @action("nlb", name, required="LoadBalancerId", optional="ClientToken DryRun")
    def update(account: Account, parameters: Parameters) -> Answer:
        found = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"), idle=True)
        if found.settings["AddressIpVersion"] != "DualStack":
            raise Refusal("OperationDenied.AddressIpVersionNotSupport", "The load balancer has no IPv6 addresses.")
        return change(account, found, replace(found, settings={**found.settings, "Ipv6AddressType": kind}))


_ipv6_internet("EnableLoadBalancerIpv6Internet", "Internet")
_ipv6_internet("DisableLoadBalancerIpv6Internet", "Intranet")


def _security_groups(name: str, *, join: bool) -> None:
    """Register LoadBalancerJoinSecurityGroup or LoadBalancerLeaveSecurityGroup of NLB 2022-04-30."""

    @action("nlb", name, required="LoadBalancerId SecurityGroupIds", optional="ClientToken DryRun")
    def update(account: Account, parameters: Parameters) -> Answer:
        found = nlb_jobs.balancer(account, parameters.required("LoadBalancerId"), idle=True)
        sent = parameters.texts("SecurityGroupIds")
        for identity in sent:
            if identity not in account.tables.security_groups:
                raise not_found("ResourceNotFound.SecurityGroup", "resource SecurityGroup", identity)
        others = tuple(item for item in found.security_groups if item not in sent)
        if join and len(others) + len(sent) > SECURITY_GROUPS:
            text = f"The quota of {SECURITY_GROUPS} security groups of a load balancer is not sufficient."
            raise Refusal("QuotaInsufficient.SecurityGroup", text)
        return change(account, found, replace(found, security_groups=(*others, *sent) if join else others))


_security_groups("LoadBalancerJoinSecurityGroup", join=True)
_security_groups("LoadBalancerLeaveSecurityGroup", join=False)
