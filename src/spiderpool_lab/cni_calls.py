"""The calls of the CNI executable on a node, as the recorder in front of it noted them (``cni_recorder.c``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec

from spiderpool_lab.node import DISK

RECORDS = DISK / "cni-calls"
"""The file of a node's records; it outlives a reboot that keeps the disk."""
SOURCE = Path(__file__).with_name("cni_recorder.c")


class CniRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One call.

    ``addresses`` are those of the result, without prefix length. ``arguments`` are the keys of CNI_ARGS in order,
    ``keys`` those of the configuration, sorted. ``has_result`` means that it has a ``prevResult``. ``started`` and
    ``ended`` are seconds since the epoch by the node's clock.
    """

    plugin: str
    command: str
    container: str
    pod: str
    uid: str
    arguments: tuple[str, ...]
    variables: tuple[str, ...]
    keys: tuple[str, ...]
    version: str
    has_netns: bool
    has_result: bool
    status: int
    addresses: tuple[str, ...]
    started: float
    ended: float

    @property
    def shape(self) -> str:
        """The command and what it is given: ``DEL netns result``, or ``DEL`` with neither; ``!`` after a failure."""
        given = [name for name, there in (("netns", self.has_netns), ("result", self.has_result)) if there]
        return " ".join([self.command, *given]) + ("!" if self.status else "")


def parse(content: bytes) -> Iterator[CniRecord]:
    """The records of a file, in the order in which the calls ended; a record that is not complete ends them."""
    while content:
        head, _, rest = content.partition(b"\n")
        fields = head.split()
        if len(fields) != 4 or len(rest) < (size := int(fields[3])):
            return
        yield _call([int(field) for field in fields[:3]], rest[:size])
        content = rest[size:]


def parse_arguments(text: str) -> dict[str, str]:
    """The keys and values of CNI_ARGS."""
    return dict(pair.partition("=")[::2] for pair in text.split(";") if pair)


def _call(times: list[int], body: bytes) -> CniRecord:
    entries, _, text = body.partition(b"\0\0")
    name, *variables = entries.decode(errors="replace").split("\0")
    environment = dict(variable.split("=", 1) for variable in variables)
    arguments = parse_arguments(environment.get("CNI_ARGS", ""))
    given, _, answer = text.partition(b"\0")
    request = json.loads(given or b"{}")
    return CniRecord(
        plugin=name,
        command=environment.get("CNI_COMMAND", ""),
        container=environment.get("CNI_CONTAINERID", ""),
        pod=f"{arguments.get('K8S_POD_NAMESPACE', '')}/{arguments.get('K8S_POD_NAME', '')}",
        uid=arguments.get("K8S_POD_UID", ""),
        arguments=tuple(arguments),
        variables=tuple(sorted(environment)),
        keys=tuple(sorted(request)),
        version=request.get("cniVersion", ""),
        has_netns=bool(environment.get("CNI_NETNS")),
        has_result="prevResult" in request,
        status=times[2],
        addresses=_addresses(answer),
        started=times[0] / 1e9,
        ended=times[1] / 1e9,
    )


def _addresses(answer: bytes) -> tuple[str, ...]:
    """The addresses of a result; none if the answer is another, as that of DEL or of a failure."""
    try:
        return tuple(entry["address"].partition("/")[0] for entry in json.loads(answer).get("ips", []))
    except (ValueError, AttributeError):
        return ()
