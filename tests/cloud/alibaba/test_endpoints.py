"""Where the OpenAPI is reached: our table against the official clients' own."""

from __future__ import annotations

from itertools import product

import pytest
from alibabacloud_ecs20140526.client import Client as EcsClient  # type: ignore[import-untyped]
from alibabacloud_nlb20220430.client import Client as NlbClient  # type: ignore[import-untyped]
from alibabacloud_slb20140515.client import Client as SlbClient  # type: ignore[import-untyped]
from alibabacloud_tea_openapi.utils_models import Config  # type: ignore[import-untyped]
from alibabacloud_vpc20160428.client import Client as VpcClient  # type: ignore[import-untyped]

from spiderpool.cloud.alibaba.endpoints import EXCEPTIONS, FINANCE_AND_GOVERNMENT, APIAccess, ProductEndpoint
from spiderpool.errors import BadConfig

pytestmark = pytest.mark.unit

CLIENTS = {"ecs": EcsClient, "vpc": VpcClient, "slb": SlbClient, "nlb": NlbClient}
REGIONS = sorted({*EXCEPTIONS["slb"], *FINANCE_AND_GOVERNMENT, "eu-central-1", "cn-wulanchabu", "ap-northeast-1"})


@pytest.mark.parametrize(("name", "region"), list(product(CLIENTS, REGIONS)))
def test_public_names_are_those_of_the_official_clients(name: str, region: str) -> None:
    official = CLIENTS[name](Config(region_id=region, access_key_id="a", access_key_secret="b"))
    assert APIAccess(region).endpoint(name, region) == ProductEndpoint(official._endpoint)


def test_names_inside_the_vpc() -> None:
    assert (
        APIAccess("cn-hangzhou", internal=True).endpoint("ecs", "cn-hangzhou").host
        == "ecs-vpc.cn-hangzhou.aliyuncs.com"
    )


def test_one_endpoint_for_all() -> None:
    assert APIAccess("r", override="http://127.0.0.1:80/").endpoint("slb", "r") == ProductEndpoint(
        "127.0.0.1:80", "HTTP"
    )
    with pytest.raises(BadConfig, match="SPIDERPOOL_CLOUD_ENDPOINT"):
        APIAccess("r", override="127.0.0.1:80").endpoint("slb", "r")
