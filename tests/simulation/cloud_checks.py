"""What must hold of addresses that are registered on ENIs, and of the pools that are made from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from spiderpool.api.ippool import POOL_ENI_LABEL, SpiderIPPool
from spiderpool.core.addresses import AddressSet, from_int, object_name
from tests.simulation.kernel import Namespace
from tests.support.api_store import Body

if TYPE_CHECKING:
    from tests.simulation.cloud import Card
    from tests.simulation.cluster import Cluster

RULE = "address of a living sandbox is not on its ENI"
Fail = Callable[..., None]


class CloudChecks:
    """Looks at every address that the cloud takes from an ENI, and at every sandbox that gets one of an ENI."""

    def __init__(self, cluster: Cluster, fail: Fail) -> None:
        self._cluster = cluster
        self._fail = fail
        cluster.cloud.on_change = self._changed

    def _changed(self, what: str, card: Card, addresses: Collection[str]) -> None:
        for name in map(object_name, addresses):
            self._cluster.note(f"{name} at the cloud, ENI {card.identity}: {what}", name)
            for namespace in self._cluster.ledger.living(name):
                self._look_at(namespace, name)

    def attached(self, namespace: Namespace) -> None:
        """An ADD has succeeded."""
        for name in sorted(namespace.names()):
            self._look_at(namespace, name)

    def _look_at(self, namespace: Namespace, name: str) -> None:
        cloud = self._cluster.cloud
        if self._cluster.administrator.is_forfeited(namespace, name):
            return
        if namespace.attached and cloud.is_own(name) and not cloud.is_registered(namespace.node, name):
            text = f"{name} is in {namespace.container} of {namespace.pod} on {namespace.node}"
            self._fail(RULE, f"{text}: the cloud drops its frames", name, namespace.uid)

    def settled(self) -> Iterator[tuple[str, str, str]]:
        """Rule, text and subject of what is not as it should be once the world is quiet."""
        pools: dict[tuple[str, int], list[Body]] = {}  # a surplus one has what pods still hold of it
        for body in self._cluster.bodies(SpiderIPPool).values():
            if eni := (body["metadata"].get("labels") or {}).get(POOL_ENI_LABEL):
                pools.setdefault((eni, body["spec"]["ipVersion"]), []).append(body)
        for card in self._cluster.cloud.cards():
            for version, registered in card.registered.items():
                found = pools.pop((card.identity, version), [])
                given = [{*addresses_of(each)} for each in found]
                if {*chain(*given)} != registered:
                    text = f"ENI {card.identity} has {sorted(registered)}, its pools {[*map(sorted, given)]}"
                    yield "pools equal the cloud", text, card.identity
                giving = sorted(each["metadata"]["name"] for each in found if _gives(each))
                if len(giving) > 1:
                    text = f"pools {giving} give addresses of ENI {card.identity}"
                    yield "pools equal the cloud", text, card.identity
        for (eni, _), found in pools.items():
            names = [each["metadata"]["name"] for each in found]
            yield "pools equal the cloud", f"pools {names} are of ENI {eni}, which is gone", eni


def _gives(pool: Body) -> bool:
    return not {*addresses_of(pool)} <= {*addresses_of(pool, "excludeIPs")}


def addresses_of(pool: Body, field: str = "ips") -> list[str]:
    """The addresses in a field of a pool's spec, in order."""
    version = pool["spec"]["ipVersion"]
    found = AddressSet.parse(pool["spec"].get(field) or [], version)
    return [from_int(number, version) for first, last in found.intervals for number in range(first, last + 1)]
