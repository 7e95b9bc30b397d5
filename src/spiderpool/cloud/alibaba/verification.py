"""Verifies an account before anything is left to it: endpoints, servers, quotas, balancers and each permission.

What the cloud refuses for another reason than a lacking right shows that the right is there. So the order in which
the cloud looks at rights and parameters matters: by its documentation rights come first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from spiderpool.cloud.alibaba.clb import SLB, ClassicLoadBalancers
from spiderpool.cloud.alibaba.client import OpenAPIClient, Product
from spiderpool.cloud.alibaba.ecs import ECS, VPC, ECSCloud
from spiderpool.cloud.alibaba.endpoints import APIAccess
from spiderpool.cloud.alibaba.error_codes import keys_are_wrong
from spiderpool.cloud.alibaba.nlb import PRODUCT as NLB
from spiderpool.cloud.alibaba.nlb import NetworkLoadBalancers
from spiderpool.cloud.alibaba.policy import ACTIONS
from spiderpool.cloud.alibaba.trial_calls import WITHOUT_REGION, TrialCall, trial
from spiderpool.cloud.loadbalancers import LoadBalancerAPI
from spiderpool.cloud.provider import CloudError, CloudNotFound, CloudServer, CloudUnavailable, NotPermitted, Throttled
from spiderpool.cloud.verification import CheckResult, CloudCheck, VerificationScope

PRODUCTS: dict[str, Product] = {product.name: product for product in (ECS, VPC, SLB, NLB)}
PASSED = "DryRunOperation"
"""The cloud's code for a change that it would have carried out."""
UNKNOWN_ACTION = "InvalidAction.NotFound"
UNJUDGED = ("MissingParam", "IllegalParam", "InvalidParameter")
"""Beginnings of codes about parameters, which may be looked at before rights are."""
ABSENCE = "does not exist"
"""What the cloud says of an identity that nothing has, sometimes with a code about parameters."""
NO_DRY_RUN = "the API has no dry run of it: see that the policy has it"
NOT_OPEN = ("NotOpen", "Unopened", "NotActivated")
"""Parts of codes that say that the account has not opened a product."""


class AccountVerifier:
    """Verifies one account by a client that changes nothing."""

    def __init__(self, client: OpenAPIClient, access: APIAccess, scope: VerificationScope) -> None:
        self._client = client
        self._access = access
        self._scope = scope
        self._servers = ECSCloud(client)
        self._silent: dict[str, str] = {}  # product that gave no answer → what was said instead

    async def checks(self) -> list[CloudCheck]:
        """Returns all checks. Raises NotPermitted where there are no keys, or the cloud does not know them."""
        permissions = [check async for check in self._permissions()]
        servers, found = await self._server_checks()
        return [
            *[self._endpoint(product, permissions) for product in PRODUCTS if self._needs(product)],
            *servers,
            *[check async for check in self._quotas(found)],
            *[check async for check in self._balancers()],
            *permissions,
        ]

    def _actions(self) -> list[str]:
        return sorted({action for feature in self._scope.features for action in ACTIONS[feature]})

    def _uses(self, action: str) -> bool:
        """Whether a feature in the scope calls an action; what none calls, its keys need not be allowed."""
        return action in self._actions()

    def _needs(self, product: str) -> bool:
        return any(action.startswith(f"{product}:") for action in self._actions())

    async def _permissions(self) -> AsyncIterator[CloudCheck]:
        for action in self._actions():
            tried = trial(action, without_dry_run=self._scope.without_dry_run)
            product = action.partition(":")[0]
            if tried is None:
                yield CloudCheck("permission", action, "untried", NO_DRY_RUN)
            elif silent := self._silent.get(product):
                yield CloudCheck("permission", action, "untried", silent)
            else:
                yield CloudCheck("permission", action, *await self._tried(tried))

    async def _tried(self, tried: TrialCall) -> tuple[CheckResult, str]:
        product, _, action = tried.action.partition(":")
        region = self._scope.region
        sent = {**({} if tried.action in WITHOUT_REGION else {"RegionId": region}), **tried.parameters}
        try:
            await self._client.call(PRODUCTS[product], action, sent, region=region)
        except NotPermitted as error:
            if not error.cloud_code or keys_are_wrong(error.cloud_code):
                raise
            return "wrong", error.message
        except Throttled as error:
            return "untried", error.message
        except CloudUnavailable as error:
            self._silent[product] = error.message
            return "untried", error.message
        except CloudError as error:
            return _judged(error)
        return "ok", "answered"

    def _endpoint(self, product: str, permissions: Sequence[CloudCheck]) -> CloudCheck:
        """Whether a product answered anything, where it is reached."""
        host = self._access.endpoint(product, self._scope.region).host
        of_product = [each for each in permissions if each.name.startswith(f"{product}:")]
        if any(each.result != "untried" for each in of_product):
            return CloudCheck("endpoint", product, "ok", host)
        reason = next((each.detail for each in of_product), "nothing was tried")
        return CloudCheck("endpoint", product, "wrong", f"{host}: {reason}")

    async def _server_checks(self) -> tuple[list[CloudCheck], list[CloudServer]]:
        """Whether the region has the servers of the Nodes, and those that it has."""
        region, wanted = self._scope.region, self._scope.servers
        if not self._uses("ecs:DescribeInstances"):
            return [CloudCheck("region", region, "untried", "no feature that is verified reads servers")], []
        if not wanted:
            return [CloudCheck("region", region, "untried", "no Node names a server of the cloud")], []
        try:
            found = await self._servers.instances(region, wanted)
        except CloudError as error:
            return [CloudCheck("region", region, "wrong", error.message)], []
        missing = [name for name in wanted if name not in found]
        text = f"{len(found)} of {len(wanted)} servers of Nodes are there"
        if missing:
            text += f"; {', '.join(missing)} are in another region or account: correct cloud.region, or the keys"
        return [CloudCheck("region", region, "wrong" if missing else "ok", text)], [*found.values()]

    async def _quotas(self, servers: Sequence[CloudServer]) -> AsyncIterator[CloudCheck]:
        """What limits the addresses of the servers, where a feature registers any."""
        for name in sorted({server.type for server in servers if self._uses("ecs:DescribeInstanceTypes")}):
            try:
                quota = await self._servers.quota(self._scope.region, name)
            except CloudError as error:
                yield CloudCheck("quota", name, "wrong", error.message)
            else:
                text = f"{quota.ipv4} secondary IPv4 and {quota.ipv6} IPv6 addresses for each ENI"
                yield CloudCheck("quota", name, "ok", text)
        if (vswitch := self._scope.vswitch) and self._uses("vpc:DescribeVSwitches"):
            try:
                free = await self._servers.free_addresses(self._scope.region, vswitch)
            except CloudError as error:
                yield CloudCheck("quota", vswitch, "wrong", error.message)
            else:
                yield CloudCheck("quota", vswitch, "ok" if free else "wrong", f"{free} free addresses")

    async def _balancers(self) -> AsyncIterator[CloudCheck]:
        """How many balancers the cluster has already: a false ID of the cluster finds none."""
        if not self._needs("slb"):
            return
        apis: dict[str, LoadBalancerAPI] = {
            "classic": ClassicLoadBalancers(self._client, self._scope.region),
            "network": NetworkLoadBalancers(self._client, self._scope.region),
        }
        for name, api in apis.items():
            try:
                count = len(await api.made(self._scope.cluster))
            except CloudError as error:
                yield CloudCheck("balancers", name, "wrong", error.message)
            else:
                text = f"{count} of cluster {self._scope.cluster}, which may have {self._scope.max_balancers} in all"
                yield CloudCheck("balancers", name, "ok", text)


def _judged(error: CloudError) -> tuple[CheckResult, str]:
    """What a refusal says about the right to an action, and about the account."""
    code = error.cloud_code
    if code == PASSED:
        return "ok", "would be carried out, by its dry run"
    if code == UNKNOWN_ACTION:
        return "wrong", f"{error.message}: the endpoint does not have this API"
    if any(part in code for part in NOT_OPEN):
        return "wrong", f"{error.message}: open the product in the console"
    if (
        code.startswith(UNJUDGED) and ABSENCE not in error.message
    ):  # where parameters come first, nothing is known of the right
        return "untried", error.message
    if isinstance(error, CloudNotFound) or ABSENCE in error.message:
        return "ok", "answered that it does not exist, as meant"
    return "ok", f"answered {code}"
