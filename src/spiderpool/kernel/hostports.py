"""The node's packet filter rules that translate its ports to pods.

One rule set in two renderings, as in `marks`: nftables tables of our own, or chains of our own in iptables' (legacy)
tables, for kernels without nft nat. A family's rules are always loaded as a whole and in one transaction, so they hold
what is wanted and nothing else, whatever was there before.

Connections of the node to 127.0.0.1 and of a pod to itself get an address of the node as source: the pod would not
answer the node otherwise. All others keep the client's address. For 127.0.0.1 the kernel must route loopback addresses
on the pod's link (`open_loopback`), so what comes from any wire with such an address is dropped, as the kernel does
where that is not set.

Everything here acts in the network namespace of the calling thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from spiderpool.core.network.hostports import HostPort, in_order
from spiderpool.core.network.plumbing.naming import host_interface
from spiderpool.errors import KernelFailure
from spiderpool.kernel import sysctl
from spiderpool.kernel.programs import (
    IPTABLES,
    IPTABLES_ABSENT,
    MISSING_PROGRAM,
    NFT_ABSENT,
    Backend,
    query,
    refusal,
    run,
)

NFT_TABLE = "spiderpool_hostports"
CHAIN, MASQUERADE_CHAIN = "SPIDERPOOL-HOSTPORTS", "SPIDERPOOL-HOSTPORTS-MASQ"
LOOPBACK = "127.0.0.0/8"

_NFT_FAMILIES = {4: "ip", 6: "ip6"}
_LENGTHS = {4: 32, 6: 128}
_LOCAL = f"-m addrtype --dst-type LOCAL -j {CHAIN}"
_NAT_HOOKS = {
    f"PREROUTING {_LOCAL}": CHAIN,
    f"OUTPUT {_LOCAL}": CHAIN,
    f"POSTROUTING -j {MASQUERADE_CHAIN}": MASQUERADE_CHAIN,
}
_RAW_HOOKS = {f"PREROUTING -j {CHAIN}": CHAIN}
_HOOKS = {4: {"raw": _RAW_HOOKS, "nat": _NAT_HOOKS}, 6: {"nat": _NAT_HOOKS}}
"""IP version → table → rule of a built-in chain → the chain of ours to which it jumps."""

_NFT_GUARD = f"""\
  chain guard {{
    type filter hook prerouting priority -300;
    iifname != "lo" ip saddr {LOOPBACK} drop
    iifname != "lo" ip daddr {LOOPBACK} drop
  }}
"""

_backends: list[Backend] = ["nft", "iptables"]  # in order of preference; only the working one once it is known


def load(ports: Iterable[HostPort]) -> None:
    """Make the node's rules those of ``ports``: an earlier one wins over a later one that concerns the same packets.

    Raises:
        KernelFailure: neither nftables nor iptables took the rules; says what both answered. Rules of the other family
            may have been loaded.
    """
    wanted = in_order(ports)
    if not any(port.version == 4 for port in wanted):
        _close_loopback()  # before the rules go that keep it from the wire
    for version in _NFT_FAMILIES:
        _load_family(version, [port for port in wanted if port.version == version])


def missing(ports: Iterable[HostPort]) -> tuple[str, ...]:
    """The rules of ``ports`` that are not loaded, as nft or iptables print them. Raises KernelFailure."""
    wanted = in_order(ports)
    absent: list[str] = []
    for version in {port.version for port in wanted}:
        lines = {line.strip() for line in _loaded(version).splitlines()}
        absent += (
            rule for rule in _expected([port for port in wanted if port.version == version]) if rule not in lines
        )
    return tuple(absent)


def open_loopback(link: str) -> None:
    """Let the node reach 127.0.0.1 through a pod's link; success if there is no such link. Raises KernelFailure."""
    sysctl.write(f"net/ipv4/conf/{link}/route_localnet", "1", required=False)


def _close_loopback() -> None:
    """Undo `open_loopback` for all pods. Raises KernelFailure."""
    for link in Path("/proc/sys/net/ipv4/conf").glob(host_interface("*")):
        sysctl.write(f"net/ipv4/conf/{link.name}/route_localnet", "0", required=False)


def nft_script(ports: Sequence[HostPort], version: int) -> str:
    """The rules of one family for ``nft -f -``. Creates the table so that deleting it cannot fail, then anew."""
    family = _NFT_FAMILIES[version]
    head = f"table {family} {NFT_TABLE}\ndelete table {family} {NFT_TABLE}\n"
    if not ports:
        return head
    ours = "\n".join(f"    {_nft_rule(port)}" for port in ports)
    sources = "\n".join(
        f"    {family} saddr {source} {family} daddr {pod} masquerade" for source, pod in _inward(ports)
    )
    return f"""\
{head}table {family} {NFT_TABLE} {{
  chain ports {{
{ours}
  }}
{_NFT_GUARD if version == 4 else ""}  chain prerouting {{
    type nat hook prerouting priority -100;
    fib daddr type local jump ports
  }}
  chain output {{
    type nat hook output priority -100;
    fib daddr type local jump ports
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
{sources}
  }}
}}
"""


def iptables_script(ports: Sequence[HostPort], version: int, present: str) -> str:
    """The rules of one family for iptables-restore without flush; ``present`` are all rules, as iptables-save prints.

    Without ports, removes our chains; empty if there is nothing to do.
    """
    if not ports and CHAIN not in present:
        return ""
    tables = (
        _iptables_table(table, hooks, _chains(table, ports, version) if ports else {}, present)
        for table, hooks in _HOOKS[version].items()
    )
    return "".join(tables)


def _iptables_table(table: str, hooks: dict[str, str], chains: dict[str, list[str]], present: str) -> str:
    """Fill our chains of a table and jump to them, or with no chains given remove them."""
    lines = [f"*{table}", *(f":{chain} - [0:0]" for chain in dict.fromkeys(hooks.values()))]
    if chains:
        lines += [f"-A {chain} {rule}" for chain, rules in chains.items() for rule in rules]
        lines += [f"-A {hook}" for hook in hooks if f"-A {hook}" not in _table(present, table)]
    else:
        lines += [f"-D {hook}" for hook in hooks if f"-A {hook}" in _table(present, table)]
        lines += [f"-X {chain}" for chain in dict.fromkeys(hooks.values())]
    return "\n".join([*lines, "COMMIT\n"])


def _chains(table: str, ports: Sequence[HostPort], version: int) -> dict[str, list[str]]:
    """The rules of our chains of a table, as iptables-save prints them."""
    if table == "raw":
        return {CHAIN: [f"{side} {LOOPBACK} ! -i lo -j DROP" for side in ("-s", "-d")]}
    length = _LENGTHS[version]
    masqueraded = [
        f"-s {source if '/' in source else f'{source}/{length}'} -d {pod}/{length} -j MASQUERADE"
        for source, pod in _inward(ports)
    ]
    return {CHAIN: [_iptables_rule(port) for port in ports], MASQUERADE_CHAIN: masqueraded}


def _inward(ports: Iterable[HostPort]) -> list[tuple[str, str]]:
    """(source, pod) of the packets whose source must become an address of the node."""
    pods = dict.fromkeys(port.target for port in ports)
    return [(source, pod) for pod in pods for source in ((pod,) if ":" in pod else (pod, LOOPBACK))]


def _nft_rule(port: HostPort) -> str:
    only = f"{_NFT_FAMILIES[port.version]} daddr {port.address} " if port.address else ""
    return f"{only}{port.protocol} dport {port.port} dnat to {_target(port)}"


def _iptables_rule(port: HostPort) -> str:
    """With multiport, since it knows the ports of all three protocols."""
    only = f"-d {port.address}/{_LENGTHS[port.version]} " if port.address else ""
    ports = f"-p {port.protocol} -m multiport --dports {port.port}"
    return f"{only}{ports} -j DNAT --to-destination {_target(port)}"


def _target(port: HostPort) -> str:
    return f"[{port.target}]:{port.target_port}" if port.version == 6 else f"{port.target}:{port.target_port}"


def _load_family(version: int, ports: Sequence[HostPort]) -> None:
    refusals = []
    for backend in tuple(_backends):
        refused = _load_nft(version, ports) if backend == "nft" else _load_iptables(version, ports)
        if refused:
            refusals.append(f"{backend}: {refused}")
        elif ports:
            _keep(backend)
            return
    if refusals:  # without ports, each of them must have removed its rules
        raise KernelFailure(f"host ports of IPv{version} could not be set", "\n".join(refusals))


def _keep(backend: Backend) -> None:
    """Use one backend from now on, after removing what an earlier agent may have loaded by the other one it prefers."""
    if backend == "iptables" and "nft" in _backends:
        left = [refused for version in _NFT_FAMILIES if (refused := _load_nft(version, ()))]
        if left:
            raise KernelFailure("former host ports could not be removed by nft", "\n".join(left))
    _backends[:] = [backend]


def _load_nft(version: int, ports: Sequence[HostPort]) -> str:
    """Returns nft's error output, empty on success; nothing is to be removed by an nft that is absent."""
    code, output = run(["nft", "-f", "-"], nft_script(ports, version))
    is_absent = code == MISSING_PROGRAM or any(words in output for words in NFT_ABSENT)
    return (output or f"exit status {code}") if code and (ports or not is_absent) else ""


def _load_iptables(version: int, ports: Sequence[HostPort]) -> str:
    """Returns the error output of iptables-restore, empty on success. It waits for kube-proxy, by iptables' lock."""
    script = iptables_script(ports, version, _saved(version))
    return refusal([f"{IPTABLES[version]}-restore", "--wait=5", "--noflush"], script) if script else ""


def _expected(ports: Sequence[HostPort]) -> list[str]:
    """The rules of one family, as the backend prints them."""
    if "nft" in _backends:
        return [_nft_rule(port) for port in ports]
    jumps = [f"-A {hook}" for hooks in _HOOKS[ports[0].version].values() for hook in hooks]
    return [*(f"-A {CHAIN} {_iptables_rule(port)}" for port in ports), *jumps]


def _loaded(version: int) -> str:
    if "nft" in _backends:
        return query(["nft", "list", "table", _NFT_FAMILIES[version], NFT_TABLE], NFT_ABSENT)
    return _saved(version)


def _saved(version: int) -> str:
    """All rules of iptables; empty if the kernel has none."""
    return query([f"{IPTABLES[version]}-save"], IPTABLES_ABSENT)


def _table(saved: str, table: str) -> list[str]:
    """The lines of one table of iptables-save's output."""
    _, _, rest = saved.partition(f"*{table}\n")
    return rest.partition("\nCOMMIT")[0].splitlines()
