"""A credential that is planted somewhere in a text does not survive, however the text renders it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiderpool.cli.bundle import redaction

pytestmark = pytest.mark.unit

KEYS = (
    *("accessKeySecret", "access-key-secret", "ACCESS_KEY_SECRET", "AccessKeyId", "password", "dbPassword", "api_key"),
    *(
        "securityToken",
        "X-Auth-Token",
        "Authorization",
        "Proxy-Authorization",
        "Set-Cookie",
        "client_secret",
        "tls.key",
    ),
)
WORD = "{}"
"""Where the credential is in a rendering; that of several words is in PHRASES."""
WORDS = (
    *("K={}", "K = {}", "K: {}", "K:{}", "K => {}", "K := {}", "K -> {}", "export K={}", "x --K={} y", "x --K {} y"),
    *("--K={}", "x --K \\\n  {} \\\n  y", "[--K {} --other]", '["--K", "{}"]', "['--K', '{}']", '"--K",\n  "{}"\n'),
    *("args:\n- --K\n- {}\n- --other\n", 'args:\n  - "--K"\n  - "{}"\n', "('K', '{}')", "(b'K', b'{}')"),
    *("map[K:{} other:1]", "&{{K:{} Other:1}}", "Options(K='{}', b=1)", "<K>{}</K>", "?K={}&other=1", "K%3D{}&x"),
    *("K\\u003d{}", "- name: K\n  value: {}\n", 'name="K" value="{}"', "K:\n- {}\n- {}\n", "K:\n  first: {}\n"),
)
PHRASES = (
    *("K: {}", "K: {}\n  {}\nother: 1", "  - K: {}", "'K': '{}'", '"K": "{}"', 'K="{}"', "run --K='{}' other"),
    *("curl -H 'K: {}' host", 'curl -H "K: {}" host', "K: |\n  {}\n  {}\n", "K: >-\n\n  {}\n", "K:\n  {}\n"),
    *('K: "{}\n  {}"\n', "the K '{}' is wrong", "the K `{}` is wrong", "{{other: 1, K: {}}}", "K: !!str {}"),
    *('K: Digest username="{}", response="{}"', "K: Bearer {}", "K: acs {}:{}", "> K: {}\r\n> other: 1"),
)
AROUND: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: f"before: 1\n{text}\nafter: 1",
    lambda text: f"2026-11-30T00:00:00Z INFO config: {text}",
    lambda text: f"I1130 00:00:00.000000 1 flags.go:64] {text}",
    lambda text: json.dumps({"event": text, "level": "info"}),
    lambda text: json.dumps({"log": json.dumps({"event": "read", "files": [text]}), "stream": "stderr"}),
    lambda text: f"{json.dumps({'event': 'one'})}\n{json.dumps({'of': {'deep': text}}, indent=None)}\n",
    lambda text: text.replace("\n", "\r\n"),
)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
PLANTED = st.text(ALPHABET, min_size=8, max_size=24).map(lambda each: f"Zq{each}")


def rendered(form: str, key: str, secret: str) -> str:
    return form.replace("K", "\0").format(*[secret] * 2).replace("\0", key)


@settings(max_examples=3 * settings().max_examples)
@given(
    form=st.sampled_from((*WORDS, *PHRASES)), key=st.sampled_from(KEYS), around=st.sampled_from(AROUND), secret=PLANTED
)
def test_a_word(form: str, key: str, around: Callable[[str], str], secret: str) -> None:
    found = around(rendered(form, key, secret))
    assert secret not in redaction.text(found), found


@settings(max_examples=3 * settings().max_examples)
@given(
    form=st.sampled_from(PHRASES),
    key=st.sampled_from(KEYS),
    around=st.sampled_from(AROUND),
    secrets=st.lists(PLANTED, min_size=2, max_size=4, unique=True),
)
def test_several_words(form: str, key: str, around: Callable[[str], str], secrets: list[str]) -> None:
    found = around(rendered(form, key, " ".join(secrets)))
    redacted = redaction.text(found)
    assert not [each for each in secrets if each in redacted], found


@given(key=st.sampled_from(KEYS), secret=PLANTED, sort=st.booleans(), indent=st.sampled_from((None, 2)))
def test_an_option_and_a_variable_in_json(key: str, secret: str, *, sort: bool, indent: int | None) -> None:
    found = {"args": [f"--{key}", secret], "env": [{"value": "v", "name": "A"}, {"value": secret, "name": key}]}
    line = json.dumps(found if indent is None else {"args": found["args"]}, sort_keys=sort, indent=indent)
    assert secret not in redaction.text(line)


def test_what_stands_beside_a_credential_stays() -> None:
    found = '{"event":"read","args":["--token","Zq12345678","--verbose"],"address":"10.0.0.7"}\n'
    assert redaction.text(found) == '{"event":"read","args":["--token","REDACTED","--verbose"],"address":"10.0.0.7"}\n'


@pytest.mark.parametrize(
    "found",
    [
        '{"args":["--token-file","/run/token"],"secretName":"s"}',
        "run --token-file /run/token \\\n  --verbose",
        "args:\n- --token-file\n- /run/token\n",
        '{"resources":["secrets","configmaps"],"verbs":["get"]}',
        "2026-11-30T00:00:00Z INFO secretName: webhook-certs\n  more",
    ],
)
def test_what_says_where_one_is_stays(found: str) -> None:
    assert redaction.text(found) == found
