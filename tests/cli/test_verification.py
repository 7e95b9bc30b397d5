"""`cloud verify` against a simulated account: what it reports, what its file keeps, and what it says of the file."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from spiderpool.api.core_v1 import ConfigMap, Node
from spiderpool.api.meta import ObjectMeta
from spiderpool.cli.account_commands import VerifyOptions, verify_cluster, verify_replayed
from spiderpool.cli.connection import Cluster
from spiderpool.cli.main import cli
from spiderpool.cli.printing import View
from spiderpool.cli.verification import VerifiedAccount, save
from spiderpool.cloud.alibaba.policy import document
from spiderpool.cloud.verification import CloudCheck, RecordedAnswer, Verification, VerificationScope
from spiderpool.errors import BadConfig
from spiderpool_lab.alibaba.metadata import MetadataServer
from tests.cloud.alibaba import simulation
from tests.cloud.alibaba.simulation import SimulatedCloud
from tests.core.pretend_balancers import node
from tests.support.api_server import ApiServer

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[2] / "docs" / "usage" / "first-hour.md"
SECRET = "cGxhbnRlZC1zZWNyZXQtb2YtdGhlLWFjY291bnQ"


@dataclass(frozen=True)
class VerifiedSetup:
    """A cluster of two nodes, and the account that it is in."""

    cluster: Cluster
    simulated: SimulatedCloud


@pytest.fixture
async def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[VerifiedSetup]:
    """The cluster, with settings in its ConfigMap, keys by variables, and the metadata of its first server."""
    simulation.without_proxy(monkeypatch)
    account = simulation.new_account()
    for name in "ab":
        account.add_eni("vsw-1", instance=account.add_instance(name, identity=f"i-{name}").identity)
    keys = account.add_identity(allowed=document(("nodes", "balancers"))["Statement"][0]["Action"])
    async with (
        simulation.served(account, tmp_path) as simulated,
        MetadataServer(account, resolve=lambda _: "i-a").serve("127.0.0.1", 0) as metadata,
        ApiServer(ConfigMap.KIND, Node.KIND) as server,
        server.client() as client,
    ):
        monkeypatch.setenv("SPIDERPOOL_CLOUD_ENDPOINT", str(simulated.access.override))
        monkeypatch.setenv("SPIDERPOOL_CLOUD_CA", str(simulated.access.authority))
        monkeypatch.setenv("METADATA_ENDPOINT", metadata.url)
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", keys.key)
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", keys.secret)
        text = "cloud: {provider: alibaba, clusterID: c1, loadBalancers: {vswitchID: vsw-1}}"
        home = ObjectMeta(name="spiderpool-conf", namespace="kube-system")
        await client.create(ConfigMap(metadata=home, data={"conf.yml": text}))
        for each in "ab":
            await client.create(node(each))
        yield VerifiedSetup(Cluster(client, 5.0), simulated)


def text_of(found: VerifiedAccount, *, wide: bool = False) -> str:
    return "\n".join(found.lines(View(wide=wide)))


async def test_the_account_of_a_cluster(setup: VerifiedSetup) -> None:
    found = await verify_cluster(setup.cluster, VerifyOptions())
    shown = text_of(found)
    assert not found.is_wrong, shown
    assert "this machine is i-a in cn-hangzhou-i, with 1 ENIs" in shown
    assert "2 of 2 servers of Nodes are there" in shown
    assert " actions" in shown
    assert "slb:DescribeLoadBalancers" not in shown
    assert "slb:DescribeLoadBalancers" in text_of(found, wide=True)
    assert "AssignPrivateIpAddresses" not in text_of(found, wide=True), "the feature is off"
    assert " checks, 0 wrong, " in shown


async def test_the_page_shows_what_is_printed(setup: VerifiedSetup) -> None:
    host = re.compile(r"127\.0\.0\.1:\d+")
    printed = [
        host.sub("HOST", line) for line in text_of(await verify_cluster(setup.cluster, VerifyOptions())).split("\n")
    ]
    block = PAGE.read_text().partition("    CHECK ")[2].partition("\n\n")[0]
    shown = [host.sub("HOST", line.strip()) for line in f"CHECK {block}".split("\n")]
    rows = [line for line in shown if line != "…"]
    assert len(rows) > 5
    assert [line for line in printed if line in rows] == rows


async def test_what_an_account_answered_is_kept_without_keys_and_judged_elsewhere(
    setup: VerifiedSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "answers.json"
    found = await verify_cluster(setup.cluster, VerifyOptions(record=path))
    text = path.read_text()
    for identity in setup.simulated.account.identities.values():
        assert identity.secret not in text
        assert identity.key not in text
    assert "RequestId" not in text
    monkeypatch.setenv("SPIDERPOOL_CLOUD_ENDPOINT", "https://127.0.0.1:1")
    again = await verify_replayed(path)
    by_endpoint = [each for each in again.checks if each.subject != "endpoint"]
    assert by_endpoint == [each for each in found.checks if each.subject not in ("endpoint", "metadata")]


async def test_settings_of_a_file_need_no_cluster(setup: VerifiedSetup, tmp_path: Path) -> None:
    values = tmp_path / "conf.yml"
    values.write_text("cloud: {provider: alibaba, region: cn-hangzhou, clusterID: c1}")

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["cloud", "verify", *words])

    words = ("--no-cluster", "--values", str(values), "-o", "json")
    done = await asyncio.to_thread(run, *words)
    assert done.exit_code == 0, done.output
    checks = json.loads(done.stdout)["checks"]
    assert {"subject": "endpoint", "name": "slb"}.items() <= next(
        each for each in checks if each["name"] == "slb"
    ).items()
    assert run("--no-cluster").exit_code == 2


def test_secrets_in_answers_are_not_kept(tmp_path: Path) -> None:
    answer = {"AccessKeySecret": SECRET, "Instances": [{"OwnerId": 1234, "Password": SECRET}], "NextToken": "page-2"}
    scope = VerificationScope("r", "c", ())
    save(Verification(scope, (), (RecordedAnswer("ecs:A", {"NextToken": "page-1"}, answer),)), tmp_path / "f")
    text = (tmp_path / "f").read_text()
    assert SECRET not in text
    assert "1234" not in text
    assert "page-1" in text
    assert "page-2" in text, "else the second page would not be found again"


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2, "scope": {}}', '{"format": 1, "scope": {}, "answers": []}'])
async def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(text)
    with pytest.raises(BadConfig, match=r"answers\.json"):
        await verify_replayed(path)


def test_what_is_wrong_comes_once_more_at_the_end() -> None:
    lacking = CloudCheck("permission", "slb:A", "wrong", "allow the action A")
    found = VerifiedAccount((CloudCheck("permission", "slb:B", "ok", "answered"), lacking))
    assert found.is_wrong
    assert "! permission slb:A: allow the action A" in text_of(found)
    assert msgspec.json.decode(msgspec.json.encode(found.document()))["checks"][1]["result"] == "wrong"
