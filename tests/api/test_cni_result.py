"""CNI results and errors in all versions of the specification."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from spiderpool.api.cni_result import (
    Result,
    ResultInterface,
    ResultIP,
    all_addresses,
    convert_result,
    error_document,
    pod_addresses,
    read_result,
    result_document,
    version_document,
    with_default_routes,
)
from spiderpool.errors import BadConfig, Refused, Undecodable

pytestmark = pytest.mark.unit

RESULT = Result(
    (ResultIP("10.0.0.5/24", "10.0.0.1", 0),),
    (("0.0.0.0/0", "10.0.0.1"),),
    (ResultInterface("eth0", "00:16:3e:00:00:01", 1500, "/ns"),),
)
IP = {"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 0}
INTERFACE = {"name": "eth0", "mac": "00:16:3e:00:00:01", "sandbox": "/ns"}


@pytest.mark.parametrize(
    ("version", "interface", "ip"),
    [
        ("0.3.1", INTERFACE, {"version": "4"} | IP),
        ("0.4.0", INTERFACE, {"version": "4"} | IP),
        ("1.0.0", INTERFACE, IP),
        ("1.1.0", INTERFACE | {"mtu": 1500}, IP),
    ],
)
def test_results_in_the_requested_version(version: str, interface: dict[str, Any], ip: dict[str, Any]) -> None:
    assert result_document(RESULT, version) == {
        "cniVersion": version,
        "interfaces": [interface],
        "ips": [ip],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}],
        "dns": {},
    }


def test_an_ipam_result_names_no_interface() -> None:
    document = result_document(Result((ResultIP("fd00::5/64", None),)), "0.4.0")
    assert document == {"cniVersion": "0.4.0", "ips": [{"version": "6", "address": "fd00::5/64"}], "dns": {}}


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_a_plugins_result_is_read(version: str) -> None:
    two = replace(
        RESULT, interfaces=(ResultInterface("veth1", "0a:00:00:00:00:01"), *RESULT.interfaces), dns={"search": ["a"]}
    )
    read = read_result(msgspec.json.encode(result_document(two, version)))
    mtu = 1500 if version == "1.1.0" else 0
    assert read == replace(two, interfaces=(two.interfaces[0], replace(two.interfaces[1], mtu=mtu)))


def test_an_empty_result_and_a_wrong_one() -> None:
    assert read_result(b'{"cniVersion": "1.0.0"}') == Result()
    assert read_result(b'{"routes": [{"dst": "0.0.0.0/0"}]}').routes == (("0.0.0.0/0", ""),)
    with pytest.raises(Undecodable):
        read_result(b"ready")
    with pytest.raises(BadConfig):
        read_result(b'{"ips": [{"gateway": "10.0.0.1"}]}')


@pytest.mark.parametrize(
    ("ip", "message"),
    [
        ({"address": "none"}, "address that is none: 'none' does not appear"),
        ({"address": "10.0.0.5/33"}, "address that is none: '10.0.0.5/33' does not appear"),
        (IP | {"interface": 1}, r"10\.0\.0\.5/24 to interface 1 of 1"),
        (IP | {"interface": -1}, "to interface -1 of 1"),
    ],
)
def test_what_the_agent_could_not_work_with_later_is_refused(ip: dict[str, Any], message: str) -> None:
    document = {"interfaces": [INTERFACE], "ips": [IP, ip]}
    with pytest.raises(BadConfig, match=message):
        read_result(msgspec.json.encode(document))
    document = {"ips": [IP | {"interface": 1}]}  # of an IPAM plugin, which knows no interfaces
    assert all_addresses(read_result(msgspec.json.encode(document))) == ("10.0.0.5/24",)


def test_errors_and_versions() -> None:
    assert error_document(Refused("no"), "0.4.0") == {"cniVersion": "0.4.0", "code": 11, "msg": "no"}
    assert error_document(Refused("no", "because"))["details"] == "because"
    assert version_document("1.0.0")["supportedVersions"] == ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


def test_a_result_is_converted_only_to_another_version() -> None:
    strange = {"ips": [{"version": "4", "address": "10.0.0.1/24", "interface": 0}], "custom": [1]}
    assert convert_result(strange, "0.4.0") == strange | {"cniVersion": "0.4.0"}
    converted = convert_result(strange | {"cniVersion": "0.4.0"}, "1.0.0")
    assert converted["ips"] == [{"address": "10.0.0.1/24", "interface": 0}]
    with pytest.raises(BadConfig):
        convert_result({"cniVersion": "0.4.0", "ips": "none"}, "1.0.0")


def test_default_routes_of_a_result() -> None:
    def routes(families: set[int], *gateways: str) -> list[tuple[str, str]]:
        both = [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}, {"dst": "::/0", "gw": "fd00::1"}, {"dst": "10.9.0.0/16"}]
        document = msgspec.json.encode({"routes": both, "x": 1})
        result = msgspec.json.decode(with_default_routes(document, families, gateways))
        assert result["x"] == 1
        return [(route["dst"], route.get("gw", "")) for route in result["routes"]]

    other = ("10.9.0.0/16", "")
    assert routes({4, 6}) == [("0.0.0.0/0", "10.0.0.1"), ("::/0", "fd00::1"), other]
    assert routes({6}) == [("::/0", "fd00::1"), other]
    assert routes(set()) == [other]
    assert routes({4, 6}, "10.0.0.2") == [("::/0", "fd00::1"), other, ("0.0.0.0/0", "10.0.0.2")]
    assert with_default_routes(b'{"ips": []}', {4}, ()) == b'{"ips": []}'


@pytest.mark.parametrize("routes", ["1", '{"dst": "::/0"}', '["::/0"]', "[null]", "[[]]", "[{}]", '[{"dst": []}]'])
def test_routes_of_a_result_that_are_none(routes: str) -> None:
    with pytest.raises(BadConfig, match=r"\$\.routes"):
        with_default_routes(f'{{"routes": {routes}}}'.encode(), {4}, ())


def test_the_addresses_of_the_pod_are_the_first_of_each_family() -> None:
    node, pod = ResultInterface("br0"), ResultInterface("eth0", sandbox="/run/netns/x")
    ips = (
        ResultIP("10.0.0.1/24", None, 0),
        ResultIP("10.0.0.5/24", None, 1),
        ResultIP("2001:db8::5/64", None, 1),
        ResultIP("10.0.0.6/24", None, 1),
    )
    assert pod_addresses(Result(ips, interfaces=(node, pod))) == ("10.0.0.5", "2001:db8::5")
    assert pod_addresses(Result((ResultIP("10.0.0.5/24", None),), interfaces=(node, pod))) == ("10.0.0.5",)
    assert pod_addresses(Result()) == ()
