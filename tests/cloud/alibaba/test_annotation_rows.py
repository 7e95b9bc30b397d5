"""What the simulated account is sent for each annotation of each kind of balancer, and what follows without it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from spiderpool.core.cloud.alibaba.annotations import ANNOTATIONS
from spiderpool.core.cloud.alibaba.comparison import LEFT_ALONE, differences
from spiderpool.core.cloud.loadbalancer.backends import BackendSnapshot
from spiderpool.core.cloud.loadbalancer.kinds import options_of
from spiderpool.core.cloud.loadbalancer.model import LoadBalancerModel, build_model
from spiderpool.core.cloud.loadbalancer.planning import plan
from spiderpool.core.cloud.loadbalancer.values import BalancerConfiguration
from spiderpool_lab.alibaba.account import Account, ENIAddresses, RecordedCall
from spiderpool_lab.alibaba.balancers import AccessList
from tests.cloud.alibaba import simulation
from tests.cloud.alibaba.annotation_rows import PARTS, ROWS, SERVICES, AnnotationRow
from tests.cloud.alibaba.balancers import api_of
from tests.cloud.alibaba.balancers import reached as reached_in_account
from tests.core.cloud.alibaba.reference_cases.playing import of_others
from tests.core.pretend_balancers import KINDS, endpoints, node, reached, service

pytestmark = pytest.mark.unit
POD, POD_6 = "172.31.192.10", "2408:4005:1::9"
STATE = BackendSnapshot(
    [node("a", labels={"role": "edge"}), node("b"), node("c", labels={"role": "edge"}, unschedulable=True)],
    [endpoints((POD, "a")), endpoints((POD_6, "a"), family="IPv6")],
    {POD: "eni-a", POD_6: "eni-a"},
)
LETTERS = {"clb": "C", "nlb": "N"}


def model_of(name: str, *, without: str = "", vpc: str = "vpc-1") -> LoadBalancerModel:
    """What a Service of the table asks for, perhaps without one of its annotations."""
    given = SERVICES[name]
    annotations = {suffix: value for suffix, value in given.annotations.items() if suffix != without}
    asked = service(*given.ports, annotations=annotations, **given.spec)
    asked.metadata.name, asked.metadata.uid = f"web-{[*SERVICES].index(name)}", f"uid-{[*SERVICES].index(name)}"
    configuration = BalancerConfiguration("c1", vpc, "vsw-1", ipv6_backends=True)
    return build_model(asked, options_of(asked, KINDS[given.kind]), STATE, configuration)


def populated() -> Account:
    """An account with what the Services name."""
    account = simulation.new_account()
    account.add_vswitch("172.31.208.0/20", zone="cn-hangzhou-h", identity="vsw-2", ipv6_block="2408:4005:2::/64")
    account.add_security_group(identity="sg-1")
    account.tables.access_lists.put(AccessList("acl-1", "mine", 4))
    for name in "abc":
        account.add_instance(name, identity=f"i-{name}")
    addresses = ENIAddresses(secondaries=(POD,), ipv6=(POD_6,))
    account.add_eni("vsw-1", instance="i-a", identity="eni-a", addresses=addresses)
    for name in "bc":
        account.add_eni("vsw-1", instance=f"i-{name}")
    return account


async def _played(directory: Path) -> Mapping[str, list[RecordedCall]]:
    """The calls for each Service."""
    account, calls = populated(), {}
    async with simulation.served(account, directory) as simulated:
        for name in SERVICES:
            before = len(account.calls)
            desired = model_of(name, vpc=account.vpc.identity)
            await reached_in_account(api_of(simulated, desired.kind), desired)
            calls[name] = account.calls[before:]
    return calls


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, list[RecordedCall]]]:
    """The calls for each Service, in one account."""
    with pytest.MonkeyPatch.context() as patched:
        simulation.without_proxy(patched)
        yield asyncio.run(_played(tmp_path_factory.mktemp("account")))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_the_cloud_is_sent(calls: Mapping[str, list[RecordedCall]], row: AnnotationRow) -> None:
    sent = [call for call in calls[row.service] if call.action == row.action]
    assert [call.outcome for call in sent], row.action
    assert {call.outcome for call in sent} == {"OK"}
    values = [call.parameters.get(row.parameter, "") for call in sent]
    assert any(row.sent in value if row.parameter in PARTS else row.sent == value for value in values), values


def test_no_call_is_refused(calls: Mapping[str, list[RecordedCall]]) -> None:
    refused = [call for each in calls.values() for call in each if call.outcome != "OK"]
    assert refused == []


def left_alone_there(kind: str, suffix: str) -> bool:
    """Whether the page says that without the annotation its setting stays there, and becomes the default here."""
    (annotation,) = [each for each in ANNOTATIONS if each.suffix == suffix and kind in each.kinds]
    return bool({LEFT_ALONE, f"{LETTERS[kind]}: {LEFT_ALONE}"} & {*differences(annotation)})


ENFORCED = [row for row in ROWS if left_alone_there(row.kind, row.suffix)]


@pytest.mark.parametrize("row", ENFORCED, ids=str)
def test_without_it_the_default_holds_on_a_balancer_of_ours_alone(row: AnnotationRow) -> None:
    sources = KINDS[row.kind].set_by
    parameters = [
        parameter
        for table in (sources.balancer, sources.listener, sources.group)
        for parameter, suffix in table.items()
        if suffix == row.suffix
    ]
    observed, without = reached(model_of(row.service), None), model_of(row.service, without=row.suffix)
    ours, theirs = (" ".join(map(str, plan(without, each))) for each in (observed, of_others(observed)))
    assert any(f"{parameter} " in ours for parameter in parameters)
    assert not any(f"{parameter} " in theirs for parameter in parameters)


def test_every_setting_that_the_page_calls_left_alone_there_is_tried() -> None:
    said = {(kind, each.suffix) for each in ANNOTATIONS for kind in each.kinds if left_alone_there(kind, each.suffix)}
    assert {(row.kind, row.suffix) for row in ENFORCED} == said


def test_the_services_of_the_table_are_right() -> None:
    for name in SERVICES:
        options = model_of(name).options
        assert options.faults + options.remarks == (), name
