"""spiderpool-cloud's connection to Alibaba Cloud: one OpenAPI client, and the parts of the API that use it."""

from __future__ import annotations

import os

from spiderpool.cloud.alibaba.clb import ClassicLoadBalancers
from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.alibaba.credentials import CredentialLocations, Credentials, sources
from spiderpool.cloud.alibaba.ecs import ECSCloud
from spiderpool.cloud.alibaba.elastic_ips import ElasticIPs
from spiderpool.cloud.alibaba.endpoints import APIAccess
from spiderpool.cloud.alibaba.metadata import url_of
from spiderpool.cloud.alibaba.nlb import NetworkLoadBalancers
from spiderpool.cloud.alibaba.pod_enis import PodENIs
from spiderpool.cloud.loadbalancers import LoadBalancerAPI, LoadBalancers
from spiderpool.cloud.provider import NetworkPath
from spiderpool.core.cloud.alibaba import kinds
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.settings import CloudSettings


def open_api_client(settings: CloudSettings, path: NetworkPath | None = None) -> OpenAPIClient:
    """Returns the client for all calls of this process, since it also counts them. Raises BadConfig."""
    access = APIAccess(settings.region, settings.internal_endpoints, settings.endpoint, settings.authority)
    metadata = url_of(settings.common.cloud.metadata_endpoint)
    locations = CredentialLocations(metadata, settings.secret, settings.cloud_config, settings.sts_endpoint, path)
    return OpenAPIClient(Credentials(sources(settings.credentials, locations, os.environ)), access)


def servers(client: OpenAPIClient) -> ECSCloud:
    """Returns the API of instances, ENIs and their addresses."""
    return ECSCloud(client)


def load_balancers(client: OpenAPIClient, region: str, vpc: str) -> LoadBalancers:
    """Returns the APIs of the load balancers of a region; without a VPC no ENI of a pod is looked up."""
    apis: dict[BalancerKind, LoadBalancerAPI] = {
        kinds.CLB: ClassicLoadBalancers(client, region),
        kinds.NLB: NetworkLoadBalancers(client, region),
    }
    return LoadBalancers(kinds.kind_of, apis, PodENIs(client, region, vpc), ElasticIPs(client, region))
