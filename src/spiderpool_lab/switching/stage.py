"""Services that change hands in a cluster: made, served by the stand-in for the other controller, and looked at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import yaml

from spiderpool_lab.admin_client import AdminClient
from spiderpool_lab.control_plane import ControlPlane
from spiderpool_lab.switching.endpoints import ServedCluster, ServedService
from spiderpool_lab.switching.holdings import BalancerHolding, holding
from spiderpool_lab.switching.other_controller import OtherController
from spiderpool_lab.switching.other_writer import HASH_LABEL, IDENTITY_LABEL, ServiceMarks
from spiderpool_lab.switching.services import ACCESS_LIST, LENT, NAMESPACE, SERVICES, ConsoleCall, Json, SwitchedService

READING = ("Describe", "Get", "List")


class StoredServices(Protocol):
    """Where a cluster's objects are stored."""

    def create(self, manifests: Iterable[Json]) -> None:
        """Make Services."""

    def listed(self, kind: str) -> list[Json]:
        """The objects of a kind, by its plural, in the Namespace of the Services or in none."""

    def patch(self, name: str, body: Json, *, status: bool = False) -> None:
        """Merge a body into a Service, or into its status."""


class ServicesOfPlane:
    """The objects of a control plane, by kubectl."""

    def __init__(self, plane: ControlPlane) -> None:
        self._kubectl = plane.kubectl
        self._apply = plane.apply

    def create(self, manifests: Iterable[Json]) -> None:
        """Make Services."""
        self._apply(yaml.safe_dump_all(manifests))

    def listed(self, kind: str) -> list[Json]:
        """The objects of a kind, by its plural, in the Namespace of the Services or in none."""
        return list(json.loads(self._kubectl("get", kind, "-o", "json", f"--namespace={NAMESPACE}"))["items"])

    def patch(self, name: str, body: Json, *, status: bool = False) -> None:
        """Merge a body into a Service, or into its status."""
        where = [f"--namespace={NAMESPACE}", *(["--subresource=status"] if status else [])]
        self._kubectl("patch", "service", name, "--type=merge", f"--patch={json.dumps(body)}", *where)


class SwitchStage:
    """A cluster, its account, and the Services. ``cluster_id`` is what both controllers call the cluster."""

    def __init__(
        self,
        stored: StoredServices,
        admin: AdminClient,
        *,
        cluster_id: str,
        vpc: str,
        services: Sequence[SwitchedService] = SERVICES,
    ) -> None:
        self.admin = admin
        self.services = services
        self._stored = stored
        self._other = OtherController(admin.call, cluster_id, vpc)
        self._marks: dict[str, ServiceMarks] = {}  # Service → what the other controller has left on it
        self._counts: dict[str, int] = {}  # what was counted last

    def create(self, values: Mapping[str, str]) -> None:
        """Make the Services, and the balancer that the user lends. ``values`` stand for others of the account."""
        lent = self.admin.call("slb", "CreateLoadBalancer", AddressType="internet", LoadBalancerName="of-the-user")
        given = {**values, LENT: lent["LoadBalancerId"]}
        self._stored.create(each.manifest(given) for each in self.services)

    def serve_by_other(self) -> list[str]:
        """Have the other controller look at all Services once, and mark them; returns what it changed in the cloud."""
        for service in self.served():
            marks = self._marks[service.name] = self._other.ensure(service)
            if marks.missing(service.service):
                self._stored.patch(service.name, marks.metadata)
            if not service.service["status"].get("loadBalancer"):
                self._stored.patch(service.name, marks.status, status=True)
        return self._other.changes()

    def unmarked(self) -> list[str]:
        """What the other controller has written on Services and no longer finds, in sentences."""
        return [text for each in self.served() for text in self._marks[each.name].missing(each.service)]

    def forget_hashes(self) -> None:
        """Let the other controller compare listeners as well, as the page about the switch says."""
        for service in self.services:
            self._stored.patch(service.name, {"metadata": {"labels": {HASH_LABEL: None}}})

    def set_at_console(self) -> None:
        """Make the settings that somebody makes at the console."""
        made = self.admin.call("slb", "CreateAccessControlList", AclName="of-the-user")
        everybody = [{"entry": "0.0.0.0/1"}, {"entry": "128.0.0.0/1"}]
        self.admin.call("slb", "AddAccessControlListEntry", AclId=made["AclId"], AclEntrys=json.dumps(everybody))
        held = self.holdings()
        for service in self.services:
            for call in service.console:
                self._set(service, call, held[service.name], made["AclId"])

    def _set(self, service: SwitchedService, call: ConsoleCall, held: BalancerHolding, access_list: str) -> None:
        product = "nlb" if service.is_network else "slb"
        (key,) = [key for key in held.listeners if key.endswith(f"/{call.port}")] if call.port else ("",)
        if not service.is_network or call.of == "balancer":
            place = {"LoadBalancerId": held.identity, **({"ListenerPort": str(call.port)} if call.port else {})}
        elif call.of == "listener":
            place = {"ListenerId": held.listeners[key]}
        else:
            settings, _ = held.listener_settings[key]
            place = {"ServerGroupId": settings["ServerGroupId"]}
        given = {key: access_list if text == ACCESS_LIST else text for key, text in call.parameters.items()}
        self.admin.call(product, call.action, **place, **given)

    def holdings(self) -> dict[str, BalancerHolding]:
        """What each Service has in the cloud."""
        state = self.admin.state()
        labels = {
            each["metadata"]["name"]: each["metadata"].get("labels", {}) for each in self._stored.listed("services")
        }
        return {each.name: holding(state, labels[each.name][IDENTITY_LABEL]) for each in self.services}

    def new_changes(self) -> dict[str, int]:
        """How often each action was called since the last time that changes something in the cloud, by whoever."""
        counts: dict[str, int] = self.admin.calls()["counts"]
        former, self._counts = self._counts, counts
        return {
            action: number - former.get(action, 0)
            for action, number in counts.items()
            if number > former.get(action, 0)
            and action.partition(":")[0] in ("slb", "nlb")
            and not action.partition(":")[2].startswith(READING)
        }

    def served(self) -> list[ServedService]:
        """The Services with the nodes and endpoints of now."""
        enis = {
            address: eni["identity"]
            for eni in self.admin.state()["enis"]
            for address in (eni["address"], *eni["secondaries"], *eni["ipv6_addresses"])
        }
        cluster = ServedCluster(self._stored.listed("nodes"), self._stored.listed("endpointslices"), enis)
        names = {each.name for each in self.services}
        return [
            ServedService(each, cluster)
            for each in self._stored.listed("services")
            if each["metadata"]["name"] in names
        ]
