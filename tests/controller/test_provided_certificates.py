"""Certificates of the webhooks that somebody else makes: what is loaded, what is refused, and how a change is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spiderpool.controller.provided_certificates import ProvidedCertificates
from spiderpool_lab.certificates import Authority, KeyPair
from tests.support.eventually import eventually

pytestmark = pytest.mark.unit

HOSTS = ["spiderpool-controller.kube-system.svc", "spiderpool-controller.kube-system.svc.cluster.local"]
CHECK = 0.02
"""Seconds between two looks at the files."""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("theirs")


def write(folder: Path, authority: Authority, pair: KeyPair) -> None:
    for name, content in {
        "ca.crt": authority.pair.certificate,
        "tls.crt": pair.certificate,
        "tls.key": pair.key,
    }.items():
        (folder / name).write_bytes(content)


@asynccontextmanager
async def running(certificates: ProvidedCertificates) -> AsyncIterator[ProvidedCertificates]:
    task = asyncio.create_task(certificates.run())
    try:
        yield certificates
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_what_the_folder_has_is_loaded_and_so_is_what_replaces_it(tmp_path: Path, authority: Authority) -> None:
    write(tmp_path, authority, authority.server(HOSTS))
    told: list[bytes | None] = []
    async with running(ProvidedCertificates(tmp_path, HOSTS, check=CHECK)) as certificates:
        certificates.subscribe(lambda: told.append(certificates.trusted))
        await eventually(lambda: certificates.trusted == authority.pair.certificate)
        other = Authority.create("next")
        write(tmp_path, other, other.server(HOSTS))
        await eventually(lambda: certificates.trusted == other.pair.certificate)
        assert told == [authority.pair.certificate, other.pair.certificate]
        assert certificates.problem is None


async def test_what_cannot_be_used_leaves_the_one_before(tmp_path: Path, authority: Authority) -> None:
    write(tmp_path, authority, authority.server(HOSTS))
    async with running(ProvidedCertificates(tmp_path, HOSTS, check=CHECK)) as certificates:
        await eventually(lambda: certificates.trusted)
        (tmp_path / "tls.key").write_bytes(authority.server(HOSTS).key)
        await eventually(lambda: certificates.problem)
        assert certificates.problem == "tls.key is not the key of tls.crt"
        assert certificates.trusted == authority.pair.certificate


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder, _: (folder / "tls.crt").unlink(), "must have ca.crt, tls.crt and tls.key"),
        (lambda folder, _: (folder / "ca.crt").write_bytes(b"x"), "ca.crt has no certificate in PEM"),
        (lambda folder, _: (folder / "tls.key").write_bytes(b"x"), "tls.key is no key in PEM"),
        (
            lambda folder, _: (folder / "ca.crt").write_bytes(Authority.create("other").pair.certificate),
            "tls.crt was signed by none of ca.crt",
        ),
        (
            lambda folder, authority: write(folder, authority, authority.server(HOSTS[:1])),
            f"tls.crt lacks the names {HOSTS[1]}, by which the API server calls the webhooks",
        ),
    ],
)
async def test_a_fault_is_said_with_its_file(tmp_path: Path, authority: Authority, spoil: object, words: str) -> None:
    write(tmp_path, authority, authority.server(HOSTS))
    assert callable(spoil)
    spoil(tmp_path, authority)
    async with running(ProvidedCertificates(tmp_path, HOSTS, check=CHECK)) as certificates:
        await eventually(lambda: certificates.problem)
        assert words in (certificates.problem or "")
        assert certificates.trusted is None


async def test_an_expired_one_is_refused(tmp_path: Path, authority: Authority) -> None:
    write(tmp_path, authority, authority.server(HOSTS))
    late = datetime.now(UTC) + timedelta(days=10_000)
    async with running(ProvidedCertificates(tmp_path, HOSTS, lambda: late, CHECK)) as certificates:
        await eventually(lambda: certificates.problem)
        assert "only, and it is" in (certificates.problem or "")
