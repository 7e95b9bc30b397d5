from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from spiderpool.api.decoding import DEEPEST, DEEPEST_KEPT, LONGEST, LONGEST_OBJECT, decode, without_depths

pytestmark = pytest.mark.unit


class Shape(msgspec.Struct):
    name: str = ""
    more: dict[str, Any] = {}
    fixed: tuple[Any, ...] = ()


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def test_a_value_and_a_shape() -> None:
    assert decode('{"name": "x", "more": {"a": [1]}}') == {"name": "x", "more": {"a": [1]}}
    assert decode(b'{"name": "x"}', Shape) == Shape("x")
    assert decode('"' + "[{" * 1000 + '"') == "[{" * 1000
    assert decode("[" + "[]," * 1000 + "[]]") == [[]] * 1001


@pytest.mark.parametrize("text", ["{", b"\xff", b'"\xff"', '"\\ud800"', "1 2"])
def test_what_is_no_json_is_one_error(text: str | bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode(text)


@pytest.mark.parametrize("depth", [DEEPEST + 1, 500, 5_000, 200_000])
def test_what_is_too_deep_is_refused(depth: int) -> None:
    for text in ("[" * depth + "]" * depth, nested(depth)):
        with pytest.raises(msgspec.DecodeError):
            decode(text)
    with pytest.raises(msgspec.DecodeError):
        decode(f'{{"more": {nested(depth)}}}', Shape)
    with pytest.raises(msgspec.DecodeError):
        decode(f'{{"fixed": [{nested(depth)}]}}', Shape)


def test_what_is_just_deep_enough() -> None:
    assert json.dumps(decode(nested(DEEPEST))) == nested(DEEPEST).replace(":", ": ")


def test_what_has_too_many_parts_is_refused() -> None:
    text = "[" + "[]," * (LONGEST // 16) + "[]]"
    with pytest.raises(msgspec.DecodeError, match="16386 objects and arrays are more than 16384"):
        decode(text)
    assert len(decode(msgspec.Raw(text.encode()), longest=LONGEST_OBJECT)) == LONGEST // 16 + 1


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError, match=f"{LONGEST + 2} characters are more than {LONGEST}"):
        decode('"' + "a" * LONGEST + '"')


def test_what_is_too_deep_is_cut_out_and_the_rest_stays() -> None:
    arrays = "[" * 9000 + "]" * 9000
    deep = f'{{"[{{": "]}}\\\\\\"", "a": [1, {arrays}, {{"b": "}}"}}], "c": {nested(5000)}, "d": 2}}'
    found = msgspec.json.decode(without_depths(deep.encode()))
    assert (found["[{"], found["a"][0], found["a"][2], found["d"]) == ('"]}\\"'[1:], 1, {"b": "}"}, 2)
    for text in (nested(DEEPEST_KEPT), "[]", '"["', '{"a": "\\"}"}', "1"):
        assert without_depths(text.encode()) == text.encode()


@pytest.mark.parametrize("text", ["[" * 5000, "]" * 5000, '{"a":' * 5000 + '"', '["' + "[" * 5000])
def test_what_is_no_json_stays_none(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(without_depths(text.encode()))


def test_the_cut_takes_time_in_proportion_to_the_text() -> None:
    text = b"[" + b",".join([b'{"name":"a\\"b","list":[1,2,3]}'] * 100_000) + b"]"
    begin = time.thread_time()
    assert without_depths(text) == text
    assert time.thread_time() - begin < 5, "what is quadratic takes minutes"
