"""Takes credentials out of texts: logs, settings in YAML, JSON, INI, command lines and what errors say.

The time is linear in the length of the text: what a form has looked at once, it does not look at again.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from spiderpool.cli.bundle.secret_forms import REDACTED, without_known_forms

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
_WORDS = rf"(?=[aceidkpst.])(?:{_WORDS})"
"""Their first characters are looked at first, which makes a search four times as fast."""
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
    value = without_known_forms(value)
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
    """Lines without credentials; of values that go on in several, how many lines went."""
    value: _Value | None = None
    gone: list[str] = []
    for whole in lines:
        line = whole.rstrip("\r\n")
        end = whole[len(line) :]
        if value is not None and value.has(line) and not value.is_structure and line.strip():
            gone.append(whole)
            continue
        yield from _counted(gone)
        gone.clear()
        if value is None or not value.has(line):
            line, value = _opened(line)
            yield line + end
        else:
            yield _leaf(line) + end
    yield from _counted(gone)


def _counted(gone: Sequence[str]) -> Iterator[str]:
    """Instead of lines that went, one that says how many these were."""
    if gone:
        last = gone[-1]
        end = last[len(last.rstrip("\r\n")) :]
        lines = "line" if len(gone) == 1 else "lines"
        yield f"{gone[0][: _indentation(gone[0])]}{REDACTED} ({len(gone)} {lines}){end}"


def _opened(line: str) -> tuple[str, _Value | None]:
    """A line without credentials, and the value that goes on after it."""
    if not has_hint(line) or not _key_words(line):
        return line, None
    found = _OPENING.fullmatch(line)
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
    found = _next(_TAIL, line) if line.rstrip(" \t")[-1:] in (*":|>+-", *"0123456789") else None
    if found and not says_where(found[1]):
        value = _Value(_indentation(line), is_structure=not found[2])
        return line[: found.start(2)] + (REDACTED if found[2] else ""), value
    return _of_line(line), _Value(_indentation(line), is_structure=False) if _goes_on(line) else None


def _goes_on(line: str) -> bool:
    """Whether the value of the last key that names a credential may go on: open quotes, or words to the line's end."""
    last = found = _next(_PAIR, line)
    while found := _next(_PAIR, line, found.end()) if found else None:
        last = found
    if last is None or says_where(last[1]) or _SENTENCE.match(line, last.start(1)):
        return False
    if _QUOTE.match(line, last.end()):
        return _closing(line, last.end()) is None
    return bool(_COLON.search(last[0])) and _value_end(line, last.end(), _PHRASE) == len(line)


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
    rf"""(?i)((?<![\w.-])([\w.-]{{0,200}}(?=[aceipst])(?:{_NAMES})[\w.-]{{0,200}})(?![\w.-])"""
    r"""(?:[ ]+[\w.,/-]+){0,6}[ ]+)('[^']*'|"[^"]*"|`[^`]*`)"""
)
"""A key, some words, and a text in quotes, as errors say it."""
_SENTENCE = re.compile(
    r"(?:(?<=[a-z] )|(?<=[a-z], )|(?<=\*)(?=\w+\.))(?:(?:tokens?|secrets?|credentials?|signatures?|cookies?)"
    r"|\w+\.Secret\w*):[ ](?=[a-z]{1,20}[,:]?[ ]+\S)"
)
"""What is said of a token, or of a kind of the API such as `*v1.Secret`: a word before, and several ordinary ones after
the colon. A password may have spaces, and a header is no sentence: they are not meant."""
_CREDENTIAL = re.compile(
    r"(?<![\w+/=~.-])(?=[\w+/=~.-]{0,200}[0-9])(?=[\w+/=~.-]{0,200}[a-z])(?=[\w+/=~.-]{0,200}[A-Z])[\w+/=~.-]{8,}"
    r"|(?<![\w+/=~.-])(?=[a-z]{0,200}[0-9])(?=[0-9]{0,200}[a-z])[0-9a-z]{16,}(?![\w+/=~.-])"
)
"""A word of a sentence that looks like a token: letters of both cases and digits, or a long one without a break."""
_OBJECT = re.compile(r"""(["'])(?:[a-z0-9.-]+/)?[a-z0-9.-]+\1 (?:not found|is forbidden|already exists)\b""")
"""The name of a Secret, as the API server and the kubelet speak of one."""
_COLON = re.compile(r":(?:\s|\\+[nrt])+$")
_WORD_END = re.compile(r"[\w.-]*")
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
    if not has_hint(line) or not _key_words(line):
        return line
    return _without_values(_without_said(_without_tokens(line)), _PAIR)


def _next(form: re.Pattern[str], line: str, start: int = 0) -> re.Match[str] | None:
    """The next match of a form that begins with a key; it is tried where a word has a part that names a credential."""
    words = _key_words(line)
    for place in range(bisect_left(words, start), len(words)):
        if found := form.match(line, words[place]):
            return found
    return None


@lru_cache(maxsize=4)
def _key_words(line: str) -> Sequence[int]:
    """Where words begin that have a part that names a credential: all forms of a line share one search for them."""
    found: list[int] = []
    at = 0
    while hint := _SECRET_KEY.search(line, at):
        first = hint.start()
        while first > at and (line[first - 1].isalnum() or line[first - 1] in "_.-"):
            first -= 1
        found.append(first)
        at = _WORD_END.match(line, hint.start() + 1).end()  # type: ignore[union-attr]
    return found


def _without_tokens(line: str) -> str:
    """A line whose sentences about tokens stay, without words that look like one."""
    parts: list[str] = []
    at = 0
    while found := _SENTENCE.search(line, at):
        end = _value_end(line, found.end(), _PHRASE)
        parts += line[at : found.end()], _CREDENTIAL.sub(REDACTED, line[found.end() : end])
        at = end
    return "".join((*parts, line[at:]))


def _without_said(line: str) -> str:
    """A line without texts in quotes that errors say of a key."""
    parts: list[str] = []
    at = 0
    while found := _next(_SAID, line, at):
        parts += line[at : found.start()], _said(found)
        at = found.end()
    return "".join((*parts, line[at:]))


def _said(found: re.Match[str]) -> str:
    if found[2].lower() in ("secret", "secrets") and _OBJECT.match(found.string, found.start(3)):
        return found[0]
    return found[0] if says_where(found[2]) or REDACTED in found[3] else f"{found[1]}'{REDACTED}'"


def _without_content(found: re.Match[str]) -> str:
    """An element of XML."""
    return found[0] if says_where(found[1]) or not found[2].strip() else f"<{found[1]}>{REDACTED}"


def _without_values(line: str, form: re.Pattern[str]) -> str:
    """A line, or several, without the values up to which a form goes."""
    parts: list[str] = []
    at = 0
    while found := _next(form, line, at) if form is _PAIR else form.search(line, at):
        parts.append(line[at : found.end()])
        at = found.end()
        if says_where(found[1]) or (form is _PAIR and _SENTENCE.match(line, found.start(1))):
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
