"""The body of a request to ``/v1/cni``, read as `spiderpool.agent.server` does before it looks at cluster or kernel.

An input is text: the lines of the environment, an empty line, the configuration. The body has NUL in place of the ends
of these lines, where an input has none itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from spiderpool.agent.coordinator import previous_result
from spiderpool.agent.server import _checked_command, _interface_request, _requested_version
from spiderpool.api.cni import (
    CNICall,
    CoordinatorConfig,
    DelegateConfig,
    IfacerConfig,
    PluginConfig,
    frame_call,
    parse_call,
    parse_plugin,
    requested_ports,
    valid_attachments,
)
from spiderpool.api.cni_result import (
    all_addresses,
    convert_result,
    pod_addresses,
    read_result,
    result_document,
    with_default_routes,
)
from spiderpool.core.network.chains import parent_of
from spiderpool.core.network.coordinator import coordination
from spiderpool.core.network.hostports import host_ports, in_order, unserved
from spiderpool.core.network.plumbing.parents import plan_parent
from spiderpool.core.network.plumbing.values import Link
from tests.fuzzing.parts import each_alone

NICS = tuple(Link(name, number, mtu=1500) for number, name in enumerate(("eth0", "eth1"), 2))


def run(data: bytes) -> None:
    """Read a call."""
    head, separator, config = data.partition(b"\n\n")
    call = parse_call(head.replace(b"\n", b"\0") + b"\0\0" + config if separator else data)
    assert parse_call(frame_call(call)) == call
    version = _requested_version(call.stdin)
    each_alone(
        lambda: _attach(call),
        lambda: _address(call),
        lambda: _coordinate(call, version),
        lambda: _make_parent(call),
        *_readers_of_result(call.stdin, version),
    )


def _attach(call: CNICall) -> object:
    config = parse_plugin(call.stdin, PluginConfig)
    _checked_command(call, config)
    valid_attachments(config)
    ports = requested_ports(config)
    addresses = _previous_addresses(config)
    return call.required_pod(), in_order(host_ports(ports, addresses)), unserved(ports, addresses)


def _previous_addresses(config: PluginConfig) -> tuple[str, ...]:
    if config.prevResult is None:
        return ("10.0.0.1", "fd00::1")
    return pod_addresses(read_result(msgspec.json.encode(config.prevResult)))


def _address(call: CNICall) -> object:
    config = parse_plugin(call.stdin, DelegateConfig)
    _checked_command(call, config)
    return valid_attachments(config), _interface_request(call, config).pools, call.pod


def _coordinate(call: CNICall, version: str) -> object:
    config = parse_plugin(call.stdin, CoordinatorConfig)
    _checked_command(call, config)
    result = previous_result(config)
    addresses = all_addresses(read_result(msgspec.json.encode(result)))
    return coordination(config, None), addresses, convert_result(result, config.cniVersion or version)


def _make_parent(call: CNICall) -> object:
    config = parse_plugin(call.stdin, IfacerConfig)
    _checked_command(call, config)
    convert_result(config.prevResult or {}, config.cniVersion or "1.0.0")
    return plan_parent(parent_of(config), NICS)


def _readers_of_result(document: bytes, version: str) -> Iterator[Callable[[], object]]:
    """The configuration taken for what another plugin printed."""
    yield lambda: result_document(read_result(document), version)
    yield lambda: read_result(with_default_routes(document, (4, 6), ("10.0.0.1", "fd00::1")))
    yield lambda: with_default_routes(document, (), ())
