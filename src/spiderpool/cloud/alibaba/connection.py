"""spiderpool-cloud's connection to Alibaba Cloud: one OpenAPI client, and the parts of the API that use it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from spiderpool.cloud.alibaba.clb import ClassicLoadBalancers
from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.alibaba.credentials import CredentialLocations, Credentials, sources
from spiderpool.cloud.alibaba.ecs import ECSCloud
from spiderpool.cloud.alibaba.elastic_ips import ElasticIPs
from spiderpool.cloud.alibaba.endpoints import APIAccess
from spiderpool.cloud.alibaba.metadata import url_of
from spiderpool.cloud.alibaba.nlb import NetworkLoadBalancers
from spiderpool.cloud.alibaba.pod_enis import PodENIs
from spiderpool.cloud.alibaba.read_only import ReadOnlyClient
from spiderpool.cloud.alibaba.recording import RecordingClient, ReplayingClient
from spiderpool.cloud.alibaba.verification import PRODUCTS, AccountVerifier
from spiderpool.cloud.loadbalancers import LoadBalancerAPI, LoadBalancers, OtherControllerMarks
from spiderpool.cloud.provider import CloudError, CloudUnavailable, NetworkPath
from spiderpool.cloud.verification import RecordedAnswer, Verification, VerificationScope
from spiderpool.core.cloud.alibaba import kinds
from spiderpool.core.cloud.alibaba.naming import OTHER_LABEL, OTHER_LEASE, OTHER_LEASE_NAMESPACE
from spiderpool.core.cloud.loadbalancer.kinds import BalancerKind
from spiderpool.settings import CloudSettings


def open_api_client(settings: CloudSettings, path: NetworkPath | None = None) -> OpenAPIClient:
    """Returns the client for all calls of this process, since it also counts them. Raises BadConfig."""
    return OpenAPIClient(*_identity(settings, path))


def reading_client(settings: CloudSettings) -> ReadOnlyClient:
    """Returns a client that changes nothing, for commands. Raises BadConfig."""
    return ReadOnlyClient(*_identity(settings, None))


async def verify(
    settings: CloudSettings, scope: VerificationScope, answers: Sequence[RecordedAnswer] | None = None
) -> Verification:
    """Verifies the account that settings and variables name, or replays what one has answered. Raises CloudError."""
    credentials, access = _identity(settings, None)
    client = (
        RecordingClient(credentials, access, without_dry_run=scope.without_dry_run)
        if answers is None
        else ReplayingClient(answers)
    )
    checks = await AccountVerifier(client, access, scope).checks()
    return Verification(scope, tuple(checks), tuple(client.answers))


async def resend(settings: CloudSettings, answers: Sequence[RecordedAnswer]) -> tuple[RecordedAnswer, ...]:
    """Sends the calls of recorded answers once more, those that change nothing, and returns what is answered now.

    Raises CloudUnavailable where nothing answers, NotPermitted for a call that could change something.
    """
    client = RecordingClient(*_identity(settings, None), without_dry_run=True)
    for each in answers:
        product, _, action = each.action.partition(":")
        try:
            await client.call(PRODUCTS[product], action, each.parameters)
        except CloudUnavailable:
            raise
        except CloudError as error:  # a refusal is an answer, too
            if not error.cloud_code:
                raise
    return tuple(client.answers)


def _identity(settings: CloudSettings, path: NetworkPath | None) -> tuple[Credentials, APIAccess]:
    """Returns the keys, and how the API is reached. Raises BadConfig."""
    access = APIAccess(settings.region, settings.internal_endpoints, settings.endpoint, settings.authority)
    metadata = url_of(settings.common.cloud.metadata_endpoint)
    locations = CredentialLocations(metadata, settings.secret, settings.cloud_config, settings.sts_endpoint, path)
    return Credentials(sources(settings.credentials, locations, os.environ)), access


def servers(client: OpenAPIClient) -> ECSCloud:
    """Returns the API of instances, ENIs and their addresses."""
    return ECSCloud(client)


def load_balancers(client: OpenAPIClient, region: str, vpc: str, default: str = kinds.CLB.name) -> LoadBalancers:
    """Returns the APIs of the load balancers of a region; without a VPC no ENI of a pod is looked up.

    ``default`` names the kind of Services that name none.
    """
    apis: dict[BalancerKind, LoadBalancerAPI] = {
        kinds.CLB: ClassicLoadBalancers(client, region),
        kinds.NLB: NetworkLoadBalancers(client, region),
    }
    other = OtherControllerMarks(OTHER_LEASE_NAMESPACE, OTHER_LEASE, OTHER_LABEL)
    kind_of = partial(kinds.kind_of, default=default)
    return LoadBalancers(kind_of, apis, PodENIs(client, region, vpc), ElasticIPs(client, region), other)
