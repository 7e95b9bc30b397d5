"""When an installation is removed, nothing of ours keeps its objects from being deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.api.admissionregistration_v1 import MutatingWebhookConfiguration, ValidatingWebhookConfiguration
from spiderpool.api.coordination_v1 import Lease
from spiderpool.api.coordinator import SpiderCoordinator
from spiderpool.api.core_v1 import Secret
from spiderpool.api.endpoint import SpiderEndpoint
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import FINALIZER, FORMER_FINALIZER, Object, ObjectMeta
from spiderpool.api.reservedip import SpiderReservedIP
from spiderpool.api.subnet import SpiderSubnet, SubnetSpec
from spiderpool.controller import main, removal
from spiderpool.controller.certificates import STORE
from spiderpool.controller.registration import NAME
from spiderpool.controller.removal import let_objects_go
from spiderpool.errors import ApiUnavailable
from spiderpool.kube.client import Invalid
from spiderpool.settings import CommonSettings, ControllerSettings
from tests.support.api_server import ApiServer, Fault

pytestmark = pytest.mark.unit

THEIRS = "example.com/theirs"
KUBECONFIG = """
current-context: c
contexts: [{{name: c, context: {{cluster: c}}}}]
clusters: [{{name: c, cluster: {{server: "{}"}}}}]
"""


def held(*names: str) -> tuple[Object, ...]:
    pool = IPPoolSpec(subnet="10.6.0.0/16", ips=["10.6.0.1"])
    return (
        SpiderIPPool(metadata=ObjectMeta(name="p", finalizers=[*names]), spec=pool),
        SpiderSubnet(metadata=ObjectMeta(name="s", finalizers=[*names]), spec=SubnetSpec(subnet="10.6.0.0/16")),
        SpiderCoordinator(metadata=ObjectMeta(name="c", finalizers=[*names])),
        SpiderEndpoint(metadata=ObjectMeta(name="e", namespace="default", finalizers=[*names])),
        SpiderReservedIP(metadata=ObjectMeta(name="r", finalizers=[*names])),
    )


@pytest.mark.parametrize("ours", [FINALIZER, FORMER_FINALIZER])
async def test_our_finalizers_go_and_those_of_others_stay(ours: str) -> None:
    objects = held(ours, THEIRS)
    async with ApiServer(*(obj.KIND for obj in objects)) as server, server.client() as client:
        server.put(*objects)
        server.inject(Fault("patch", status=409))  # another writer was there meanwhile
        await let_objects_go(client)
        for obj in objects:
            (stored,) = server.stored(type(obj)).values()
            assert stored.metadata.finalizers == [THEIRS]


async def test_kinds_that_are_gone_or_forbidden_keep_none_of_the_others() -> None:
    pool, *_, reserved = held(FINALIZER)
    async with ApiServer(pool.KIND, reserved.KIND) as server, server.client() as client:
        server.put(pool, reserved)
        server.inject(Fault("list", plural=pool.KIND.plural, status=403))
        await let_objects_go(client)
        assert not server.stored(SpiderReservedIP)["r"].metadata.finalizers
        assert server.stored(SpiderIPPool)["p"].metadata.finalizers == [FINALIZER]


@pytest.mark.parametrize(("status", "error"), [(422, Invalid), (500, ApiUnavailable)])
async def test_an_object_that_cannot_be_changed_keeps_none_of_the_others(status: int, error: type[Exception]) -> None:
    """500 is what the API server answers when it cannot reach somebody's webhook."""
    pool, *others = held(FINALIZER)
    second = SpiderIPPool(metadata=ObjectMeta(name="q", finalizers=[FINALIZER]), spec=IPPoolSpec(subnet="10.7.0.0/16"))
    async with ApiServer(*(obj.KIND for obj in (pool, *others))) as server, server.client() as client:
        server.put(pool, second, *others)
        server.inject(Fault("patch", plural=pool.KIND.plural, status=status), Fault("patch", status=status))
        with pytest.raises(error):
            await let_objects_go(client)
        server.clear_faults()
        kept = [obj.name for kind in removal.HELD for obj in server.stored(kind).values() if obj.metadata.finalizers]
        assert kept == ["p", "q"]


async def test_where_no_controller_has_run_the_objects_of_others_stay(tmp_path: Path) -> None:
    webhooks = MutatingWebhookConfiguration(metadata=ObjectMeta(name=NAME), webhooks=[{"name": "a"}])
    pool = held(FINALIZER)[0]
    async with ApiServer(webhooks.KIND, pool.KIND) as server:
        server.put(webhooks, pool)
        path = tmp_path / "kubeconfig"
        path.write_text(KUBECONFIG.format(server.url))
        common = CommonSettings(namespace="kube-system", kubeconfig=path)
        await main.clean(ControllerSettings(common=common, clean_cluster=False))
        assert server.stored(MutatingWebhookConfiguration)[NAME].webhooks
        assert server.stored(SpiderIPPool)["p"].metadata.finalizers == [FINALIZER]
        assert not server.requests


async def test_whatever_fails_the_nodes_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(removal, "TIMEOUT", 0.3)
    monkeypatch.setattr(removal, "PAUSE", 0.05)
    meta = ObjectMeta(name=NAME)
    lease = Lease(metadata=ObjectMeta(name=main.LEASE, namespace="kube-system"))
    secret = Secret(metadata=ObjectMeta(name=STORE, namespace="kube-system"), data={"tls.key": b"x"})
    objects = (
        MutatingWebhookConfiguration(metadata=meta, webhooks=[{"name": "a"}]),
        ValidatingWebhookConfiguration(metadata=meta, webhooks=[{"name": "a"}]),
        secret,
        lease,
        *held(FINALIZER),
    )
    async with ApiServer(*(obj.KIND for obj in objects)) as server:
        server.put(*objects)
        server.inject(*(Fault("patch", plural=obj.KIND.plural, status=500) for obj in (objects[0], secret, objects[4])))
        path = tmp_path / "kubeconfig"
        path.write_text(KUBECONFIG.format(server.url))
        common = CommonSettings(namespace="kube-system", kubeconfig=path)
        with pytest.raises(ApiUnavailable):
            await main.clean(ControllerSettings(common=common, uninstaller="cleans-nodes"))
        assert not server.stored(ValidatingWebhookConfiguration)[NAME].webhooks
        assert not server.stored(Lease)
        assert not server.stored(SpiderReservedIP)["r"].metadata.finalizers
    assert "nodes keep what is installed" in capsys.readouterr().out
