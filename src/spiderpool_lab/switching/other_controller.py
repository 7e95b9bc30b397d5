"""A stand-in for Alibaba Cloud's own controller of Services: it leaves in cloud and cluster what that one leaves.

Its names, tags, look-ups, parameters and order are those of cloud-controller-manager 2.14, written here a second time:
nothing of spiderpool-cloud's own code for them is used. It knows the annotations of
:mod:`spiderpool_lab.switching.services` and no others.

It makes what is missing, and removes what it believes to be its own and not wanted, as that controller does. Where
that one would set a setting anew, which ours must not have changed, it only notes so.
"""

from __future__ import annotations

from spiderpool_lab.switching.endpoints import ServedService
from spiderpool_lab.switching.other_clb import OtherClassic
from spiderpool_lab.switching.other_nlb import OtherNetwork
from spiderpool_lab.switching.other_writer import HASH_LABEL, CloudCall, CloudWriter, ServiceMarks, digest_of
from spiderpool_lab.switching.services import NLB_CLASS


class OtherController:
    """The controller of one cluster, by the cluster's ID."""

    def __init__(self, call: CloudCall, cluster: str, vpc: str) -> None:
        self._writer = CloudWriter(call, cluster, vpc)
        self._classic, self._network = OtherClassic(self._writer), OtherNetwork(self._writer)

    def ensure(self, service: ServedService) -> ServiceMarks:
        """Make the balancer of a Service, or bring it up to date.

        While the Service has the hash of its present form, only servers are compared.
        """
        labels = service.service["metadata"].get("labels", {})
        only_servers = labels.get(HASH_LABEL) == digest_of(service)
        if service.service["spec"].get("loadBalancerClass") == NLB_CLASS:
            return self._network.ensure(service, only_servers=only_servers)
        return self._classic.ensure(service, only_servers=only_servers)

    def changes(self) -> list[str]:
        """What was changed since the last call, and what would have been, by Service: none if all is as it was left."""
        changes, self._writer.changes = self._writer.changes, []
        return changes
