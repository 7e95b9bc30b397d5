from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from spiderpool.kernel.ndp import unsolicited_advertisement

pytestmark = pytest.mark.unit


def test_frame() -> None:
    frame = unsolicited_advertisement(bytes.fromhex("00163e000102"), IPv6Address("2001:db8::7"))
    assert frame.hex(" ") == (
        "33 33 00 00 00 01 00 16 3e 00 01 02 86 dd"
        " 60 00 00 00 00 20 3a ff"
        " 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 07"
        " ff 02 00 00 00 00 00 00 00 00 00 00 00 00 00 01"
        " 88 00 " + frame[56:58].hex(" ") + " 20 00 00 00"
        " 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 07"
        " 02 01 00 16 3e 00 01 02"
    )


def test_checksum_makes_the_sum_of_all_words_zero() -> None:
    frame = unsolicited_advertisement(bytes.fromhex("00163e000102"), IPv6Address("2001:db8:ffff::7"))
    covered = frame[22:54] + len(frame[54:]).to_bytes(4, "big") + (58).to_bytes(4, "big") + frame[54:]
    total = sum(int.from_bytes(covered[i : i + 2], "big") for i in range(0, len(covered), 2))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
