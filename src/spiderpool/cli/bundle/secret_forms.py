"""Takes out of texts what is a credential by its form alone, whatever stands before it: keys, tokens, users of URLs."""

from __future__ import annotations

import base64
import re

REDACTED = "REDACTED"
_END = r"-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?({_END}|\Z)", re.DOTALL), REDACTED),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), REDACTED),  # a JSON Web Token
    (re.compile(r"\b(LTAI|STS\.)[A-Za-z0-9]{10,}"), REDACTED),  # an access key of Alibaba Cloud
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {REDACTED}"),
)
_URL = re.compile(r"""://((?:(?!://)[^\s"'<>])+)""")
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:@]*)(?::\d{0,5})?")
"""Host and port of a URL, without a user."""
_BASE64_PEM = re.compile(r"LS0tLS1CRUdJTi[\w+/=-]*(?:(?:\\n|\s)+[\w+/=-]{40,})*")
"""What begins with `-----BEGIN `, perhaps in several lines."""
_NO_BASE64 = re.compile(r"\\n|[^\w+/-]")
_KEY_LINE = re.compile(r"\s*[A-Za-z0-9+/=]+\s*")
_KEY_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\"


def without_known_forms(value: str) -> str:
    """A text without them."""
    for form, instead in _FORMS:
        value = form.sub(instead, value)
    value = _URL.sub(_without_user, value)
    value = _BASE64_PEM.sub(_without_key, value)
    return _without_rest_of_key(value) if "PRIVATE KEY" in value else value


def _without_user(found: re.Match[str]) -> str:
    """A URL without user and password. These may hold a / or @ against the rules: then they end with the last @."""
    rest = found[1]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if _HOST.fullmatch(authority):
        return found[0]
    end = rest.rfind("@") if ":" in authority.partition("@")[0] else authority.rfind("@")
    return found[0] if end < 0 else f"://{REDACTED}{rest[end:]}"


def _without_key(found: re.Match[str]) -> str:
    """A PEM in base64, unless there is a private key in it."""
    digits = _NO_BASE64.sub("", found[0])
    decoded = base64.b64decode(digits[: len(digits) // 4 * 4], altchars=b"-_" if {*digits} & {*"-_"} else None)
    return REDACTED if b"PRIVATE KEY" in decoded else found[0]


def _without_rest_of_key(value: str) -> str:
    """A text without the rest of a key whose beginning is not in it."""
    kept: list[str] = []
    for line in value.splitlines(keepends=True):
        found = re.search(_END, line)
        if found is None:
            kept.append(line)
            continue
        before = line[: found.start()].rstrip(_KEY_CHARACTERS)
        if not before.strip():
            while kept and _KEY_LINE.fullmatch(kept[-1]):
                kept.pop()
        kept.append(f"{before}{REDACTED}{line[found.end() :]}")
    return "".join(kept)
