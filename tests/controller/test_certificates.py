"""Creation and rotation of the webhook certificates at given times."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prometheus_client import REGISTRY

from spiderpool.api.core_v1 import Secret
from spiderpool.api.meta import ObjectMeta
from spiderpool.controller.certificates import (
    STORE,
    CertificateBundle,
    CertificateLifetimes,
    Certificates,
    erase,
    load_chain,
    parse,
    renewed,
)
from spiderpool.controller.installation import AGAIN
from tests.support.api_server import ApiServer, Fault
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

HOSTS = ["spiderpool-controller.kube-system.svc", "127.0.0.1"]
START = datetime(2026, 1, 1, tzinfo=UTC)
LIFETIMES = CertificateLifetimes(authority=timedelta(days=90), leaf=timedelta(days=30))
MINUTE = timedelta(minutes=1)


def at(days: float) -> datetime:
    return START + timedelta(days=days)


@pytest.fixture(scope="module")
def first() -> CertificateBundle:
    return renewed(None, HOSTS, START, LIFETIMES)


def issuers(bundle: CertificateBundle) -> list[int]:
    """Which of the authorities have signed the server certificate."""
    names = [authority.subject for authority in bundle.authorities]
    return [index for index, name in enumerate(names) if name == bundle.leaf.issuer]


def trusts(client: CertificateBundle, server: CertificateBundle, now: datetime) -> bool:
    """Whether a client that knows the authorities of one bundle trusts a server that serves with another."""
    signers = [authority for authority in client.authorities if authority.subject == server.leaf.issuer]
    for signer in signers:
        server.leaf.verify_directly_issued_by(signer)
    return bool(signers) and all(each.not_valid_after_utc > now for each in (*signers, server.leaf))


async def serial_of(context: ssl.SSLContext, trusted: bytes, host: str) -> int:
    """Serial number of the certificate that a client gets which trusts ``trusted``. Raises SSLError."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = ssl.create_default_context(cadata=trusted.decode())
        client.verify_flags |= ssl.VERIFY_X509_STRICT  # RFC 5280 to the letter, the default of Python 3.13
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
        peer: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(peer).serial_number


class TestRenewal:
    def test_a_new_certificate_is_for_all_names_and_stays_until_it_is_due(self, first: CertificateBundle) -> None:
        assert first.names == set(HOSTS)
        assert first.leaf.not_valid_after_utc == at(30)
        assert first.newest.not_valid_after_utc == at(90)
        assert parse(first.data()) == first
        for days in (0.0, 1.0, 19.99):
            assert renewed(first, HOSTS, at(days), LIFETIMES) is first

    def test_a_leaf_is_replaced_after_two_thirds_of_its_life(self, first: CertificateBundle) -> None:
        second = renewed(first, HOSTS, at(20), LIFETIMES)
        assert second.leaf != first.leaf
        assert second.leaf_key != first.leaf_key
        assert second.authorities == first.authorities
        assert second.leaf.not_valid_after_utc == at(50)

    def test_a_leaf_never_outlives_its_authority(self, first: CertificateBundle) -> None:
        lifetimes = CertificateLifetimes(authority=timedelta(days=90), leaf=timedelta(days=300))
        assert renewed(first, ["x"], at(1), lifetimes).leaf.not_valid_after_utc == at(90)

    def test_a_new_name_is_added_to_those_of_other_replicas(self, first: CertificateBundle) -> None:
        wider = renewed(first, ["another"], at(1), LIFETIMES)
        assert wider.names == {*HOSTS, "another"}
        assert renewed(wider, HOSTS, at(1), LIFETIMES) is wider

    def test_an_authority_is_replaced_in_three_steps(self, first: CertificateBundle) -> None:
        current = renewed(first, HOSTS, at(58), LIFETIMES)  # a leaf that is not due itself
        both = renewed(current, HOSTS, at(60), LIFETIMES)
        assert (len(both.authorities), issuers(both)) == (2, [0])
        assert both.leaf == current.leaf
        assert renewed(both, HOSTS, at(60) + MINUTE, LIFETIMES) is both

        signed = renewed(both, HOSTS, at(60) + LIFETIMES.overlap, LIFETIMES)
        assert (len(signed.authorities), issuers(signed)) == (2, [1])
        assert renewed(signed, HOSTS, at(60) + LIFETIMES.overlap + MINUTE, LIFETIMES) is signed

        alone = renewed(signed, HOSTS, at(60) + 2 * LIFETIMES.overlap, LIFETIMES)
        assert alone.authorities == (both.newest,)
        assert alone.leaf == signed.leaf
        assert alone.newest.not_valid_after_utc == at(150)
        assert renewed(alone, HOSTS, at(61), LIFETIMES) is alone

    def test_each_leaf_is_trusted_by_the_authorities_before_and_after_the_step(self) -> None:
        lifetimes = CertificateLifetimes(timedelta(days=9), timedelta(days=6))
        now, current, steps = START, renewed(None, HOSTS, START, lifetimes), 0
        while now < at(30):
            after = renewed(current, HOSTS, now, lifetimes)
            assert trusts(current, after, now)
            assert trusts(after, current, now)
            steps += after is not current
            current, now = after, now + timedelta(minutes=10)
        assert steps >= 15

    def test_an_expired_bundle_is_replaced(self, first: CertificateBundle) -> None:
        late = renewed(first, HOSTS, at(91), LIFETIMES)
        assert late.authorities != first.authorities
        assert len(late.authorities) == 1
        assert issuers(late) == [0]

    def test_certificates_are_valid_for_clocks_that_are_behind(self, first: CertificateBundle) -> None:
        assert first.leaf.not_valid_before_utc == START - timedelta(hours=1)
        assert first.newest.not_valid_before_utc == START - timedelta(hours=1)


class TestDamagedSecrets:
    @pytest.fixture
    def other(self) -> CertificateBundle:
        return renewed(None, HOSTS, START, LIFETIMES)

    @pytest.mark.parametrize("field", ["ca.crt", "ca.key", "tls.crt", "tls.key"])
    def test_a_missing_damaged_or_foreign_part_makes_no_bundle(
        self, first: CertificateBundle, other: CertificateBundle, field: str
    ) -> None:
        data = first.data()
        assert parse({key: value for key, value in data.items() if key != field}) is None
        for wrong in (b"", b"garbage", data[field][:-40], other.data()[field]):
            assert parse({**data, field: wrong}) is None
        assert parse(None) is None

    def test_a_key_that_does_not_fit_makes_no_bundle(self, first: CertificateBundle) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        assert parse({**first.data(), "tls.key": encrypted}) is None


async def test_a_live_context_serves_new_connections_with_the_new_certificate() -> None:
    now = datetime.now(UTC)
    first = renewed(None, HOSTS, now, LIFETIMES)
    second = renewed(first, ["another"], now, LIFETIMES)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_chain(context, first.chain)
    assert await serial_of(context, first.trusted, "127.0.0.1") == first.leaf.serial_number
    load_chain(context, second.chain)
    assert await serial_of(context, first.trusted, "127.0.0.1") == second.leaf.serial_number


def expires_in_days(certificate: str) -> float:
    """Days until the exported time at which a certificate expires."""
    name = "spiderpool_certificate_expiry_timestamp_seconds"
    expiry = REGISTRY.get_sample_value(name, {"certificate": certificate}) or 0.0
    return (expiry - datetime.now(UTC).timestamp()) / 86_400


class TestSecret:
    KEY = f"kube-system/{STORE}"

    def secret(self, **data: bytes) -> Secret:
        metadata = ObjectMeta(name=STORE, namespace="kube-system", labels={"of": "the chart"})
        return Secret(metadata=metadata, data=data or None, type="Opaque")

    async def test_it_is_filled_not_made_and_kept_when_it_comes_back(self) -> None:
        async with ApiServer(Secret.KIND) as server, server.client() as client:
            certificates = Certificates(client, "kube-system", HOSTS)
            task = asyncio.create_task(certificates.run())
            told = f"Secret {self.KEY} does not exist: {AGAIN}"
            await eventually(lambda: certificates.problem == told)
            server.put(self.secret(other=b"x"))
            await eventually(lambda: certificates.trusted)
            assert certificates.problem is None
            year, decade = expires_in_days("serving"), expires_in_days("authority")
            assert (round(year), round(decade)) == (365, 3650)
            first = server.stored(Secret)[self.KEY]
            assert set(first.data or {}) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
            assert first.metadata.labels == {"of": "the chart"}

            server.remove(first)
            await eventually(lambda: certificates.problem == told)
            assert certificates.trusted, "it serves with what it has"
            server.put(self.secret())
            await eventually(lambda: server.stored(Secret)[self.KEY].data == first.data)
            assert (server.requests["create"], server.requests["delete"]) == (0, 0)
            task.cancel()
            await asyncio.wait([task])

    async def test_of_two_replicas_one_fills_it_and_the_other_loads_that(self) -> None:
        async with ApiServer(Secret.KIND) as server, server.client() as client:
            server.put(self.secret())
            server.hold_watches()
            both = [Certificates(client, "kube-system", HOSTS) for _ in range(2)]
            tasks = [asyncio.create_task(each.run()) for each in both]
            await eventually(lambda: server.requests["patch"] == 2)
            server.release_watches()
            await eventually(lambda: both[0].trusted and both[0].trusted == both[1].trusted)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def test_one_that_cannot_be_written_is_told(self) -> None:
        async with ApiServer(Secret.KIND) as server, server.client() as client:
            server.put(self.secret())
            server.inject(Fault("patch", status=422))
            certificates = Certificates(client, "kube-system", HOSTS)
            task = asyncio.create_task(certificates.run())
            told = f"Secret {self.KEY} cannot be used: delete it and {AGAIN}"
            await eventually(lambda: (certificates.problem or "").startswith(told))
            server.remove(self.secret())
            server.put(self.secret())
            await eventually(lambda: certificates.trusted)
            task.cancel()
            await asyncio.wait([task])

    async def test_its_keys_are_erased_and_it_stays(self) -> None:
        async with ApiServer(Secret.KIND) as server, server.client() as client:
            await erase(client, "kube-system")
            server.put(self.secret(**{"tls.key": b"x"}))
            await erase(client, "kube-system")
            assert not server.stored(Secret)[self.KEY].data

    async def test_one_that_cannot_be_emptied_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with ApiServer(Secret.KIND) as server, server.client() as client:
            server.put(self.secret(**{"tls.key": b"x"}))
            server.inject(Fault("patch", status=422))
            await erase(client, "kube-system")
        assert "keys stay until the Secret is deleted" in capsys.readouterr().out
