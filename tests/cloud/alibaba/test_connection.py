"""The connection that spiderpool-cloud makes from its settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spiderpool.cloud.alibaba import connection
from spiderpool.core.cloud.alibaba.kinds import CLB, NLB
from spiderpool.errors import BadConfig
from spiderpool.settings import CloudSettings
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit


def settings_for(simulated: SimulatedCloud) -> CloudSettings:
    return CloudSettings(
        region=simulated.access.region,
        endpoint=simulated.access.override,
        authority=simulated.access.authority,
        secret=simulated.secret,
        credentials="secret",
    )


async def test_calls_go_where_the_settings_say_with_the_keys_that_they_name(simulated: SimulatedCloud) -> None:
    simulated.account.add_instance("master", identity="i-1")
    client = connection.open_api_client(settings_for(simulated))
    assert list(await connection.servers(client).instances("cn-hangzhou", ["i-1", "i-2"])) == ["i-1"]


async def test_both_kinds_of_load_balancers_share_the_client(simulated: SimulatedCloud) -> None:
    balancers = connection.load_balancers(connection.open_api_client(settings_for(simulated)), "cn-hangzhou", "")
    assert list(balancers.apis) == [CLB, NLB]
    assert await balancers.enis.holders(["172.31.192.10"]) == {}


def test_unknown_credentials_are_refused(simulated: SimulatedCloud) -> None:
    with pytest.raises(BadConfig, match="SPIDERPOOL_CLOUD_CREDENTIALS"):
        connection.open_api_client(replace(settings_for(simulated), credentials="none"))
