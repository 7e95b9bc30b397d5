"""What is taken out of texts and objects before they are handed to others, and what stays."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from spiderpool.cli.bundle import redaction

pytestmark = pytest.mark.unit

PEM_KEY = base64.b64encode(b"-----BEGIN EC PRIVATE KEY-----\n" + b"MHcCAQEE" * 9 + b"\n").decode()
PEM_CERTIFICATE = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n" + b"MIIBAQEE" * 9 + b"\n").decode()
JWT = "eyJhbGciOiJSUzI1NiIs.eyJpc3MiOiJrdWJlcm5.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("accessKeySecret: abc", "accessKeySecret: REDACTED"),
        ("password: three plain words\nnext: 1", "password: REDACTED\nnext: 1"),
        ("  - token: a, b", "  - token: REDACTED"),
        ('  password: "x y"\nfoo: 1', '  password: "REDACTED"\nfoo: 1'),
        ("password: 'x y'", "password: 'REDACTED'"),
        ('{"token":"abc","a":1}', '{"token":"REDACTED","a":1}'),
        ('{"m":"{\\"token\\":\\"abc\\"}"}', '{"m":"{\\"token\\":\\"REDACTED\\"}"}'),
        ('token="cut off', 'token="REDACTED"'),
        ("KEY=1 API_KEY=zz more", "KEY=1 API_KEY=REDACTED more"),
        ("run --token abc --verbose", "run --token REDACTED --verbose"),
        ("key accessKeySecret in conf.yml is 'a b', and", "key accessKeySecret in conf.yml is 'REDACTED', and"),
        ("run --token=abc", "run --token=REDACTED"),
        ("AccessKeyId=x&Signature=a%3D&x=1", "AccessKeyId=REDACTED&Signature=REDACTED&x=1"),
        ("key LTAI5tAbcdefghijklmnop used", "key REDACTED used"),
        (f"got {JWT} from", "got REDACTED from"),
        ("sent Bearer abcdefgh.ijkl", "sent Bearer REDACTED"),
        ("https://user:pass@host/", "https://REDACTED@host/"),
        ("https://u:p@w@host", "https://REDACTED@host"),
        ("https://u:p/w@host", "https://REDACTED@host"),
        ("https://u:p@w/x@host", "https://REDACTED@host"),
        ("https://ghp_abc@host/x", "https://REDACTED@host/x"),
        ("https://ghp_abc:x-oauth-basic@host", "https://REDACTED@host"),
        ("https://host/a,https://u:p@host", "https://host/a,https://REDACTED@host"),
        ("client-key-data: abc", "client-key-data: REDACTED"),
        ("  tls.key: abc", "  tls.key: REDACTED"),
        ('{"tls.key":"abc"}', '{"tls.key":"REDACTED"}'),
        (".dockerconfigjson: abc", ".dockerconfigjson: REDACTED"),
        ('{"auths":{},"auth":"dTpw"}', '{"auths":{},"auth":"REDACTED"}'),
        ("DB_PASS=abc PWD=x dbPass=y", "DB_PASS=REDACTED PWD=REDACTED dbPass=REDACTED"),
        (f"data: {PEM_KEY} end", "data: REDACTED end"),
        (f"{PEM_KEY[:60]}\n  {PEM_KEY[60:]}\nend", "REDACTED\nend"),
        ("x password=a,b;c y", "x password=REDACTED y"),
        ("x password=a&b\"c'd, y", "x password=REDACTED, y"),
        ('{"password":"x\\"y","a":1}', '{"password":"REDACTED","a":1}'),
        ('{"password":"x\\\\","a":1}', '{"password":"REDACTED","a":1}'),
        (
            '{"name":"PASS","value":"a b"},{"name":"A","value":"b"}',
            '{"name":"PASS","value":"REDACTED"},{"name":"A","value":"b"}',
        ),
        ("- name: TOKEN\n  value: 'a b'\n- name: A\n", "- name: TOKEN\n  value: 'REDACTED'\n- name: A\n"),
        ("- name: TOKEN\n  value: abc\n  b: c", "- name: TOKEN\n  value: REDACTED\n  b: c"),
        ('- name: TOKEN\n  value: "abc\n  b: c', '- name: TOKEN\n  value: "REDACTED"\n  b: c'),
        ('run --token "a b" c', 'run --token "REDACTED" c'),
        ("x password=null-b y", "x password=REDACTED y"),
        ("password:\n  abc\nnext: 1\n", "password:\n  REDACTED\nnext: 1\n"),
        ("passwords:\n- abc\n- d e\nnext: 1\n", "passwords:\n- REDACTED\n- REDACTED\nnext: 1\n"),
        ("password:\n  value: abc\n  name: n\nnext: 1\n", "password:\n  value: REDACTED\n  name: n\nnext: 1\n"),
        ('password: "a\n  b"\nnext: 1\n', 'password: "REDACTED"\n  REDACTED (1 line)\nnext: 1\n'),
        ('{\n  "password": {\n    "value": "abc"\n  }\n}', '{\n  "password": {\n    "value": REDACTED\n  }\n}'),
        ('{"password":{"value":"a}b","c":[1]},"a":1}', '{"password":"REDACTED","a":1}'),
        ("MHcabc\nAAA=\n-----END EC PRIVATE KEY-----\nafter", "REDACTED\nafter"),
        ("it was\nsaid: MHc\\n-----END PRIVATE KEY----- x", "it was\nsaid: REDACTED x"),
        ("password: one\n  two\nnext: 1\n", "password: REDACTED\n  REDACTED (1 line)\nnext: 1\n"),
        ("private_key: |\n  a\n  b\nnext: 1\n", "private_key: REDACTED\n  REDACTED (2 lines)\nnext: 1\n"),
        (
            "private_key: |\r\n  a\r\n\r\n  b\r\nx: 1",
            "private_key: REDACTED\r\n  REDACTED (1 line)\r\n\r\n  REDACTED (1 line)\r\nx: 1",
        ),
        ("bad token: hunter2", "bad token: REDACTED"),
        ("bad token: abc123 was given", "bad token: REDACTED"),
        ("bad token: got aB3dEfGhIjK from n1", "bad token: got REDACTED from n1"),
        ("no token: read 0123abcd4567efgh8 twice", "no token: read REDACTED twice"),
        ("no token: but password=abc, x", "no token: but password=REDACTED, x"),
        ("bad password: two words", "bad password: REDACTED"),
        ("INFO token: two words", "INFO token: REDACTED"),
        ("secret 'two' is", "secret 'REDACTED' is"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nafter", "REDACTED\nafter"),
        ("-----BEGIN PRIVATE KEY-----\nMHc", "REDACTED"),
    ],
)
def test_credentials_go(found: str, expected: str) -> None:
    assert redaction.text(found) == expected


@pytest.mark.parametrize(
    "found",
    [
        "secretName: webhook-certs",
        "secretRef:\n  name: x\n",
        "secret:\n  secretName: x\n",
        "key secretName in conf.yml is 'a b'",
        "run --token-file /run/token",
        "tokenExpirationSeconds: 3600",
        "automountServiceAccountToken: false",
        '{"secretName":"x","mountServiceAccountToken":true}',
        "the token has expired",
        'failed to list *v1.Secret: secrets is forbidden: User "system:serviceaccount:a:b" cannot list "secrets"',
        'MountVolume.SetUp failed for volume "tls" : secret "web-tls" not found',
        "Error: cannot refresh token: timeout after 5s\n    at foo.py:12\n    at bar.py:13\nnext line\n",
        "Events:\n  Warning FailedMount secret: not found\n    10.0.0.1 allocated to web\n  Normal ok\n",
        '{"error":"no token: pool default-v4 is exhausted, 3 pools considered","pool":"default"}',
        "leader lost, token: renewed at 02:00 by node-1, 3 free addresses\n  detail: eth0 10.0.0.1/24\n",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "no IPv4 address for eth0 of pod default/web-3: blue: 2 of 2 addresses in use",
        "https://host:6443/api",
        "https://host:6443/image@sha256:abc and https://[fd00::1]:80/a@b",
        f"caBundle: {PEM_CERTIFICATE}",
        "bypass: 1 and passthrough=2",
        "author: me",
        "- name: TOKEN_FILE\n  value: /f\n",
        "- name: TOKEN\n  valueFrom: {secretKeyRef: {name: s}}\n",
        "secret:\n  secretName: x\n  optional: true\nnext: 1\n",
    ],
)
def test_what_says_where_a_credential_is_stays(found: str) -> None:
    assert redaction.text(found) == found


def test_objects_lose_values_by_their_keys() -> None:
    found: dict[str, Any] = {
        "metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "example.com/api-key": "abc"},
            "managedFields": [{}],
        },
        "data": {"token": "abc", "conf.yml": "a: 1\naccessKeyId: abc\n", "password": 7},
        "env": [
            {"name": "SECRET_KEY", "value": "abc"},
            {"name": "PLAIN", "value": "v"},
            {"name": "TOKEN_FILE", "value": "/f"},
        ],
        "args": ["--token", "abc", "--verbose", "--token-file", "/f"],
        "tokens": ["abc", {"secretName": "s"}],
        "volumes": [{"secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}}],
        "automountServiceAccountToken": True,
        "password": {"value": "hunter2", "of": [{"first": 1, "enabled": True}], "secretName": "s"},
        "replicas": 2,
    }
    assert redaction.value(found) == {
        "metadata": {"annotations": {"example.com/api-key": "REDACTED"}},
        "data": {"token": "REDACTED", "conf.yml": "a: 1\naccessKeyId: REDACTED\n", "password": "REDACTED"},
        "env": [
            {"name": "SECRET_KEY", "value": "REDACTED"},
            {"name": "PLAIN", "value": "v"},
            {"name": "TOKEN_FILE", "value": "/f"},
        ],
        "args": ["--token", "REDACTED", "--verbose", "--token-file", "/f"],
        "tokens": ["REDACTED", {"secretName": "s"}],
        "volumes": [{"secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}]}}],
        "automountServiceAccountToken": True,
        "password": {"value": "REDACTED", "of": [{"first": "REDACTED", "enabled": True}], "secretName": "s"},
        "replicas": 2,
    }


LINE = json.dumps({"event": "address granted", "secretName": "s", "level": "info", "address": "10.0.0.7"}) + "\n"


LONG = (
    *("x" * 200_000, "a.b-" * 50_000 + "key", LINE, "://a:" * 40_000, "://a:b@" * 30_000, "LS0tLS1CRUdJTi" * 15_000),
    *(
        "key" + "\\" * 200_000,
        "password: " + '\\"' * 100_000,
        "password={" * 20_000,
        "token " * 30_000,
        "token=\\n" * 20_000,
    ),
    *(
        "password:\n  " * 20_000,
        "A/b\n" * 50_000 + "-----END PRIVATE KEY-----\n",
        "-----BEGIN " * 20_000,
        "'token'" * 30_000,
        "name: token " * 20_000,
        'name: token\nvalue: "\n' * 10_000,
        "no token: pool x " * 12_000,
        "no token: pool " + "aB" * 100_000,
        "access key " * 20_000,
    ),
)


PLAIN_LINE = 'I1130 02:00:00.123456 1 controller.go:123] "Reconciled pool" pool="default-v4" free=12 duration=1.2s\n'
KEYED_LINE = 'I1130 02:00:00.123456 1 controller.go:123] "Reconciled key" key="shop/web-1" author=x duration=1.2s\n'


def test_a_line_that_may_have_a_key_costs_a_few_times_one_without() -> None:
    """All forms share one search for words that may name a credential. In the processor's time, whatever else runs."""
    assert seconds_for(KEYED_LINE) < 7 * seconds_for(PLAIN_LINE)


def seconds_for(line: str) -> float:
    """The shortest of three, for 200 kB."""
    text = line * (200_000 // len(line))
    found = []
    for _ in range(3):
        began = time.process_time()
        redaction.text(text)
        found.append(time.process_time() - began)
    return min(found)


@pytest.mark.parametrize("line", LONG, ids=lambda line: line[:12])
def test_a_long_log_takes_seconds(line: str) -> None:
    """No form looks at the same characters again and again: the processor's time, whatever else runs."""
    began = time.process_time()
    redaction.text(line * (200_000 // len(line) + 1))
    assert time.process_time() - began < 5
