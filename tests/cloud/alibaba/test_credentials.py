"""Where keys come from, and how they change."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from pathlib import Path

import pytest

from spiderpool.cloud.alibaba import credentials as credentials_module
from spiderpool.cloud.alibaba.client import OpenAPIClient
from spiderpool.cloud.alibaba.credentials import (
    CloudConfig,
    CredentialLocations,
    Credentials,
    InstanceRole,
    Keys,
    MountedSecret,
    OIDCRole,
    sources,
)
from spiderpool.cloud.alibaba.ecs import ECSCloud
from spiderpool.cloud.provider import CloudUnavailable, NotPermitted
from spiderpool.errors import BadConfig
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.metadata import MetadataServer
from tests.cloud.alibaba.simulation import SimulatedCloud

pytestmark = pytest.mark.unit

NOWHERE = "http://127.0.0.1:9"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(path: Path, text: str) -> None:
    """Write, with a time of change that differs from the last one."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 1_000_000, before + 1_000_000))


@pytest.fixture
def role(account: Account) -> str:
    account.add_role("spiderpool", ["*"])
    return account.add_instance("master", role="spiderpool").identity


async def test_the_role_of_the_instance_signs_calls(simulated: SimulatedCloud, role: str) -> None:
    async with MetadataServer(simulated.account, resolve=lambda _: role).serve("127.0.0.1", 0) as metadata:
        ecs = ECSCloud(OpenAPIClient(Credentials([InstanceRole(metadata.url)]), simulated.access))
        assert role in await ecs.instances("cn-hangzhou", [role])
    assert simulated.account.calls[-1].identity == "spiderpool"


@pytest.mark.parametrize("hardened", [True, False])
async def test_the_metadata_service_is_asked_once(account: Account, role: str, hardened: bool) -> None:
    source = InstanceRole(NOWHERE)
    async with MetadataServer(account, resolve=lambda _: role, hardened=hardened).serve("127.0.0.1", 0) as metadata:
        source = InstanceRole(metadata.url)
        keys = await source.keys()
    assert keys is not None
    assert keys.type == "sts"
    assert await source.keys() is keys  # the service is down, the keys are valid
    source.forget()
    assert await source.keys() is None


async def test_an_instance_without_a_role_has_no_keys(account: Account) -> None:
    plain = account.add_instance("plain").identity
    async with MetadataServer(account, resolve=lambda _: plain).serve("127.0.0.1", 0) as metadata:
        assert await InstanceRole(metadata.url).keys() is None


async def test_keys_that_ran_out_are_fetched_anew(simulated: SimulatedCloud, role: str) -> None:
    async with MetadataServer(simulated.account, resolve=lambda _: role).serve("127.0.0.1", 0) as metadata:
        ecs = ECSCloud(OpenAPIClient(Credentials([InstanceRole(metadata.url)]), simulated.access))
        await ecs.instances("cn-hangzhou", [role])
    simulated.account.identities.clear()  # the cloud no longer knows these keys
    async with MetadataServer(simulated.account, resolve=lambda _: role).serve("127.0.0.1", metadata.port):
        await ecs.instances("cn-hangzhou", [role])
    assert "InvalidAccessKeyId.NotFound" in [call.outcome for call in simulated.account.calls]
    assert simulated.outcomes("ecs:DescribeInstances") == ["OK", "OK"]


async def test_a_secret_rotates_without_a_restart(simulated: SimulatedCloud) -> None:
    ecs = simulated.ecs()
    server = simulated.account.add_instance("master").identity
    await ecs.instances("cn-hangzhou", [server])
    former = (simulated.secret / "accessKeyID").read_text()
    successor = simulated.account.add_identity("successor")
    write(simulated.secret / "accessKeyID", f"{successor.key}\n")
    write(simulated.secret / "accessKeySecret", f"{successor.secret}\n")
    del simulated.account.identities[former]
    await ecs.instances("cn-hangzhou", [server])
    assert simulated.account.calls[-1].identity == "successor"


async def test_of_rotated_secrets_the_last_are_kept_out_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_module, "REMEMBERED_SECRETS", 4)
    credentials = Credentials([MountedSecret(tmp_path)])
    for turn in ("first", "second", "third"):
        write(tmp_path / "accessKeyID", f"id-{turn}")
        write(tmp_path / "accessKeySecret", f"secret-{turn}")
        await credentials.get_credential_async()
    assert credentials.redacted("secret-first secret-second id-third secret-third") == "secret-first *** *** ***"


async def test_half_a_secret_is_none(tmp_path: Path) -> None:
    write(tmp_path / "accessKeyID", "LTAI")
    assert await MountedSecret(tmp_path).keys() is None
    assert await MountedSecret(tmp_path / "absent").keys() is None


async def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "accessKeyID").mkdir()
    with pytest.raises(CloudUnavailable, match="accessKeyID: Is a directory"):
        await Credentials([MountedSecret(tmp_path)]).get_credential_async()


async def test_cloud_config_is_read_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cloud-config.conf"
    path.write_text(
        f'{{"Global": {{"accessKeyID": "{encoded("LTAIx")}", "accessKeySecret": "{encoded("hidden-secret")}"}}}}'
    )
    keys = await CloudConfig(path).keys()
    assert keys == Keys("LTAIx", "hidden-secret")
    said = capsys.readouterr().out
    assert "everybody may read" in said
    assert "hidden-secret" not in said + repr(keys)


async def test_a_newline_in_base64_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "cloud-config.conf"
    identity, secret = encoded("id"), encoded("secret\n")
    path.write_text(f"Global: {{accessKeyID: {identity}, accessKeySecret: {secret}}}")
    assert await CloudConfig(path).keys() == Keys("id", "secret")


@pytest.mark.parametrize("text", ["[1]", "Global: x", "{", "Global: {accessKeyID: abc, accessKeySecret: abc}"])
async def test_a_broken_cloud_config_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cloud-config.conf"
    path.write_text(text)
    with pytest.raises(BadConfig, match=r"cloud-config\.conf is no cloud-config"):
        await CloudConfig(path).keys()


async def test_an_oidc_token_that_cannot_be_exchanged_is_no_other_identity(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("the-oidc-token")
    environ = {
        "ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/x",
        "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": "acs:ram::1:oidc-provider/x",
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE": str(tmp_path / "token"),
    }
    with pytest.raises(CloudUnavailable, match="acs:ram::1:role/x") as refused:
        await OIDCRole(environ, "127.0.0.1:9").keys()
    assert "the-oidc-token" not in str(refused.value)
    assert await OIDCRole({}).keys() is None


async def test_the_first_source_with_keys_serves(tmp_path: Path) -> None:
    write(tmp_path / "accessKeyID", "LTAI")
    write(tmp_path / "accessKeySecret", "hidden")
    places = CredentialLocations(NOWHERE, tmp_path, tmp_path / "none")
    credentials = Credentials(sources("auto", places, {}))
    assert (await credentials.get_credential_async()).access_key_id == "LTAI"
    assert credentials.redacted("LTAI said hidden") == "*** said ***"


async def test_the_role_of_the_server_comes_last_and_with_a_warning(
    account: Account, role: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with MetadataServer(account, resolve=lambda _: role).serve("127.0.0.1", 0) as metadata:
        places = CredentialLocations(metadata.url, tmp_path, tmp_path / "none")
        credentials = Credentials(sources("auto", places, {}))
        assert (await credentials.get_credential_async()).type == "sts"
        assert "which all pods with its network can have" in capsys.readouterr().out
        assert (await Credentials(sources("role", places, {})).get_credential_async()).type == "sts"
        assert "which all pods" not in capsys.readouterr().out
        write(tmp_path / "accessKeyID", "LTAI")
        write(tmp_path / "accessKeySecret", "hidden")
        assert (await Credentials(sources("auto", places, {})).get_credential_async()).access_key_id == "LTAI"


async def test_keys_of_the_environment_serve_commands_and_come_before_the_role(tmp_path: Path) -> None:
    places = CredentialLocations(NOWHERE, tmp_path, tmp_path / "none")
    environ = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "hidden"}
    credentials = Credentials(sources("auto", places, environ))
    found = await credentials.get_credential_async()
    assert (found.access_key_id, found.type) == ("LTAI", "access_key")
    assert credentials.redacted("hidden") == "***"
    session = Credentials(sources("auto", places, {**environ, "ALIBABA_CLOUD_SECURITY_TOKEN": "t"}))
    assert (await session.get_credential_async()).type == "sts"
    write(tmp_path / "accessKeyID", "LTAI-secret")
    write(tmp_path / "accessKeySecret", "hidden")
    mounted = Credentials(sources("auto", places, environ))
    assert (await mounted.get_credential_async()).access_key_id == "LTAI-secret"
    with pytest.raises(NotPermitted):
        await Credentials(
            sources("secret", CredentialLocations(NOWHERE, tmp_path / "no"), environ)
        ).get_credential_async()


async def test_no_source_has_keys(tmp_path: Path) -> None:
    credentials = Credentials(sources("auto", CredentialLocations(NOWHERE, tmp_path, tmp_path / "none"), {}))
    with pytest.raises(
        NotPermitted, match="role by OIDC token, mounted Secret, cloud-config, environment, instance role"
    ):
        await credentials.get_credential_async()


def test_a_source_that_does_not_exist_is_named() -> None:
    with pytest.raises(BadConfig, match="SPIDERPOOL_CLOUD_CREDENTIALS"):
        sources("keychain", CredentialLocations(), {})
    assert [each.name for each in sources("secret", CredentialLocations(), {})] == ["mounted Secret"]


def test_keys_end() -> None:
    assert Keys("a", "b").valid(time.time())
    assert Keys("a", "b", "c", 100.0).valid(89.0, 10.0)
    assert not Keys("a", "b", "c", 100.0).valid(90.0, 10.0)


async def test_waiters_share_one_fetch(account: Account, role: str) -> None:
    async with MetadataServer(account, resolve=lambda _: role).serve("127.0.0.1", 0) as metadata:
        credentials = Credentials([InstanceRole(metadata.url)])
        found = await asyncio.gather(*(credentials.get_credential_async() for _ in range(5)))
    assert len(set(map(id, found))) == 1
