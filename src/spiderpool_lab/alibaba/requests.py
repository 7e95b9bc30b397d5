"""Reads an HTTP request as a signed API call in either signature scheme, and authenticates its caller."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from spiderpool_lab.alibaba import signature
from spiderpool_lab.alibaba.account import Account
from spiderpool_lab.alibaba.identities import CallerIdentity, find_identity
from spiderpool_lab.alibaba.refusals import Refusal, missing
from spiderpool_lab.alibaba.signature import HTTPRequest

SKEW = 15 * 60.0
"""Seconds by which the clock of a caller may differ, as on the real API."""

_ALWAYS_SIGNED = (
    "host",
    "x-acs-action",
    "x-acs-version",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-content-sha256",
)
_RPC_PROTOCOL_PARAMETERS = frozenset(
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
class SignedCall:
    """A signed call. ``text`` is what the caller must have signed; ``is_acs3`` tells which scheme signed it."""

    action: str
    version: str
    parameters: dict[str, str]
    key: str
    token: str
    nonce: str
    date: str
    text: str
    signature: str
    is_acs3: bool

    def expected(self, secret: str) -> str:
        """The signature that a caller with this secret sends."""
        make = signature.acs3_signature if self.is_acs3 else signature.rpc_signature
        return make(secret, self.text)


def read(request: HTTPRequest) -> SignedCall:
    """Parse a request. Raises Refusal if parts of its signature are missing or malformed."""
    return _read_acs3(request) if "x-acs-action" in request.headers else _read_rpc(request)


def _read_acs3(request: HTTPRequest) -> SignedCall:
    headers = request.headers
    authorization = signature.read_authorization(headers.get("authorization", ""))
    if authorization is None:
        raise Refusal("IncompleteSignature", "The request signature does not conform to Aliyun standards.")
    if unsigned := [name for name in _must_be_signed(headers) if name not in authorization.signed]:
        raise Refusal("IncompleteSignature", f"These headers must be signed: {', '.join(unsigned)}.")
    if headers.get("x-acs-content-sha256") != request.payload_hash:
        raise Refusal("InvalidParameter.ContentSha256", "The x-acs-content-sha256 is not that of the body.")
    return SignedCall(
        headers["x-acs-action"],
        headers.get("x-acs-version", ""),
        {**request.query, **request.form},
        authorization.key,
        headers.get("x-acs-security-token", ""),
        headers.get("x-acs-signature-nonce", ""),
        headers.get("x-acs-date", ""),
        signature.acs3_text(request, authorization.signed),
        authorization.signature,
        is_acs3=True,
    )


def _must_be_signed(headers: Mapping[str, str]) -> list[str]:
    return [*_ALWAYS_SIGNED, *(["x-acs-security-token"] if "x-acs-security-token" in headers else [])]


def _read_rpc(request: HTTPRequest) -> SignedCall:
    sent = {**request.query, **request.form}
    for name in ("Action", "Version", "AccessKeyId", "Timestamp", "SignatureNonce", "Signature"):
        if not sent.get(name):
            raise missing(name)
    if (sent.get("SignatureMethod"), sent.get("SignatureVersion")) != ("HMAC-SHA1", "1.0"):
        raise Refusal("IncompleteSignature", "SignatureMethod must be HMAC-SHA1 and SignatureVersion 1.0.")
    return SignedCall(
        sent["Action"],
        sent["Version"],
        {name: value for name, value in sent.items() if name not in _RPC_PROTOCOL_PARAMETERS},
        sent["AccessKeyId"],
        sent.get("SecurityToken", ""),
        sent["SignatureNonce"],
        sent["Timestamp"],
        signature.rpc_text(request.method, sent),
        sent["Signature"],
        is_acs3=False,
    )


class Authenticator:
    """Authenticates calls: the signature must be right and recent, and its nonce must be new."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._nonces: dict[str, float] = {}  # nonce → time of its use; dropped after twice the allowed clock skew

    def authenticate(self, signed: SignedCall) -> CallerIdentity:
        """The identity that signed a call. Raises Refusal if the call is not authentic, expired or repeated."""
        now = self.account.clock()
        self._check_date(signed.date, now)
        identity = find_identity(self.account.identities, signed.key, signed.token, now)
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
