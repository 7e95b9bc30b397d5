"""The units by which Alibaba Cloud bills load balancers, from what a Service asks for.

By the vendor's pages on billing as generally known; they were not compared with a bill.
"""

from __future__ import annotations

from collections.abc import Iterator

from spiderpool.core.cloud.alibaba.nlb import ELASTIC_IP, requested_zones, zones
from spiderpool.core.cloud.loadbalancer.billing import BillingItem
from spiderpool.core.cloud.loadbalancer.kinds import BalancerOptions
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration

LCU = BillingItem("LCU hours")
"""Load balancer capacity units: the most used of new connections, connections, data and, with layer 7, rules."""
TRAFFIC = BillingItem("GB to the Internet")


def clb_bill(options: BalancerOptions, _: BalancerConfiguration) -> tuple[BillingItem, ...]:
    """Returns what is billed for a classic balancer that would be made."""
    return tuple(_clb(options))


def nlb_bill(options: BalancerOptions, configuration: BalancerConfiguration) -> tuple[BillingItem, ...]:
    """Returns what is billed for a network balancer that would be made."""
    return tuple(_nlb(options, configuration))


def _clb(options: BalancerOptions) -> Iterator[BillingItem]:
    if options["instance-charge-type"] == "PayBySpec":
        yield BillingItem(f"classic balancer of size {options['spec']}", 1)
    else:
        yield BillingItem("classic balancer", 1)
        yield LCU
    if options["address-type"] == "internet":
        reserved = options["charge-type"] == "paybybandwidth"
        yield BillingItem("Mbit/s to the Internet", int(options["bandwidth"])) if reserved else TRAFFIC


def _nlb(options: BalancerOptions, configuration: BalancerConfiguration) -> Iterator[BillingItem]:
    yield BillingItem("network balancer", 1)
    yield LCU
    if options["address-type"] != "internet":
        return
    listed = zones(requested_zones(options, configuration))
    new = [zone for zone in listed if len(zone) <= ELASTIC_IP or not zone[ELASTIC_IP]]
    if new:
        yield BillingItem("new public addresses, one for each zone", len(new))
    if package := options["bandwidth-package-id"]:
        yield BillingItem(f"traffic within bandwidth package {package}")
    else:
        yield TRAFFIC
