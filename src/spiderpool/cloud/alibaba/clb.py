"""Classic load balancers by SLB 2014-05-15: finds one, describes it, and carries out the steps of a plan."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, assert_never

from spiderpool.cloud.alibaba import clb_answers, clb_domains
from spiderpool.cloud.alibaba.answers import (
    MAX_PAGES,
    PAGE,
    Json,
    all_objects,
    objects,
    optional,
    required,
)
from spiderpool.cloud.alibaba.clb_access_lists import AccessLists
from spiderpool.cloud.alibaba.clb_answers import SERVER_TYPES
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
from spiderpool.cloud.alibaba.source_lists import LEAVING
from spiderpool.cloud.provider import CloudNotFound, CloudUnavailable, NotPermitted
from spiderpool.core.cloud.alibaba.clb import ASPECTS, DOMAINS, SERVER_PORT, UNPROTECTED, domains
from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.alibaba.naming import MAX_DESCRIPTION
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

SLB = Product("slb", "2014-05-15")
BATCH = 20
"""Servers that one call may add, change or remove."""

ASPECT_ACTIONS: Mapping[str, str] = {
    "name": "SetLoadBalancerName",
    "delete protection": "SetLoadBalancerDeleteProtection",
    "modification protection": "SetLoadBalancerModificationProtection",
    "payment": "ModifyLoadBalancerInstanceChargeType",
    "size": "ModifyLoadBalancerInstanceSpec",
    "bandwidth": "ModifyLoadBalancerInternetSpec",
}

CREATE_LISTENER: Mapping[str, str] = {
    "tcp": "CreateLoadBalancerTCPListener",
    "udp": "CreateLoadBalancerUDPListener",
    "http": "CreateLoadBalancerHTTPListener",
    "https": "CreateLoadBalancerHTTPSListener",
}
SET_LISTENER: Mapping[str, str] = {
    "tcp": "SetLoadBalancerTCPListenerAttribute",
    "udp": "SetLoadBalancerUDPListenerAttribute",
    "http": "SetLoadBalancerHTTPListenerAttribute",
    "https": "SetLoadBalancerHTTPSListenerAttribute",
}

SERVER_ACTIONS: Mapping[type[ServerStep], str] = {
    AddServers: "AddVServerGroupBackendServers",
    SetWeights: "SetVServerGroupAttribute",
    RemoveServers: "RemoveVServerGroupBackendServers",
}


class ClassicLoadBalancers:
    """Implements `LoadBalancerAPI` for the classic load balancers of one region."""

    def __init__(self, client: OpenAPIClient, region: str) -> None:
        self._client = client
        self._region = region
        self.source_lists = AccessLists(self.call)

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
            await self._balancers({"LoadBalancerId": identity})
            if identity
            else await made_for(self._balancers, clb_answers.tags_of, owner, lambda name: {"LoadBalancerName": name})
        )
        described = oldest(found, clb_answers.tags_of, owner, without)
        if described is None:
            return None
        observed = await self._observed(described, owner, lent)
        return await self.source_lists.seen_at(observed, owner, is_leaving=is_leaving)

    async def made(self, cluster: str) -> list[MadeBalancer]:
        """Returns all balancers that were made for Services of the cluster, also those that have outlived theirs.

        Asked without a filter: what one was not to be found by would not be counted.
        """
        found: list[Json] = []
        for place in range(1, MAX_PAGES + 1):
            page = await self._page({}, place)
            found += page
            if len(page) < PAGE:
                made = (
                    CLB.naming.made(CLB.name, identity_of(each), clb_answers.tags_of(each), cluster) for each in found
                )
                return [each for each in made if each]
        raise CloudUnavailable(f"DescribeLoadBalancers did not come to an end after {MAX_PAGES} pages")

    async def carry_out(self, steps: Sequence[Step], observed: ObservedLoadBalancer | None) -> str:
        """Carries out a plan that was made for the observed balancer, and returns the balancer's identity.

        Raises CloudError, StepsRefused for refusals of some steps, after all others have been carried out.
        """
        return await _ClassicExecution(self, observed).carry_out(steps)

    async def delete_leftovers(self, owner: BalancerOwner) -> None:
        """Deletes the access list of a Service whose balancer is gone: all other parts go with that."""
        found = ObservedLoadBalancer("", "", "", source_lists=await self.source_lists.look(owner, LEAVING))
        await self.carry_out([*unused(CLB, found, ())], found)

    async def call(self, action: str, parameters: Mapping[str, Any], *, token: bool = False) -> Json:
        """Calls an action in this region."""
        sent = {"RegionId": self._region, **parameters}
        return await self._client.call(SLB, action, sent, token=token)

    async def _balancers(self, parameters: Json) -> list[Json]:
        return [each for each in await self._page(parameters, 1) if clb_answers.fits(each, parameters)]

    async def _page(self, parameters: Json, number: int) -> list[Json]:
        answer = await self.call("DescribeLoadBalancers", {**parameters, "PageSize": PAGE, "PageNumber": number})
        return objects(answer, "DescribeLoadBalancers", "LoadBalancers", "LoadBalancer")

    async def _observed(self, described: Json, owner: BalancerOwner, lent: Collection[str]) -> ObservedLoadBalancer:
        identity = identity_of(described)
        groups = await self._groups(identity, owner, lent)
        names = {group.identity: group.name for group in groups}
        return ObservedLoadBalancer(
            identity=identity,
            name=optional(described, "LoadBalancerName"),
            address=optional(described, "Address"),
            settings=clb_answers.settings_of(described),
            tags=clb_answers.tags_of(described),
            listeners=tuple(
                await side_by_side(self._listener(identity, each, names) for each in await self._listeners(identity))
            ),
            groups=tuple(groups),
        )

    async def _listeners(self, identity: str) -> list[Json]:
        sent: Json = {"LoadBalancerId": [identity]}
        return await all_objects(self.call, "DescribeLoadBalancerListeners", sent, "Listeners")

    async def _listener(self, identity: str, described: Json, groups: Mapping[str, str]) -> Listener:
        found = clb_answers.listener_of(described, groups)
        if found.protocol != "https":
            return found
        try:
            further = await clb_domains.domains_of(self.call, identity, found.port)
        except NotPermitted:  # by a policy of a former version; a change of them reports it
            return found
        return replace(found, settings={**found.settings, DOMAINS: further})

    async def _groups(self, identity: str, owner: BalancerOwner, lent: Collection[str]) -> list[ServerGroup]:
        """Returns all server groups, those of the Service and those lent to it with its servers."""
        answer = await self.call("DescribeVServerGroups", {"LoadBalancerId": identity})
        found = objects(answer, "DescribeVServerGroups", "VServerGroups", "VServerGroup")
        return await side_by_side(self._group(each, owner, lent) for each in found)

    async def _group(self, described: Json, owner: BalancerOwner, lent: Collection[str]) -> ServerGroup:
        name, identity = optional(described, "VServerGroupName"), required(described, "VServerGroupId")
        if identity in lent and not CLB.naming.is_part_of_any(name, owner.cluster):
            return lent_group(identity, await self._servers(identity), owner, CLB.naming)
        servers = await self._servers(identity) if CLB.naming.is_part_of(name, owner) else frozenset()
        return ServerGroup(name, {}, servers, identity)

    async def _servers(self, group: str) -> frozenset[BackendServer]:
        action = "DescribeVServerGroupAttribute"
        answer = await self.call(action, {"VServerGroupId": group})
        return frozenset(
            clb_answers.server_of(each) for each in objects(answer, action, "BackendServers", "BackendServer")
        )


class _ClassicExecution(Execution):
    """Turns the steps of one plan into calls."""

    batch = BATCH

    def __init__(self, balancers: ClassicLoadBalancers, observed: ObservedLoadBalancer | None) -> None:
        super().__init__(observed, balancers.source_lists)
        self._call = balancers.call

    async def change_balancer(self, step: BalancerStep) -> None:
        """Carries out a step about the balancer itself."""
        match step:
            case CreateBalancer():
                await self._create(step)
            case SetBalancer():
                await self._set(step)
            case Unprotect():
                await self._unprotect()
            case Tag(tags):
                await self._tag("TagResources", {"Tag": tag_list(dict(tags))})
            case Untag(keys):
                await self._tag("UntagResources", {"TagKey": list(keys)})
            case DeleteBalancer(identity):
                with suppress(CloudNotFound):
                    await self._call("DeleteLoadBalancer", {"LoadBalancerId": identity})
            case unknown:
                assert_never(unknown)

    async def _create(self, step: CreateBalancer) -> None:
        model = step.model
        sent = {**model.creation, **model.fixed, **model.settings, "Tag": tag_list({**model.tags, **model.origin})}
        if model.settings["ModificationProtectionStatus"] == "ConsoleProtection":
            sent["ModificationProtectionReason"] = PROTECTION_REASON
        answer = await self._call("CreateLoadBalancer", sent, token=True)
        self.identity = identity_of(answer)

    async def _set(self, step: SetBalancer) -> None:
        settings = step.model.settings
        names = [*ASPECTS[step.aspect]]
        if step.aspect == "payment":  # the action takes size and bandwidth as well, which depend on the payment
            names += ["LoadBalancerSpec", "InternetChargeType", "Bandwidth"]
        await self._set_aspect(step.aspect, {name: settings[name] for name in names if name in settings})

    async def _set_aspect(self, aspect: str, parameters: Settings) -> None:
        sent = {"LoadBalancerId": self.identity, **parameters}
        if parameters.get("ModificationProtectionStatus") == "ConsoleProtection":
            sent["ModificationProtectionReason"] = PROTECTION_REASON
        await self._call(ASPECT_ACTIONS[aspect], sent)

    async def _unprotect(self) -> None:
        for aspect in ("modification protection", "delete protection"):
            (name,) = ASPECTS[aspect]
            await self._set_aspect(aspect, {name: UNPROTECTED[name]})

    async def _tag(self, action: str, parameters: Json) -> None:
        await self._call(action, {"ResourceType": "instance", "ResourceId": [self.identity], **parameters})

    async def change_group(self, step: GroupStep) -> None:
        """Carries out a step about a server group."""
        match step:
            case CreateGroup(_, group):
                sent = {"LoadBalancerId": self.identity, "VServerGroupName": group.name}
                self.groups[group.name] = required(await self._call("CreateVServerGroup", sent), "VServerGroupId")
            case DeleteGroup(_, identity):
                with suppress(CloudNotFound):
                    await self._call("DeleteVServerGroup", {"VServerGroupId": identity})
            case SetGroup():
                return  # a classic balancer's group has no settings
            case unknown:
                assert_never(unknown)

    async def send_servers(self, kind: type[ServerStep], group: str, servers: list[BackendServer]) -> None:
        """Adds, changes or removes servers of a group by one call."""
        body = json.dumps([_backend(server, group) for server in servers])
        await self._call(SERVER_ACTIONS[kind], {"VServerGroupId": self.groups[group], "BackendServers": body})

    async def change_listener(self, step: ListenerStep) -> None:
        """Carries out a step about a listener."""
        listener = step.listener
        match step:
            case CreateListener():
                await self._call(CREATE_LISTENER[listener.protocol], self._creation(listener))
                await self._call("StartLoadBalancerListener", self._named(listener))
                further = domains(listener.settings.get(DOMAINS, ""))
                await clb_domains.add_domains(self._call, self.identity, listener.port, further)
            case SetListener():
                await self._set_listener(step)
            case StartListener():
                await self._call("StartLoadBalancerListener", self._named(listener))
            case DeleteListener():
                with suppress(CloudNotFound):
                    await self._call("DeleteLoadBalancerListener", self._named(listener))
            case unknown:
                assert_never(unknown)

    async def _set_listener(self, step: SetListener) -> None:
        listener = step.listener
        if any(change.parameter != DOMAINS for change in step.changes):
            await self._call(SET_LISTENER[listener.protocol], self._attributes(listener))
        for change in step.changes:
            if change.parameter == DOMAINS:
                await clb_domains.change_domains(self._call, self.identity, listener.port, domains(change.new))

    def _named(self, listener: Listener) -> Json:
        return {
            "LoadBalancerId": self.identity,
            "ListenerPort": listener.port,
            "ListenerProtocol": listener.protocol,
        }

    def _creation(self, listener: Listener) -> Json:
        sent = self._parameters(listener)
        if sent.get("HealthCheckConnectPort") == SERVER_PORT:  # at creation an absent port stands for it
            del sent["HealthCheckConnectPort"]
        if listener.protocol in ("tcp", "udp") and "HealthCheckInterval" in sent:
            sent["healthCheckInterval"] = sent.pop("HealthCheckInterval")  # these two actions spell it so, no others
        return sent

    def _attributes(self, listener: Listener) -> Json:
        sent = self._parameters(listener)
        sent.pop("ListenerForward", None)  # decided at creation
        return sent | ({"VServerGroup": "on"} if listener.group else {})

    def _parameters(self, listener: Listener) -> Json:
        sent: Json = {
            "LoadBalancerId": self.identity,
            "ListenerPort": listener.port,
            "Description": listener.description,
            **{key: value for key, value in listener.settings.items() if key != DOMAINS},
        }
        sent |= {"AclId": self.by_identity(sent["AclId"])} if "AclId" in sent else {}
        return sent | ({"VServerGroupId": self.groups[listener.group]} if listener.group else {})


def _backend(server: BackendServer, group: str) -> Json:
    found = {
        "ServerId": server.identity,
        "Type": SERVER_TYPES[server.type],
        "Port": str(server.port),
        "Weight": str(server.weight),
        "Description": (server.description or group)[:MAX_DESCRIPTION],
    }
    return found | ({"ServerIp": server.address} if server.address else {})
