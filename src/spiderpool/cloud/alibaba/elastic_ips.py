"""Finds the elastic IP that is bound to a private classic balancer, by VPC 2016-04-28."""

from __future__ import annotations

from spiderpool.cloud.alibaba.answers import address, objects, required
from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.alibaba.ecs import VPC


class ElasticIPs:
    """Implements `ElasticIPFinder` for one region."""

    def __init__(self, client: OpenAPIClient, region: str) -> None:
        self._client = client
        self._region = region

    async def bound_to(self, balancer: str) -> str:
        """Returns the address that is bound to a private balancer; empty when there is none. Raises CloudError."""
        sent = {
            "RegionId": self._region,
            "AssociatedInstanceType": "SlbInstance",
            "AssociatedInstanceId": balancer,
        }
        answer = await self._client.call(VPC, "DescribeEipAddresses", sent)
        found = objects(answer, "DescribeEipAddresses", "EipAddresses", "EipAddress")
        # If the cloud ignored the filter, another one's address would be published.
        bound = [each for each in found if each.get("InstanceId") == balancer]
        return address(required(bound[0], "IpAddress")) if bound else ""
