from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from spiderpool.kernel.ndp import parse_advertisement, solicitation, unsolicited_advertisement

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


def test_a_solicitation_goes_to_those_who_may_have_the_address() -> None:
    mac, target = bytes.fromhex("00163e000102"), IPv6Address("2001:db8::1234:5678")
    frame = solicitation(mac, IPv6Address("2001:db8::7"), target)
    assert frame[:14].hex(" ") == "33 33 ff 34 56 78 00 16 3e 00 01 02 86 dd"
    assert IPv6Address(frame[38:54]) == IPv6Address("ff02::1:ff34:5678")
    assert (frame[54], IPv6Address(frame[62:78]), frame[78:].hex(" ")) == (135, target, "01 01 00 16 3e 00 01 02")
    probe = solicitation(mac, IPv6Address("::"), target)
    assert (IPv6Address(probe[22:38]), len(probe)) == (IPv6Address("::"), 78)


def test_only_advertisements_are_answers() -> None:
    mac, address = bytes.fromhex("00163e000102"), IPv6Address("2001:db8::7")
    frame = unsolicited_advertisement(mac, address)
    assert parse_advertisement(frame) == (address, mac)
    assert parse_advertisement(frame[:78]) == (address, mac)  # without the option, by the sender of the frame
    assert parse_advertisement(solicitation(mac, address, address)) is None
    assert parse_advertisement(frame[:60]) is None
    assert parse_advertisement(frame[:20] + b"\x06" + frame[21:]) is None
    assert parse_advertisement(frame[:12] + b"\x08\x00" + frame[14:]) is None
