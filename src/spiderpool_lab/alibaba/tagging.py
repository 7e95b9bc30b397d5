"""TagResources, UntagResources and ListTagResources of ECS 2014-05-26, SLB 2014-05-15 and NLB 2022-04-30."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from spiderpool_lab.alibaba import paging
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.parameters import Parameters
from spiderpool_lab.alibaba.refusals import Refusal, invalid, not_found
from spiderpool_lab.alibaba.registry import Answer, Product, action
from spiderpool_lab.alibaba.resources import Tags

TAGS_MAX = 20
"""Tags of a resource."""
RESOURCES_MAX = 50
"""Resources that one call may name."""

_TABLES: dict[Product, dict[str, str]] = {
    "ecs": {"eni": "enis", "instance": "instances", "securitygroup": "security_groups"},
    "slb": {"acl": "access_lists", "instance": "clbs", "vservergroup": "clb_groups"},
    "nlb": {"loadbalancer": "nlbs", "listener": "nlb_listeners", "servergroup": "nlb_groups"},
}
"""product → ResourceType → name of the table with these resources."""


def _table(account: Account, product: Product, parameters: Parameters) -> Any:
    kinds = _TABLES[product]
    return getattr(account.tables, kinds[parameters.one_of("ResourceType", kinds, "")])


def check_tags(tags: Tags) -> None:
    """Raises Refusal if a resource has too many tags."""
    if len(tags) > TAGS_MAX:
        raise Refusal("NumberExceed.Tags", f"A resource has at most {TAGS_MAX} tags.")


def _register(product: Product) -> None:
    @action(product, "TagResources", required="ResourceType ResourceId Tag", optional="ClientToken DryRun")
    def tag_resources(account: Account, parameters: Parameters) -> Answer:
        return _tag(account, product, parameters)

    @action(product, "UntagResources", required="ResourceType ResourceId", optional="All ClientToken DryRun TagKey")
    def untag_resources(account: Account, parameters: Parameters) -> Answer:
        return _untag(account, product, parameters)

    @action(product, "ListTagResources", required="ResourceType", optional="MaxResults NextToken ResourceId Tag")
    def list_tag_resources(account: Account, parameters: Parameters) -> Answer:
        return _list(account, product, parameters)


for _product in _TABLES:
    _register(_product)


def _tag(account: Account, product: Product, parameters: Parameters) -> Answer:
    """Add tags to all named resources, or to none if one of them fails."""
    table = _table(account, product, parameters)
    changed = [
        replace(item, tags={**item.tags, **parameters.tags()}) for item in _items(table, parameters.texts("ResourceId"))
    ]
    for item in changed:
        check_tags(item.tags)
    for item in changed:
        table.put(item)
    return {}


def _untag(account: Account, product: Product, parameters: Parameters) -> Answer:
    table = _table(account, product, parameters)
    keys, everything = parameters.texts("TagKey"), parameters.flag("All")
    for item in _items(table, parameters.texts("ResourceId")):
        remaining = {key: value for key, value in item.tags.items() if not everything and key not in keys}
        table.put(replace(item, tags=remaining))
    return {}


def _items(table: Any, identities: Sequence[str]) -> list[Any]:
    if len(identities) > RESOURCES_MAX:
        raise invalid("ResourceId", f"has more than {RESOURCES_MAX} values")
    for identity in identities:
        if identity not in table:
            raise not_found("InvalidResourceId.NotFound", "resource", identity)
    return [table.get(identity) for identity in identities]


def _list(account: Account, product: Product, parameters: Parameters) -> Answer:
    """One row per resource and tag, of resources that have all tags of the filter."""
    identities, tags = parameters.texts("ResourceId"), parameters.tags()
    kind = parameters.required("ResourceType")
    rows = [
        {"ResourceId": item.identity, "ResourceType": kind, "TagKey": key, "TagValue": value}
        for item in _table(account, product, parameters)
        if (not identities or item.identity in identities)
        and all(key in item.tags and value in ("", item.tags[key]) for key, value in tags.items())
        for key, value in item.tags.items()
    ]
    page, token = paging.by_token(rows, parameters, default=50, most=100)
    if product == "nlb":
        return {"NextToken": token, "TotalCount": len(rows), "TagResources": list(page)}
    return {"NextToken": token, "TagResources": {"TagResource": list(page)}}
