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
        ('password: "a\n  b"\nnext: 1\n', 'password: "REDACTED"\nnext: 1\n'),
        ('{\n  "password": {\n    "value": "abc"\n  }\n}', '{\n  "password": {\n    "value": REDACTED\n  }\n}'),
        ('{"password":{"value":"a}b","c":[1]},"a":1}', '{"password":"REDACTED","a":1}'),
        ("MHcabc\nAAA=\n-----END EC PRIVATE KEY-----\nafter", "REDACTED\nafter"),
        ("it was\nsaid: MHc\\n-----END PRIVATE KEY----- x", "it was\nsaid: REDACTED x"),
        ("password: one\n  two\nnext: 1\n", "password: REDACTED\nnext: 1\n"),
        ("private_key: |\n  a\n  b\nnext: 1\n", "private_key: REDACTED\nnext: 1\n"),
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
    ),
)


@pytest.mark.parametrize("line", LONG, ids=lambda line: line[:12])
def test_a_long_log_takes_seconds(line: str) -> None:
    """No form looks at the same characters again and again: the processor's time, whatever else runs."""
    began = time.process_time()
    redaction.text(line * (200_000 // len(line) + 1))
    assert time.process_time() - began < 5
