"""One HTTP request as a call of the OpenAPI: read, and its signature checked, in either of the two styles."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from spiderpool_lab.alibaba import signature
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.identities import CallerIdentity, recognise
from spiderpool_lab.alibaba.refusals import Refusal, missing

SKEW = 15 * 60.0
"""Seconds by which a caller's clock may be off."""

_SIGNED_ALWAYS = (
    "host",
    "x-acs-action",
    "x-acs-version",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-content-sha256",
)
_RPC_OWN = frozenset(
    {
        "AccessKeyId",
        "Action",
        "Format",
        "SecurityToken",
        "Signature",
        "SignatureMethod",
        "SignatureNonce",
        "SignatureType",
        "SignatureVersion",
        "Timestamp",
        "Version",
    }
)


@dataclass(frozen=True, slots=True)
class Request:
    """What came over the wire; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        """The parameters in the body."""
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return {}
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Signed:
    """A call: what it names, what it sends, and how its caller proves who it is."""

    action: str
    version: str
    parameters: dict[str, str]
    key: str
    token: str
    nonce: str
    date: str
    text: str
    signature: str
    newer: bool

    def expected(self, secret: str) -> str:
        """The signature that the right secret gives."""
        make = signature.acs3_signature if self.newer else signature.rpc_signature
        return make(secret, self.text)


def read(request: Request) -> Signed:
    """The call that a request is. Raises Refusal if it is signed in neither style."""
    return _read_acs3(request) if "x-acs-action" in request.headers else _read_rpc(request)


def _read_acs3(request: Request) -> Signed:
    headers = request.headers
    authorization = signature.read_authorization(headers.get("authorization", ""))
    if authorization is None:
        raise Refusal("IncompleteSignature", "The request signature does not conform to Aliyun standards.")
    if absent := [name for name in _must_be_signed(headers) if name not in authorization.signed]:
        raise Refusal("IncompleteSignature", f"These headers must be signed: {', '.join(absent)}.")
    payload = signature.payload_hash(request.body)
    if headers.get("x-acs-content-sha256") != payload:
        raise Refusal("InvalidParameter.ContentSha256", "The x-acs-content-sha256 is not that of the body.")
    text = signature.acs3_text(request.method, request.path, request.query, headers, authorization.signed, payload)
    return Signed(
        headers["x-acs-action"],
        headers.get("x-acs-version", ""),
        {**request.query, **request.form},
        authorization.key,
        headers.get("x-acs-security-token", ""),
        headers.get("x-acs-signature-nonce", ""),
        headers.get("x-acs-date", ""),
        text,
        authorization.signature,
        newer=True,
    )


def _must_be_signed(headers: Mapping[str, str]) -> list[str]:
    return [*_SIGNED_ALWAYS, *(["x-acs-security-token"] if "x-acs-security-token" in headers else [])]


def _read_rpc(request: Request) -> Signed:
    sent = {**request.query, **request.form}
    for name in ("Action", "Version", "AccessKeyId", "Timestamp", "SignatureNonce", "Signature"):
        if not sent.get(name):
            raise missing(name)
    if (sent.get("SignatureMethod"), sent.get("SignatureVersion")) != ("HMAC-SHA1", "1.0"):
        raise Refusal("IncompleteSignature", "SignatureMethod must be HMAC-SHA1 and SignatureVersion 1.0.")
    return Signed(
        sent["Action"],
        sent["Version"],
        {name: value for name, value in sent.items() if name not in _RPC_OWN},
        sent["AccessKeyId"],
        sent.get("SecurityToken", ""),
        sent["SignatureNonce"],
        sent["Timestamp"],
        signature.rpc_text(request.method, sent),
        sent["Signature"],
        newer=False,
    )


class Gate:
    """Lets in calls that are signed rightly, lately, and once."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._nonces: dict[str, float] = {}

    def admit(self, signed: Signed) -> CallerIdentity:
        """The identity that made a call."""
        now = self.account.clock()
        self._check_date(signed.date, now)
        identity = recognise(self.account.identities, signed.key, signed.token, now)
        if not signature.equal(signed.signature, signed.expected(identity.secret)):
            raise Refusal(
                "SignatureDoesNotMatch",
                f"Specified signature is not matched with our calculation. server string to sign is:{signed.text}",
            )
        self._use_nonce(signed.nonce, now)
        return identity

    def _check_date(self, text: str, now: float) -> None:
        try:
            date = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
        except ValueError:
            raise Refusal(
                "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted."
            ) from None
        if abs(date.timestamp() - now) > SKEW:
            raise Refusal("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")

    def _use_nonce(self, nonce: str, now: float) -> None:
        if not nonce:
            raise missing("SignatureNonce")
        self._nonces = {used: at for used, at in self._nonces.items() if now - at <= 2 * SKEW}
        if nonce in self._nonces:
            raise Refusal("SignatureNonceUsed", "Specified signature nonce was used already.")
        self._nonces[nonce] = now
