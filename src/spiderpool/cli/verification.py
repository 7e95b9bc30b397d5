"""The answer of `cloud verify`: what an account was found to be like, and the file that keeps its answers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.cli.bundle import redaction
from spiderpool.cli.files import text_at
from spiderpool.cli.printing import Alert, View, alerts, plain, table
from spiderpool.cloud.registry import Provider
from spiderpool.cloud.verification import CloudCheck, RecordedAnswer, Verification, VerificationScope
from spiderpool.errors import BadConfig, SpiderpoolError

FORMAT = 1
"""Of the file with answers."""
METADATA_TIMEOUT = 5.0
"""Seconds for the metadata service of this machine."""
PAGE_TOKEN = "NextToken"  # noqa: S105 - it names a page, and opens nothing
PRIVATE = frozenset({"RequestId", "HostId", "OwnerId", "OwnerUid", "OwnerAccount", "AccountId", "AliUid"})
"""Keys of answers that name the account or the call, and say nothing else."""


@dataclass(frozen=True, slots=True)
class VerifiedAccount:
    """What was checked of an account."""

    checks: tuple[CloudCheck, ...]

    @property
    def is_wrong(self) -> bool:
        """Whether spiderpool-cloud would lack something."""
        return any(each.result == "wrong" for each in self.checks)

    def lines(self, view: View) -> Iterator[str]:
        """A row for each check; permissions that are as they should be in one row for each product, unless wide."""
        rows = [(each.subject, each.name, each.result, each.detail) for each in self._shown(view)]
        yield from table(("CHECK", "NAME", "RESULT", "DETAIL"), rows, view)
        wrong = [each for each in self.checks if each.result == "wrong"]
        if wrong:
            yield ""
            yield from alerts((f"{each.subject} {each.name}: {each.detail}" for each in wrong), view)
        untried = sum(each.result == "untried" for each in self.checks)
        yield ""
        closing = f"{len(self.checks)} checks, {len(wrong)} wrong, {untried} untried"
        yield Alert(closing) if wrong else closing

    def _shown(self, view: View) -> Iterator[CloudCheck]:
        folded: Counter[tuple[str, str]] = Counter()
        for each in self.checks:
            if view.wide or each.subject != "permission" or each.result == "wrong":
                yield each
            else:
                folded[each.name.partition(":")[0], each.result] += 1
        for (product, result), number in sorted(folded.items()):
            of_product = (each for each in self.checks if each.subject == "permission" and each.result == result)
            detail = next(each.detail for each in of_product if each.name.startswith(f"{product}:"))
            text = f"{number} actions" if result == "ok" else f"{number} actions: {detail}"
            yield CloudCheck("permissions", product, "ok" if result == "ok" else "untried", text)

    def document(self) -> Any:
        """All checks."""
        return {"checks": plain(self.checks)}

    def names(self) -> Iterable[str]:
        """Nothing: these are no objects of a cluster."""
        return ()


async def metadata_check(provider: Provider, endpoint: str | None) -> CloudCheck:
    """Whether this machine is a server of the cloud that can read its own description."""
    try:
        async with provider.metadata(endpoint, None) as source, asyncio.timeout(METADATA_TIMEOUT):
            found = await source.read()
    except (SpiderpoolError, TimeoutError, OSError):
        text = "this machine has none that answers; agents on the nodes read it, and `spiderpoolctl status` says how"
        return CloudCheck("metadata", str(provider.metadata_address), "untried", text)
    text = f"this machine is {found.identity} in {found.zone}, with {len(found.enis)} ENIs"
    return CloudCheck("metadata", str(provider.metadata_address), "ok", text)


def save(found: Verification, path: Path) -> None:
    """Writes the answers of an account to a file, without credentials and without the account's number."""
    document = {
        "format": FORMAT,
        "scope": plain(found.scope),
        "answers": [plain(without_secrets(each)) for each in found.answers],
    }
    path.write_text(f"{json.dumps(document, indent=1, ensure_ascii=True)}\n")


def load(path: Path) -> tuple[VerificationScope, tuple[RecordedAnswer, ...]]:
    """Reads what `save` has written. Raises BadConfig."""
    try:
        document = json.loads(text_at(path))
        if document["format"] != FORMAT:
            raise BadConfig(f"{path} has format {document['format']}: record it anew with this version")
        scope = msgspec.convert(document["scope"], VerificationScope)
        return scope, tuple(msgspec.convert(document["answers"], list[RecordedAnswer]))
    except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise BadConfig(f"{path} is no file of `cloud verify --record`: {error}") from error


def without_secrets(recorded: RecordedAnswer) -> RecordedAnswer:
    """Returns an answer without credentials and without the account's number."""
    return replace(
        recorded,
        parameters=_redacted(recorded.parameters),
        answer=None if recorded.answer is None else _redacted(recorded.answer),
        message=redaction.text(recorded.message),
    )


def _redacted(found: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a call or an answer; the token of a page is none that opens anything."""
    kept = {key: each for key, each in found.items() if key != PAGE_TOKEN}
    pages = {PAGE_TOKEN: found[PAGE_TOKEN]} if PAGE_TOKEN in found else {}
    redacted: dict[str, Any] = redaction.value(_anonymous(kept))
    return {**redacted, **pages}


def _anonymous(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {key: _anonymous(each) for key, each in found.items() if key not in PRIVATE}
    return [_anonymous(each) for each in found] if isinstance(found, list) else found
