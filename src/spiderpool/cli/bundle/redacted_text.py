"""Takes credentials out of texts: logs, settings in YAML, JSON, INI, command lines and what errors say.

The time is linear in the length of the text: what a form has looked at once, it does not look at again.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

REDACTED = "REDACTED"
_NAMES = "|".join(
    (
        *("passwo?r?d", "passphrase", "token", "secret", "credential", "signature", "authorization"),
        *("access[ _.-]?key", "api[ _.-]?key", "private[ _.-]?key", "session[_.-]?key", "cookie"),
        *("(?:tls|ssl|ssh|client|server|encryption|signing)[_.-]?key",),
    )
)
"""Parts of keys that name a credential, also in sentences."""
_WORDS = "|".join(
    (
        _NAMES,
        *(r"\.key(?![\w.-])", r"key\.pem", "dockerc"),
        *("pwd", r"id_(?:rsa|dsa|ecdsa|ed25519)", r"(?<![a-z])(?:pass|auth)(?![a-z])"),
        r"(?-i:(?<=[a-z])(?:Pass|Auth)(?![a-z]))",
    )
)
"""The same, and short words that mean something else in sentences."""
_SECRET_KEY = re.compile(rf"(?i)({_WORDS})")
_NO_SECRET = re.compile(
    r"(?i)(names?|refs?|namespace|path|file|folder|seconds|method|mode|types?|kind|audiences?|enabled|optional)$"
)
"""Ends of keys that say where a secret is, or how it is made, and not what it is."""
_HINTS = ("pass", "pwd", "auth", "token", "secret", "credential", "signature", "key", "docker", "id_", "cookie")
"""A line without one of these, in any case, has no key that names a credential; to look for them takes no time."""


def is_secret(key: str) -> bool:
    """Whether a key names a credential."""
    return bool(_SECRET_KEY.search(key)) and not says_where(key)


def says_where(key: str) -> bool:
    """Whether a key says where a credential is, or how it is made."""
    return bool(_NO_SECRET.search(key))


def text(value: str) -> str:
    """A text without what looks like a credential in it."""
    for form, instead in _FORMS:
        value = form.sub(instead, value)
    value = _URL.sub(_without_user, value)
    value = _BASE64_PEM.sub(_without_key, value)
    if "PRIVATE KEY" in value:
        value = _without_rest_of_key(value)
    if not has_hint(value):
        return value
    value = _XML.sub(_without_content, value)
    for form in (_VARIABLE, _OPTION):
        value = _without_values(value, form)
    return "".join(_lines(value.splitlines(keepends=True)))


def has_hint(value: str) -> bool:
    """Whether a text may have a key that names a credential."""
    lowered = value.lower()
    return any(hint in lowered for hint in _HINTS)


# --- by their form

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


# --- by their keys: lines of YAML and of JSON, with what is below them

_KEY = rf"(?<![\w.-])([\w.-]{{0,200}}(?:{_WORDS})[\w.-]{{0,200}})(?![\w.-])"
_OPENING = re.compile(rf"""(?i)([ \t]*(?:-[ \t]+)*)(["']?){_KEY}\2[ \t]*:(?:[ \t]+|$)(.*)""")
"""A line that begins with a key that names a credential, and its value."""
_LEAF = re.compile(r"""([ \t]*(?:-[ \t]+)*["']?([\w./-]{1,400})["']?[ \t]*:)(?:[ \t]+|$)(.*)""")
_TAIL = re.compile(
    rf"""(?i)(?<![\w.-])([\w.-]{{0,200}}(?:{_WORDS})[\w.-]{{0,200}})["']?[ \t]*:[ \t]*((?:[|>][+\d-]{{0,2}}[ \t]*)?)$"""
)
"""The end of a line, after what a log says first: a key that names a credential, whose value goes on below."""
_STRUCTURE = re.compile(r"[&!]\S*|[{\[]|")
"""A value that goes on below its key, line by line."""
_HARMLESS = re.compile(r"(?:true|false|null|~)?,?[ \t]*")
_BRACKETS = re.compile(r"[\s{}\[\],]*")


@dataclass(frozen=True, slots=True)
class _Value:
    """A value that goes on in the lines below its key, further to the right."""

    indentation: int
    is_structure: bool
    """Whether it has lines that stay, since they say where a credential is."""

    def has(self, line: str) -> bool:
        """Whether a line belongs to it; items of a list may stand right below the key."""
        own = _indentation(line)
        is_item = self.is_structure and own == self.indentation and line.lstrip(" \t").startswith("- ")
        return not line.strip() or own > self.indentation or is_item


def _lines(lines: Iterable[str]) -> Iterator[str]:
    """Lines without credentials, and without the rest of values that go on in several."""
    value: _Value | None = None
    for whole in lines:
        line = whole.rstrip("\r\n")
        end = whole[len(line) :]
        if value is None or not value.has(line):
            line, value = _opened(line)
            yield line + end
        elif value.is_structure or not line.strip():
            yield _leaf(line) + end


def _opened(line: str) -> tuple[str, _Value | None]:
    """A line without credentials, and the value that goes on after it."""
    found = _OPENING.fullmatch(line) if has_hint(line) else None
    if found is None:
        return _opened_within(line)
    if says_where(found[3]) or (found[4] and _HARMLESS.fullmatch(found[4])):
        return _of_line(line), None
    rest = found[4].strip()
    value = _Value(_indentation(line), bool(_STRUCTURE.fullmatch(rest)))
    if value.is_structure:
        return line, value
    if rest[0] in "\"'{[":
        return _of_line(line), None if _closing(line, found.start(4)) else value
    return line[: found.start(4)] + REDACTED, value


def _opened_within(line: str) -> tuple[str, _Value | None]:
    """The same where the key is not the first of the line."""
    found = _TAIL.search(line) if line.rstrip(" \t")[-1:] in (*":|>+-", *"0123456789") and has_hint(line) else None
    if found and not says_where(found[1]):
        value = _Value(_indentation(line), is_structure=not found[2])
        return line[: found.start(2)] + (REDACTED if found[2] else ""), value
    return _of_line(line), _Value(_indentation(line), is_structure=False) if _goes_on(line) else None


def _goes_on(line: str) -> bool:
    """Whether the value of the last key that names a credential may go on: open quotes, or words to the line's end."""
    pairs = deque(_PAIR.finditer(line), maxlen=1) if has_hint(line) else ()
    for last in pairs:
        if says_where(last[1]):
            return False
        if _QUOTE.match(line, last.end()):
            return _closing(line, last.end()) is None
        return bool(_COLON.search(last[0])) and _value_end(line, last.end(), _PHRASE) == len(line)
    return False


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _leaf(line: str) -> str:
    """A line of a structure that holds credentials: of its value only what says where one is."""
    if _BRACKETS.fullmatch(line):
        return line
    found = _LEAF.fullmatch(line)
    if found is None:
        return line[: len(line) - len(line.lstrip(" \t-"))] + REDACTED
    rest = found[3].strip()
    if says_where(found[2]) or _STRUCTURE.fullmatch(rest) or _HARMLESS.fullmatch(rest):
        return _of_line(line)
    return f"{found[1]} {REDACTED}"


# --- by their keys: anywhere in a line

_SIGN = r"(?:[+?:=]?=>?|->|:|%3[AD](?:%20|\+)?|\\+u003[ad])"
_PAIR = re.compile(
    rf"""(?i){_KEY}\\*["']?\s*{_SIGN}(?:\s|\\+[nrt])*(?:b(?=["']))?(?!(?:true|false|null)(?![^\s,;&}}\]"']))(?=\S)"""
)
"""A key in YAML, JSON, INI, a query or a command line, up to its value."""
_NEXT_WORD = r"[ \t]+(?:\\\r?\n\s*)?"
_NEXT_OF_LIST = r"""\\*["'],\s*"""
_NEXT_ITEM = r"""["']?[ \t]*\r?\n[ \t]*-[ \t]+"""
_OPTION = re.compile(
    rf"""(?i)(?:(?=-)|(?<=\(["'])|(?<=\(b["']))"""
    rf"""{_KEY}(?:{_NEXT_WORD}|{_NEXT_OF_LIST}|{_NEXT_ITEM})(?:b(?=["']))?(?!\\*["']?-(?:-|[a-z]\b))(?![:=+?]*=?>?\s)(?=\S)"""
)
"""An option of a command line, or a header in a tuple, up to its value: the next word, or item of a list."""
_XML = re.compile(rf"(?i)<([\w.:-]{{0,200}}(?:{_WORDS})[\w.-]{{0,200}})>([^<]+)")
_VARIABLE = re.compile(
    rf"""(?i)(?<![\w.-])name\\*["']?\s*[:=]\s*\\*["']?{_KEY}\\*["']?[,\s]+\\*["']?value\\*["']?\s*[:=]\s*(?=\S)"""
)
"""A variable of a container, up to its value."""
_SAID = re.compile(
    rf"""(?i)((?<![\w.-])([\w.-]{{0,200}}(?:{_NAMES})[\w.-]{{0,200}})(?![\w.-])(?:[ ]+[\w.,/-]+){{0,6}}[ ]+)"""
    r"""('[^']*'|"[^"]*"|`[^`]*`)"""
)
"""A key, some words, and a text in quotes, as errors say it."""
_COLON = re.compile(r":(?:\s|\\+[nrt])+$")
_QUOTE = re.compile(r"""(\\*)(["'])""")
_SINGLE_QUOTED = re.compile(r"'(?:[^']|'')*'")
_TOKEN = re.compile(r'\\*"|\\+|[{}\[\]]')
_AFTER_QUOTED_KEY = re.compile(r"""[^\s,;&}\]"']+(?:[ \t]+[^\s,;&}\]"']+)*""")
_BARE = re.compile(r"""(?:[^\s&"']|&(?![\w.-]+=)|["'](?![\s,;:)}\]]|$))+""")
"""A value without quotes; a & ends it in a query, a quote that in which all stands."""
_PHRASE = re.compile(
    r"""(?:=\\*(["'])(?:(?!\1)[^\n])*\1|[^"'\\\n]|\\++[nr](?=[ \t\\])|\\++(?![\\nr"'])|\\*+["'](?![\s,;:)}\]\\]|$))++"""
)
"""Words after a colon, as of a header or of YAML: they end with that in which all stands, or with the line."""
_PUNCTUATION = ",;)}]\\"
"""What ends a value rather than belongs to it."""


def _of_line(line: str) -> str:
    if not has_hint(line):
        return line
    line = _SAID.sub(_said, line)
    return _without_values(line, _PAIR)


def _said(found: re.Match[str]) -> str:
    return found[0] if says_where(found[2]) or REDACTED in found[3] else f"{found[1]}'{REDACTED}'"


def _without_content(found: re.Match[str]) -> str:
    """An element of XML."""
    return found[0] if says_where(found[1]) or not found[2].strip() else f"<{found[1]}>{REDACTED}"


def _without_values(line: str, form: re.Pattern[str]) -> str:
    """A line, or several, without the values up to which a form goes."""
    parts: list[str] = []
    at = 0
    while found := form.search(line, at):
        parts.append(line[at : found.end()])
        at = found.end()
        if says_where(found[1]):
            continue
        quoted_key = line[found.start() - 1 : found.start()] in ('"', "'")
        is_phrase = not quoted_key and form is _PAIR and _COLON.search(found[0]) is not None
        end = _value_end(line, at, _PHRASE if is_phrase else _AFTER_QUOTED_KEY if quoted_key else _BARE)
        quote = _QUOTE.match(line, at)
        mark = quote[0] if quote else '"' if quoted_key and line[at] in "{[" else ""
        parts.append(f"{mark}{REDACTED}{mark}" if end > at else "")
        at = end
    return "".join((*parts, line[at:]))


def _value_end(line: str, start: int, bare: re.Pattern[str]) -> int:
    """Where a value ends: with its quotes or brackets, or else with the line if these are not closed there.

    ``bare`` is the form of a value without them.
    """
    if _QUOTE.match(line, start) or line[start] in "{[":
        return _closing(line, start) or _line_end(line, start)
    found = bare.match(line, start)
    if found is None:
        return start
    return max(start + len(found[0].rstrip(_PUNCTUATION)), start + 1)


def _line_end(line: str, start: int) -> int:
    end = line.find("\n", start)
    return len(line) if end < 0 else end


def _closing(line: str, start: int) -> int | None:
    """Where what begins with a quote or bracket ends; None: not in this line."""
    quote, end = _QUOTE.match(line, start), _line_end(line, start)
    if quote and quote[2] == "'":
        found = _SINGLE_QUOTED.match(line, quote.end() - 1, end)
        return found.end() if found else None
    depth, opening = 0, -1
    """Brackets that are open, and the backslashes before the quote that is."""
    for token in _TOKEN.finditer(line, start, end):
        match token[0][-1]:
            case '"' if opening < 0:
                opening = len(token[0]) - 1
            case '"' if (len(token[0]) - 1) % (2 * (opening + 1)) == opening:
                opening = -1
            case "{" | "[" if opening < 0:
                depth += 1
            case "}" | "]" if opening < 0:
                depth -= 1
            case _:
                continue
        if opening < 0 and depth <= 0:
            return token.end()
    return None
