"""CNI calls and configurations, as the specification defines them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.cni import (
    CNICall,
    CoordinatorConfig,
    DelegateConfig,
    InterfaceConfig,
    PluginConfig,
    PodArgs,
    PortMapping,
    check_command,
    check_environment,
    check_name,
    check_version,
    frame_call,
    is_interface_name,
    is_requestable,
    parse_args,
    parse_call,
    parse_network,
    parse_plugin,
    plugin_type,
    requested_ips,
    requested_ports,
    valid_attachments,
)
from spiderpool.errors import (
    BadConfig,
    BadEnvironment,
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


@pytest.mark.parametrize("key", ["type", "capabilities", "args"])
@pytest.mark.parametrize("value", ["1", "[1]", "true"])
def test_keys_of_plugins_that_we_execute_are_of_their_kind(key: str, value: str) -> None:
    with pytest.raises(BadConfig, match=rf"\$\.{key}"):
        plugin_type(f'{{"type": "bridge", "{key}": {value}}}'.encode())
    with pytest.raises(BadConfig, match=r"\$\.args\.cni"):
        plugin_type(f'{{"type": "bridge", "args": {{"cni": {value}}}}}'.encode())


def test_a_version_that_we_do_not_speak() -> None:
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
    def valid(text: str) -> frozenset[tuple[str, str]] | None:
        given = valid_attachments(parse_plugin(text.encode(), PluginConfig))
        assert given == valid_attachments(parse_plugin(text.encode(), DelegateConfig))
        return given

    assert valid('{"cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth0"}]}') == frozenset(
        {("c", "eth0")}
    )
    assert valid('{"cni.dev/attachments": [{"containerID": "d"}], "cni.dev/valid-attachments": []}') == frozenset(
        {("d", "")}
    )
    assert valid('{"cni.dev/valid-attachments": null}') == frozenset()
    assert valid("{}") is None


def test_addresses_that_a_pod_requests_by_capability() -> None:
    def requested(ips: Any) -> tuple[str, ...]:
        return requested_ips(DelegateConfig(runtimeConfig={"ips": ips}))

    assert requested_ips(DelegateConfig()) == ()
    assert requested(["10.0.0.7/24", "2001:DB8::7"]) == ("10.0.0.7", "2001:db8::7")
    for wrong in ("10.0.0.7", [7], ["nonsense"], {"a": 1}):
        with pytest.raises(BadConfig, match=r"runtimeConfig\.ips"):
            requested(wrong)


def test_a_configuration_that_is_not_utf_8() -> None:
    with pytest.raises(Undecodable):
        parse_plugin(b'{"name": "\xff"}', PluginConfig)


def test_a_call_tells_its_pod_which_only_a_del_may_leave_out() -> None:
    arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u"
    call = CNICall("spiderpool-attach", {"CNI_ARGS": arguments}, b"")
    assert call.pod == call.required_pod() == PodArgs("default", "web", "u")
    without = CNICall("spiderpool-attach", {}, b"")
    assert without.pod is None
    with pytest.raises(BadEnvironment, match="CNI_ARGS names no K8S_POD_NAMESPACE"):
        without.required_pod()


def test_ports_of_the_node_that_the_runtime_requests() -> None:
    def requested(*ports: Any) -> tuple[PortMapping, ...]:
        return requested_ports(PluginConfig(runtimeConfig={"portMappings": list(ports)}))

    assert requested_ports(PluginConfig()) == requested_ports(PluginConfig(runtimeConfig={"portMappings": None})) == ()
    assert requested({"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}) == (
        PortMapping(8080, 80),
    )
    assert requested({"hostPort": 1, "containerPort": 2, "protocol": "SCTP", "hostIP": "2001:DB8::1"}) == (
        PortMapping(1, 2, "sctp", "2001:db8::1"),
    )


def test_ports_of_the_node_may_be_spelled_as_containerd_does() -> None:
    port = {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "192.0.2.1"}
    requested = requested_ports(PluginConfig(runtimeConfig={"portMappings": [port]}))
    assert requested == (PortMapping(8080, 80, "tcp", "192.0.2.1"),)


@pytest.mark.parametrize("wrong", ["a text", 7, [8080, 80]])
def test_a_port_of_the_node_that_is_no_object_is_refused(wrong: object) -> None:
    with pytest.raises(BadConfig, match=r"^runtimeConfig\.portMappings .* Expected `object`"):
        requested_ports(PluginConfig(runtimeConfig={"portMappings": [wrong]}))


@pytest.mark.parametrize("wrong", [1, "8080", True, {"hostPort": 80}])
def test_ports_that_are_no_list(wrong: object) -> None:
    with pytest.raises(BadConfig, match=r"runtimeConfig\.portMappings of the container runtime is wrong"):
        requested_ports(PluginConfig(runtimeConfig={"portMappings": wrong}))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"hostPort": 0, "containerPort": 80}, r"`int` >= 1 - at `\$\[1\]\.hostPort`"),
        ({"hostPort": 80, "containerPort": 65536}, r"`int` <= 65535 - at `\$\[1\]\.containerPort`"),
        ({"containerPort": 80}, r"missing required field `hostPort`"),
        (
            {"hostPort": 1, "containerPort": 1, "protocol": "icmp"},
            r"\[1\]\.protocol is 'icmp'; use one of tcp, udp, sctp",
        ),
        ({"hostPort": 1, "containerPort": 1, "hostIP": "node"}, r"\[1\]\.hostIP is 'node', which is no address"),
        (
            {"hostPort": 1, "containerPort": 1, "hostIP": "fe80::1%eth0"},
            r"\[1\]\.hostIP is 'fe80::1%eth0', which is no",
        ),
        (  # a zone may hold any text, and the address becomes text of packet filter rules
            {"hostPort": 1, "containerPort": 1, "hostIP": "fe80::1%lo -j RETURN\n-F KUBE-SERVICES"},
            r"\[1\]\.hostIP is .*KUBE-SERVICES', which is no address",
        ),
    ],
)
def test_a_wrong_port_of_the_node_is_named(wrong: dict[str, Any], words: str) -> None:
    right = {"hostPort": 1, "containerPort": 1}
    with pytest.raises(BadConfig, match=rf"^runtimeConfig\.portMappings.*{words}"):
        requested_ports(PluginConfig(runtimeConfig={"portMappings": [right, wrong]}))


@pytest.mark.parametrize(
    ("name", "allowed", "requestable"),
    [
        ("eth0", True, True),
        ("a.7", True, True),
        ("eth0@", True, False),
        ("eth0@if3", True, False),
        ("", False, False),
        (".", False, False),
        ("..", False, False),
        ("a/b", False, False),
        ("a:1", False, False),
        ("a b", False, False),
        ("a" * 15, True, True),
        ("a" * 16, False, False),
        ("ä" * 8, False, False),  # 16 bytes
    ],
)
def test_names_of_interfaces(name: str, allowed: bool, requestable: bool) -> None:
    assert (is_interface_name(name), is_requestable(name)) == (allowed, requestable)
