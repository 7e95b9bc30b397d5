"""Access lists of classic balancers, by SLB 2014-05-15."""

from __future__ import annotations

import json

from spiderpool.cloud.alibaba.answers import MAX_PAGES, Json, objects, optional, parts, required
from spiderpool.cloud.alibaba.clb_domains import ClassicCall
from spiderpool.cloud.alibaba.common import tag_list
from spiderpool.cloud.alibaba.source_lists import SourceLists, is_of
from spiderpool.cloud.provider import CloudUnavailable
from spiderpool.core.cloud.alibaba.kinds import CLB
from spiderpool.core.cloud.alibaba.naming import name_tag, own_tags
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel
from spiderpool.core.cloud.loadbalancer.source_ranges import recognised, version_of_range
from spiderpool.core.cloud.loadbalancer.values import BalancerOwner, SourceList

PAGE = 50
"""Lists, or entries of one, that a page may have."""


class AccessLists(SourceLists):
    """Implements `SourceLists` for classic balancers."""

    kind = CLB
    batch = 50

    def __init__(self, call: ClassicCall) -> None:
        super().__init__()
        self._call = call

    async def listed(self, owner: BalancerOwner) -> list[str]:
        """Returns the identities of the lists with the Service's tags, the oldest first."""
        action, sent = "DescribeAccessControlLists", {"Tag": tag_list(name_tag(owner)), "PageSize": PAGE}
        answer = await self._call(action, sent)
        described = [each for each in objects(answer, action, "Acls", "Acl") if is_of(each, owner)]
        return [
            identity for _, identity in sorted((optional(each, "CreateTime"), _identity(each)) for each in described)
        ]

    async def entries(self, owner: BalancerOwner, identity: str) -> tuple[frozenset[str], frozenset[str]]:
        """Returns the entries of a list, which count as ours. Raises CloudNotFound when there is none."""
        action = "DescribeAccessControlListAttribute"
        found: list[str] = []
        for number in range(1, MAX_PAGES + 1):
            answer = await self._call(action, {"AclId": identity, "Page": number, "PageSize": PAGE})
            page = parts(answer, "AclEntrys", "AclEntry")
            found += (recognised(required(each, "AclEntryIP")) for each in page)
            if len(page) < PAGE:
                return frozenset(found), frozenset()
        raise CloudUnavailable(f"{action} did not come to an end after {MAX_PAGES} pages")

    async def make(self, model: LoadBalancerModel, wanted: SourceList) -> str:
        """Makes a list without entries, and returns its identity."""
        version = max(map(version_of_range, wanted.entries))
        sent: Json = {"AclName": wanted.name, "AddressIPVersion": f"ipv{version}"}
        sent["Tag"] = tag_list(own_tags(model.owner))
        if group := {**model.creation, **model.fixed}.get("ResourceGroupId"):
            sent["ResourceGroupId"] = group
        return _identity(await self._call("CreateAccessControlList", sent))

    async def add(self, owner: BalancerOwner, identity: str, entries: list[str]) -> None:
        """Adds entries; those that are there already stay."""
        await self._call("AddAccessControlListEntry", {"AclId": identity, "AclEntrys": _text(entries)})

    async def remove(self, owner: BalancerOwner, identity: str, entries: list[str]) -> None:
        """Removes entries; those that are gone already count as removed."""
        await self._call("RemoveAccessControlListEntry", {"AclId": identity, "AclEntrys": _text(entries)})

    async def delete(self, identity: str) -> None:
        """Deletes a list. Raises CloudNotFound when there is none, CloudConflict while a listener uses it."""
        await self._call("DeleteAccessControlList", {"AclId": identity})


def _identity(described: Json) -> str:
    return required(described, "AclId")


def _text(entries: list[str]) -> str:
    """Returns entries as the API takes them: a text with JSON. Without comments, which the URL has no room for."""
    return json.dumps([{"entry": each} for each in entries], separators=(",", ":"))
