"""Network load balancers by NLB 2022-04-30: finds one, describes it, and carries out the steps of a plan.

Most changes are jobs: the cloud answers at once and works afterwards, so we wait for each job before the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, assert_never

from spiderpool.cloud.alibaba import nlb_answers, nlb_settings
from spiderpool.cloud.alibaba.answers import Json, all_objects, optional, required
from spiderpool.cloud.alibaba.client import OpenAPIClient, Product
from spiderpool.cloud.alibaba.common import (
    PROTECTION_REASON,
    identity_of,
    lent_group,
    made_for,
    oldest,
    side_by_side,
    tag_list,
)
from spiderpool.cloud.alibaba.execution import Execution
from spiderpool.cloud.alibaba.nlb_answers import RANGE, SERVER_TYPES
from spiderpool.cloud.alibaba.nlb_jobs import PAUSE, TIMEOUT, Jobs
from spiderpool.cloud.alibaba.security_groups import SecurityGroups
from spiderpool.cloud.alibaba.source_lists import LEAVING
from spiderpool.cloud.provider import CloudNotFound, CloudUnavailable, NotPermitted
from spiderpool.core.cloud.alibaba.kinds import NLB
from spiderpool.core.cloud.alibaba.naming import own_tags
from spiderpool.core.cloud.alibaba.nlb import (
    ADDITIONAL_CERTIFICATES,
    ASPECTS,
    FIXED_OF_GROUP,
    LISTS,
    UNPROTECTED,
)
from spiderpool.core.cloud.loadbalancer.source_lists import unused
from spiderpool.core.cloud.loadbalancer.steps import (
    AddServers,
    BalancerStep,
    CreateBalancer,
    CreateGroup,
    CreateListener,
    DeleteBalancer,
    DeleteGroup,
    DeleteListener,
    GroupStep,
    ListenerStep,
    RemoveServers,
    ServerStep,
    SetBalancer,
    SetGroup,
    SetListener,
    SetWeights,
    StartListener,
    Step,
    Tag,
    Unprotect,
    Untag,
)
from spiderpool.core.cloud.loadbalancer.values import (
    BackendServer,
    BalancerOwner,
    Listener,
    MadeBalancer,
    ObservedLoadBalancer,
    ServerGroup,
    Settings,
)

PRODUCT = Product("nlb", "2022-04-30")
BATCH = 40
"""Servers that one call may add, change or remove."""
CREATION = (
    *("LoadBalancerType", "VpcId", "ResourceGroupId", "AddressIpVersion", "AddressType"),
    *("LoadBalancerName", "BandwidthPackageId"),
)
"""Parameters that a new balancer gets as they are; it gets its other settings afterwards."""
SERVER_ACTIONS: Mapping[type[ServerStep], str] = {
    AddServers: "AddServersToServerGroup",
    SetWeights: "UpdateServerGroupServersAttribute",
    RemoveServers: "RemoveServersFromServerGroup",
}


class NetworkLoadBalancers:
    """Implements `LoadBalancerAPI` for the network load balancers of one region."""

    def __init__(self, client: OpenAPIClient, region: str, *, pause: float = PAUSE) -> None:
        self._client = client
        self._region = region
        self._pause = pause
        self._jobs = Jobs(self._status, pause)
        self.source_lists = SecurityGroups(client, region)

    async def find(
        self,
        owner: BalancerOwner,
        identity: str = "",
        lent: Collection[str] = (),
        *,
        is_leaving: bool = False,
        without: Collection[str] = (),
    ) -> ObservedLoadBalancer | None:
        """Returns the balancer of an identity; without one, the balancer with the Service's tag, else with its name.

        None: there is no such balancer. Of several, the oldest is returned, one of this cluster if there is any.
        ``is_leaving``: it is looked at to be taken from the Service. ``without``: identities that are passed over.
        """
        found = (
            await self._balancers({"LoadBalancerIds": [identity]})
            if identity
            else await made_for(self._balancers, nlb_answers.tags_of, owner, lambda name: {"LoadBalancerNames": [name]})
        )
        described = oldest(found, nlb_answers.tags_of, owner, without)
        if described is None:
            return None
        observed = await self._observed(described, owner, lent)
        return await self.source_lists.seen_at(observed, owner, is_leaving=is_leaving)

    async def made(self, cluster: str) -> list[MadeBalancer]:
        """Returns all balancers that were made for Services of the cluster, also those that have outlived theirs."""
        found = await self._balancers({})
        made = (NLB.naming.made(NLB.name, identity_of(each), nlb_answers.tags_of(each), cluster) for each in found)
        return [each for each in made if each]

    async def carry_out(self, steps: Sequence[Step], observed: ObservedLoadBalancer | None) -> str:
        """Carries out a plan that was made for the observed balancer, and returns the balancer's identity.

        Raises CloudError, StepsRefused for refusals of some steps, after all others have been carried out.
        """
        return await _NetworkExecution(self, observed).carry_out(steps)

    async def delete_leftovers(self, owner: BalancerOwner) -> None:
        """Deletes the server groups, and the security group, of a Service whose balancer is gone."""
        groups, lists = tuple(await self._groups(owner)), await self.source_lists.look(owner, LEAVING)
        found = ObservedLoadBalancer("", "", "", groups=groups, source_lists=lists)
        steps = [DeleteGroup(group.name, group.identity) for group in groups]
        await self.carry_out([*steps, *unused(NLB, found, ())], found)

    async def change(self, action: str, parameters: Mapping[str, Any]) -> Json:
        """Calls an action that changes something, and waits for its job. Raises CloudError."""
        answer = await self._call(action, parameters, token=True)
        if job := optional(answer, "JobId"):
            await self._jobs.finished(action, job)
        return answer

    async def active(self, identity: str) -> None:
        """Waits until a balancer can be changed. Raises CloudUnavailable after `TIMEOUT`."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    if await self._is_active(identity):
                        return
                    await asyncio.sleep(self._pause)
        except TimeoutError as error:
            text = f"network load balancer {identity} is not active after {TIMEOUT:.0f} s; we look again later"
            raise CloudUnavailable(text) from error

    async def _is_active(self, identity: str) -> bool:
        found = await self._balancers({"LoadBalancerIds": [identity]})
        return any(each.get("LoadBalancerStatus") == "Active" for each in found)

    async def _call(self, action: str, parameters: Mapping[str, Any], *, token: bool = False) -> Json:
        sent = {"RegionId": self._region, **parameters}
        return await self._client.call(PRODUCT, action, sent, token=token)

    async def _status(self, action: str, parameters: Json) -> Json:
        """Calls an action about jobs, which takes no RegionId."""
        return await self._client.call(PRODUCT, action, parameters, region=self._region)

    async def _balancers(self, parameters: Json) -> list[Json]:
        found = await all_objects(self._call, "ListLoadBalancers", parameters, "LoadBalancers")
        return [each for each in found if nlb_answers.fits(each, parameters)]

    async def _observed(self, described: Json, owner: BalancerOwner, lent: Collection[str]) -> ObservedLoadBalancer:
        identity = identity_of(described)
        groups = [*await self._groups(owner), *await self._lent(lent, owner)]
        names = {group.identity: group.name for group in groups}
        sent = {"LoadBalancerIds": [identity]}
        listeners = await all_objects(self._call, "ListListeners", sent, "Listeners")
        return ObservedLoadBalancer(
            identity=identity,
            name=optional(described, "LoadBalancerName"),
            address=optional(described, "DNSName"),
            settings=nlb_answers.settings_of(described),
            tags=nlb_answers.tags_of(described),
            listeners=tuple(await side_by_side(self._listener(each, names) for each in listeners)),
            groups=tuple(groups),
        )

    async def _listener(self, described: Json, groups: Mapping[str, str]) -> Listener:
        found = nlb_answers.listener_of(described, groups)
        if found.protocol != "tcpssl":
            return found
        try:
            further = await nlb_settings.additional_certificates(self._call, found.identity)
        except NotPermitted:  # by a policy of a former version; a change of them reports it
            return found
        return replace(found, settings={**found.settings, ADDITIONAL_CERTIFICATES: further})

    async def _groups(self, owner: BalancerOwner) -> list[ServerGroup]:
        """Returns the Service's server groups: those with its tags and its name."""
        sent = {"Tag": tag_list(own_tags(owner))}
        found = await all_objects(self._call, "ListServerGroups", sent, "ServerGroups")
        ours = [each for each in found if NLB.naming.is_part_of(optional(each, "ServerGroupName"), owner)]
        return await side_by_side(self._group(each) for each in ours)

    async def _group(self, described: Json) -> ServerGroup:
        identity = required(described, "ServerGroupId")
        name = optional(described, "ServerGroupName")
        return ServerGroup(name, nlb_answers.group_settings_of(described), await self._servers(identity), identity)

    async def _lent(self, identities: Collection[str], owner: BalancerOwner) -> list[ServerGroup]:
        """Returns users' server groups with the servers of the Service."""
        if not identities:
            return []
        sent = {"ServerGroupIds": sorted(identities)}
        found = await all_objects(self._call, "ListServerGroups", sent, "ServerGroups")
        return [
            replace(
                lent_group(identity, await self._servers(identity), owner, NLB.naming),
                settings=nlb_answers.group_settings_of(each),  # how its servers are checked
            )
            for each in found
            if (identity := required(each, "ServerGroupId")) in identities
            and not NLB.naming.is_part_of_any(optional(each, "ServerGroupName"), owner.cluster)
        ]

    async def _servers(self, group: str) -> frozenset[BackendServer]:
        found = await all_objects(self._call, "ListServerGroupServers", {"ServerGroupId": group}, "Servers")
        return frozenset(nlb_answers.server_of(each) for each in found)


class _NetworkExecution(Execution):
    """Turns the steps of one plan into calls."""

    batch = BATCH

    def __init__(self, balancers: NetworkLoadBalancers, observed: ObservedLoadBalancer | None) -> None:
        super().__init__(observed, balancers.source_lists)
        self._balancers = balancers
        self._change = balancers.change
        self._resource_group = observed.settings.get("ResourceGroupId", "") if observed else ""

    async def change_balancer(self, step: BalancerStep) -> None:
        """Carries out a step about the balancer itself."""
        match step:
            case CreateBalancer():
                await self._create(step)
            case SetBalancer():
                await self._set(step)
            case Unprotect(identity, _):
                await self._change("UpdateLoadBalancerProtection", {"LoadBalancerId": identity, **UNPROTECTED})
            case Tag(tags):
                await self._tag("TagResources", {"Tag": tag_list(dict(tags))})
            case Untag(keys):
                await self._tag("UntagResources", {"TagKey": list(keys)})
            case DeleteBalancer(identity):
                with suppress(CloudNotFound):
                    await self._change("DeleteLoadBalancer", {"LoadBalancerId": identity})
            case unknown:
                assert_never(unknown)

    async def _create(self, step: CreateBalancer) -> None:
        model = step.model
        sent: Json = {key: value for key, value in {**model.creation, **model.fixed}.items() if key in CREATION}
        sent |= {key: model.settings[key] for key in CREATION if model.settings.get(key)}
        sent |= _protections(model.settings)
        sent["Tag"] = tag_list({**model.tags, **model.origin})
        sent["ZoneMappings"] = nlb_settings.zone_mappings(model)
        answer = await self._change("CreateLoadBalancer", sent)
        self.identity = required(answer, "LoadbalancerId")  # this answer spells it so, no other
        await self._balancers.active(self.identity)

    async def _set(self, step: SetBalancer) -> None:
        settings = {name: step.model.settings[name] for name in ASPECTS[step.aspect] if name in step.model.settings}
        match step.aspect:
            case "protection":
                if settings["ModificationProtectionStatus"] == "ConsoleProtection":
                    settings["ModificationProtectionReason"] = PROTECTION_REASON
                await self._change("UpdateLoadBalancerProtection", {"LoadBalancerId": self.identity, **settings})
            case "attributes":
                await self._change("UpdateLoadBalancerAttribute", {"LoadBalancerId": self.identity, **settings})
            case _:
                await nlb_settings.change(self._change, self.identity, step, self.by_identity)

    async def _tag(self, action: str, parameters: Json) -> None:
        await self._change(action, {"ResourceType": "loadbalancer", "ResourceId": [self.identity], **parameters})

    async def change_group(self, step: GroupStep) -> None:
        """Carries out a step about a server group."""
        match step:
            case CreateGroup(model, group):
                sent = _listed(group.settings) | {
                    "ServerGroupName": group.name,
                    "VpcId": model.vpc,
                    "Tag": tag_list(own_tags(model.owner)),
                }
                if self._resource_group:  # a group belongs where its balancer is
                    sent["ResourceGroupId"] = self._resource_group
                self.groups[group.name] = required(await self._change("CreateServerGroup", sent), "ServerGroupId")
            case SetGroup(group, _):
                sent = {key: value for key, value in _listed(group.settings).items() if key not in FIXED_OF_GROUP}
                await self._change("UpdateServerGroupAttribute", {"ServerGroupId": group.identity, **sent})
            case DeleteGroup(_, identity):
                with suppress(CloudNotFound):
                    await self._change("DeleteServerGroup", {"ServerGroupId": identity})
            case unknown:
                assert_never(unknown)

    async def send_servers(self, kind: type[ServerStep], group: str, servers: list[BackendServer]) -> None:
        """Adds, changes or removes servers of a group by one call."""
        described = _named_server if kind is RemoveServers else _backend
        sent = {"ServerGroupId": self.groups[group], "Servers": [described(server, group) for server in servers]}
        await self._change(SERVER_ACTIONS[kind], sent)

    async def change_listener(self, step: ListenerStep) -> None:
        """Carries out a step about a listener."""
        listener = step.listener
        match step:
            case CreateListener():
                sent = self._parameters(listener) | {
                    "LoadBalancerId": self.identity,
                    "ListenerPort": 0 if "EndPort" in listener.settings else listener.port,
                    "ListenerProtocol": listener.protocol.upper(),
                }
                identity = required(await self._change("CreateListener", sent), "ListenerId")
                further = listener.settings.get(ADDITIONAL_CERTIFICATES, "")
                await nlb_settings.change_certificates(self._change, identity, "", further)
            case SetListener():
                await self._set_listener(step)
            case StartListener():
                await self._change("StartListener", {"ListenerId": listener.identity})
            case DeleteListener():
                with suppress(CloudNotFound):
                    await self._change("DeleteListener", {"ListenerId": listener.identity})
            case unknown:
                assert_never(unknown)

    async def _set_listener(self, step: SetListener) -> None:
        listener = step.listener
        if any(change.parameter != ADDITIONAL_CERTIFICATES for change in step.changes):
            sent = self._parameters(listener) | {"ListenerId": listener.identity}
            sent = {key: value for key, value in sent.items() if key not in RANGE}  # decided at its creation
            await self._change("UpdateListenerAttribute", sent)
        for change in step.changes:
            if change.parameter == ADDITIONAL_CERTIFICATES:
                await nlb_settings.change_certificates(self._change, listener.identity, change.old, change.new)

    def _parameters(self, listener: Listener) -> Json:
        settings = {key: value for key, value in listener.settings.items() if key != ADDITIONAL_CERTIFICATES}
        return _listed(settings) | {
            "ListenerDescription": listener.description,
            "ServerGroupId": self.groups[listener.group],
        }


def _protections(settings: Settings) -> Json:
    """Returns the protections that a balancer has from its beginning, as its creation spells them."""
    status = settings["ModificationProtectionStatus"]
    reason = {"ModificationProtectionConfig.Reason": PROTECTION_REASON} if status == "ConsoleProtection" else {}
    enabled = settings["DeletionProtectionEnabled"]
    return {"DeletionProtectionConfig.Enabled": enabled, "ModificationProtectionConfig.Status": status} | reason


def _listed(settings: Settings) -> Json:
    """Returns settings as the API takes them: texts with commas as lists."""
    return {key: value.split(",") if key in LISTS else value for key, value in settings.items()}


def _named_server(server: BackendServer, _: str) -> Json:
    found = {"ServerId": server.identity, "ServerType": SERVER_TYPES[server.type], "Port": server.port}
    return found | ({"ServerIp": server.address} if server.address else {})


def _backend(server: BackendServer, group: str) -> Json:
    return _named_server(server, group) | {"Weight": server.weight, "Description": server.description or group}
