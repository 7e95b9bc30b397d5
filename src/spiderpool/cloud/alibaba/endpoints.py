"""The endpoints of products by region: ``<product>.<region>.aliyuncs.com``, with exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from spiderpool.errors import BadConfig

DOMAIN = "aliyuncs.com"

FINANCE_AND_GOVERNMENT = (
    "cn-shanghai-finance-1",
    "cn-shenzhen-finance-1",
    "cn-north-2-gov-1",
    "cn-hangzhou-finance",
    "cn-beijing-gov-1",
)
"""Regions of the finance and government clouds."""
CENTRAL_SLB = (
    "cn-qingdao",
    "cn-beijing",
    "cn-hangzhou",
    "cn-shanghai",
    "cn-shenzhen",
    "cn-hongkong",
    "ap-southeast-1",
    "us-east-1",
    "us-west-1",
)
"""Regions whose SLB has the central endpoint."""
EXCEPTIONS: dict[str, dict[str, str]] = {
    "ecs": {
        "cn-hangzhou": "ecs-cn-hangzhou",
        "cn-shanghai-finance-1": "ecs-cn-hangzhou",
        "cn-shenzhen-finance-1": "ecs-cn-hangzhou",
        "cn-north-2-gov-1": "ecs",
        "cn-hangzhou-finance": "ecs",
        "cn-beijing-gov-1": "ecs",
    },
    "vpc": dict.fromkeys(("cn-hangzhou", *FINANCE_AND_GOVERNMENT), "vpc"),
    "slb": dict.fromkeys((*CENTRAL_SLB, *FINANCE_AND_GOVERNMENT), "slb"),
}
"""Product → region → host without the domain, where it is not ``<product>.<region>``."""


@dataclass(frozen=True, slots=True)
class ProductEndpoint:
    """Host (with port) of a product, and the protocol."""

    host: str
    protocol: str = "HTTPS"


@dataclass(frozen=True, slots=True)
class APIAccess:
    """How the OpenAPI is reached."""

    region: str
    """The region of calls that name none."""
    internal: bool = False
    """Whether to use the endpoints inside the VPC, which need no access to the Internet."""
    override: str | None = None
    """One URL for all products instead of the endpoints."""
    authority: Path | None = None
    """Certificate authority of the endpoints; None: the public authorities."""

    def endpoint(self, product: str, region: str) -> ProductEndpoint:
        """Returns the endpoint of a product in a region. Raises BadConfig for a malformed override."""
        if self.override:
            return _parsed(self.override)
        if self.internal:
            return ProductEndpoint(f"{product}-vpc.{region}.{DOMAIN}")
        return ProductEndpoint(f"{EXCEPTIONS.get(product, {}).get(region, f'{product}.{region}')}.{DOMAIN}")


def _parsed(url: str) -> ProductEndpoint:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/"):
        raise BadConfig(
            f"cloud endpoint {url!r} is not a URL such as https://host:port; correct SPIDERPOOL_CLOUD_ENDPOINT"
        )
    return ProductEndpoint(parts.netloc, parts.scheme.upper())
