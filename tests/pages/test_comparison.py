"""What counts as the same output, and what does not."""

from __future__ import annotations

import pytest

from tests.pages.comparison import difference, matches, names

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("web   3s", "web 4m12s"),
        ("Since: 2026-11-29T11:33:52Z (39s ago)", "Since: 2027-01-02T00:00:00Z (2d ago)"),
        ("test-app-1-4jpfd 172.31.199.190", "test-app-1-ft2jx 172.31.199.185"),
        ("auto4-shop-eth0-0718f", "auto4-shop-eth0-ac41e"),
        ("auto4-shop-eth0-31941", "auto4-shop-eth0-ac41e"),
        ("shop-6f9c8d7b5d-4jpfd", "shop-5b7c9d8f66-ft2jx"),
        ("fd00-0011-0000-0000-0000-0000-0000-0010 fd00:11::1", "fd00-0011-0000-0000-0000-0000-0000-0099 fd00:11::9"),
        ("80:32412/TCP", "80:30001/TCP"),
        ("create a4abf1f1dc0e845ca9c600c7baec9f98: …", "create ac916f35b91d041fb8bf6f014daf2030: AddressType=internet"),
        ("00:16:3e:01:01:83", "00:16:3e:01:01:84"),
        ("a\nb", "b\na"),
        ("a\n…", "a\nb\nc"),
        ("too long,\nso in two lines", "too long, so in two lines"),
    ],
)
def test_equal_but_for_what_varies(shown: str, printed: str) -> None:
    assert matches(shown.splitlines(), printed.splitlines()) is not None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("web 1/1", "web 0/1"),
        ("172.31.199.190", "192.168.0.156"),
        ("172.31.192.0/20", "172.31.192.0/24"),
        ("fd00:11::10/64", "fd00:12::10/64"),
        ("80:32412/TCP", "80:8080/TCP"),
        ("a", "a\nb"),
        ("a\nb", "a"),
        ("a\n…", "b\nc"),
        ("auto4-shop-eth0-0718f", "auto6-shop-eth0-0718f"),
    ],
)
def test_different(shown: str, printed: str) -> None:
    assert matches(shown.splitlines(), printed.splitlines()) is None


def test_names_that_later_commands_may_use() -> None:
    found = matches(["test-app-1-4jpfd 1/1 3s", "lb 198.51.100.66"], ["lb 198.51.100.65", "test-app-1-ft2jx 1/1 9s"])
    assert dict(names(found or [])) == {"test-app-1-4jpfd": "test-app-1-ft2jx", "198.51.100.66": "198.51.100.65"}


def test_the_difference_is_shown_without_what_varies() -> None:
    assert difference(["web  1/1  3s"], ["web  0/1  4s"]).splitlines()[-2:] == ["-web 1/1 <age>", "+web 0/1 <age>"]
