"""CNI calls, configurations, results and errors, as the specification defines them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.cni import (
    CNICall,
    CoordinatorConfig,
    DelegateConfig,
    InterfaceConfig,
    PluginConfig,
    Result,
    ResultInterface,
    ResultIP,
    check_command,
    check_environment,
    check_name,
    check_version,
    convert_result,
    error_document,
    frame_call,
    parse_args,
    parse_call,
    parse_network,
    parse_plugin,
    plugin_type,
    read_result,
    requested_ips,
    result_document,
    valid_attachments,
    version_document,
    with_default_routes,
)
from spiderpool.errors import (
    BadConfig,
    BadEnvironment,
    Refused,
    SpiderpoolError,
    Undecodable,
    UnknownPlugin,
    Unsupported,
)

pytestmark = pytest.mark.unit

WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0="), min_size=1)
GOOD = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/x", "CNI_IFNAME": "eth0"}


@given(WORD, st.dictionaries(WORD, WORD | st.just("a=b")), st.binary())
def test_framing_and_parsing_are_inverse(plugin: str, environment: dict[str, str], stdin: bytes) -> None:
    call = CNICall(plugin, environment, stdin)
    assert parse_call(frame_call(call)) == call


@pytest.mark.parametrize("body", [b"", b"garbage", b"\xff\xfe\0\0{}"])
def test_a_body_that_is_not_framed(body: bytes) -> None:
    with pytest.raises(Undecodable):
        parse_call(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_call_or_a_clear_error(body: bytes) -> None:
    try:
        parse_call(body)
    except SpiderpoolError as error:
        assert error.message


def call(**changes: str) -> CNICall:
    return CNICall("spiderpool-attach", {key: value for key, value in (GOOD | changes).items() if value}, b"")


def test_variables_of_a_call() -> None:
    made = call()
    assert (made.command, made.container_id, made.netns, made.ifname) == ("ADD", "c1", "/run/netns/x", "eth0")
    assert CNICall("spiderpool", {}, b"").command == ""


def test_a_good_environment_passes() -> None:
    check_environment(call())
    check_environment(call(CNI_COMMAND="DEL", CNI_NETNS=""))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CNI_CONTAINERID": ""}, "ADD needs CNI_CONTAINERID in the environment"),
        ({"CNI_NETNS": "", "CNI_IFNAME": ""}, "ADD needs CNI_IFNAME and CNI_NETNS"),
        ({"CNI_CONTAINERID": "-x"}, "CNI_CONTAINERID='-x'"),
        ({"CNI_IFNAME": "a/b"}, "is not an interface name"),
        ({"CNI_IFNAME": ".."}, "is not an interface name"),
        ({"CNI_IFNAME": "sixteencharacter"}, "is not an interface name"),
    ],
)
def test_a_wrong_environment_names_the_variable(changes: dict[str, str], message: str) -> None:
    with pytest.raises(BadEnvironment) as caught:
        check_environment(call(**changes))
    assert message in caught.value.message


def test_pod_arguments() -> None:
    args = parse_args("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID=u;")
    assert (args.namespace, args.name, args.uid) == ("ns", "p", "u")
    assert parse_args("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p").uid == ""


def test_an_unknown_key_needs_ignore_unknown() -> None:
    text = "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;IP=10.0.0.1"
    for allowed in ("1", "true", "True"):
        assert parse_args(f"{text};IgnoreUnknown={allowed}").name == "p"
    for forbidden in ("", ";IgnoreUnknown=0", ";IgnoreUnknown=2"):
        with pytest.raises(BadEnvironment, match="IP, which we do not know"):
            parse_args(text + forbidden)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("K8S_POD_NAME=p", "K8S_POD_NAMESPACE"),
        ("K8S_POD_NAMESPACE=ns", "K8S_POD_NAME"),
        ("nonsense", "not KEY=VALUE"),
        ("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a=b", "not KEY=VALUE"),
        ("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a/b", "no name of a Kubernetes object"),
        ("K8S_POD_NAMESPACE=ns?x;K8S_POD_NAME=p", "no name of a Kubernetes object"),
        ("K8S_POD_NAMESPACE=..;K8S_POD_NAME=p", "no name of a Kubernetes object"),
        (f"K8S_POD_NAMESPACE=ns;K8S_POD_NAME={'x' * 254}", "no name of a Kubernetes object"),
    ],
)
def test_wrong_pod_arguments(text: str, message: str) -> None:
    with pytest.raises(BadEnvironment, match=message):
        parse_args(text)


def test_a_single_plugin_becomes_a_list_of_one() -> None:
    config = parse_network('{"cniVersion":"0.3.1","name":"n","type":"ipvlan","master":"eth0"}')
    assert (config.name, config.cniVersion, len(config.plugins)) == ("n", "0.3.1", 1)
    assert plugin_type(bytes(config.plugins[0])) == "ipvlan"


def test_a_generated_network_is_understood() -> None:
    text = (
        '{"cniVersion":"0.3.1","name":"n","plugins":[{"type":"ipvlan","master":"eth0","mtu":0,'
        '"ipam":{"type":"spiderpool","default_ipv4_ippool":["a"]}},'
        '{"txQueueLen":0,"tunePodRoutes":true,"mode":"auto","type":"coordinator"}]}'
    )
    first, second = (bytes(raw) for raw in parse_network(text).plugins)
    interface = parse_plugin(first, InterfaceConfig)
    assert interface.ipam is not None
    assert interface.ipam.default_ipv4_ippool == ["a"]
    assert parse_plugin(second, CoordinatorConfig).mode == "auto"


@pytest.mark.parametrize(
    ("raw", "error", "message"),
    [
        (b'{"type":"ipvlan","mastr":"eth0"}', UnknownPlugin, "unknown field 'mastr'"),
        (b'{"type":"ipvlan","ipam":{"type":"x","pool":1}}', UnknownPlugin, "unknown field 'ipam.pool'"),
        (b'{"type":"ipvlan","mtu":-1}', BadConfig, "mtu"),
        (b'{"type":7}', BadConfig, "type"),
        (b"[1]", BadConfig, "object"),
        (b"nonsense", Undecodable, "not JSON"),
        (b"\xff", Undecodable, "not JSON"),
        (b'{"cniVersion":"9.9.9"}', Unsupported, "'9.9.9' is not supported"),
    ],
)
def test_a_wrong_configuration_names_the_field(raw: bytes, error: type[SpiderpoolError], message: str) -> None:
    with pytest.raises(error) as caught:
        parse_plugin(raw, InterfaceConfig)
    assert message in caught.value.message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_configuration_or_a_clear_error(raw: bytes) -> None:
    try:
        parse_plugin(raw, PluginConfig)
    except SpiderpoolError as error:
        assert error.message


def test_a_plugin_without_a_type_is_wrong() -> None:
    with pytest.raises(BadConfig, match="no type"):
        plugin_type(b"{}")


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


def test_errors_and_versions() -> None:
    assert error_document(Refused("no"), "0.4.0") == {"cniVersion": "0.4.0", "code": 11, "msg": "no"}
    assert error_document(Refused("no", "because"))["details"] == "because"
    assert version_document("1.0.0")["supportedVersions"] == ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    with pytest.raises(Unsupported, match="use one of"):
        check_version("0.2.0")


@pytest.mark.parametrize(
    ("command", "since", "before"),
    [("CHECK", "0.4.0", "0.3.1"), ("GC", "1.1.0", "1.0.0"), ("STATUS", "1.1.0", "1.0.0")],
)
def test_commands_of_later_versions(command: str, since: str, before: str) -> None:
    check_command(command, since)
    check_command("DEL", "0.3.0")
    with pytest.raises(Unsupported, match=f"{command} came with CNI {since}, the configuration says {before}"):
        check_command(command, before)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "é"])
def test_names_that_no_network_may_have(name: str) -> None:
    check_name("k8s-pod_network.1")
    with pytest.raises(BadConfig, match="the network's name"):
        check_name(name)


def test_attachments_that_gc_must_not_remove() -> None:
    def valid(text: str) -> frozenset[tuple[str, str]]:
        given = valid_attachments(parse_plugin(text.encode(), PluginConfig))
        assert given == valid_attachments(parse_plugin(text.encode(), DelegateConfig))
        return given

    assert valid('{"cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth0"}]}') == {("c", "eth0")}
    assert valid('{"cni.dev/attachments": [{"containerID": "d"}], "cni.dev/valid-attachments": []}') == {("d", "")}
    assert valid('{"cni.dev/valid-attachments": null}') == frozenset()
    with pytest.raises(BadConfig, match="without it all would be garbage"):
        valid("{}")


def test_a_result_is_converted_only_to_another_version() -> None:
    strange = {"ips": [{"version": "4", "address": "10.0.0.1/24", "interface": 0}], "custom": [1]}
    assert convert_result(strange, "0.4.0") == strange | {"cniVersion": "0.4.0"}
    converted = convert_result(strange | {"cniVersion": "0.4.0"}, "1.0.0")
    assert converted["ips"] == [{"address": "10.0.0.1/24", "interface": 0}]
    with pytest.raises(BadConfig):
        convert_result({"cniVersion": "0.4.0", "ips": "none"}, "1.0.0")


def test_addresses_that_a_pod_requests_by_capability() -> None:
    def requested(ips: Any) -> tuple[str, ...]:
        return requested_ips(DelegateConfig(runtimeConfig={"ips": ips}))

    assert requested_ips(DelegateConfig()) == ()
    assert requested(["10.0.0.7/24", "2001:DB8::7"]) == ("10.0.0.7", "2001:db8::7")
    for wrong in ("10.0.0.7", [7], ["nonsense"], {"a": 1}):
        with pytest.raises(BadConfig, match=r"runtimeConfig\.ips"):
            requested(wrong)


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


def test_a_configuration_that_is_not_utf_8() -> None:
    with pytest.raises(Undecodable):
        parse_plugin(b'{"name": "\xff"}', PluginConfig)
