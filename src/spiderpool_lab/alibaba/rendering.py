"""Renders layer 4 frontends as an nftables ruleset and layer 7 frontends as an HAProxy configuration. Pure functions.

nftables translates only the destination, so that backends see the client's address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from spiderpool_lab.alibaba.forwarding import Frontend, Target

TABLE = "balancers"
_PRIORITY = -110
"""Runs before the fabric's own destination NAT, whose priority is dstnat (-100)."""
_ADMISSION_PRIORITY = -120
"""Runs before that, while packets have the address of the load balancer."""

_DEFAULTS = (
    "defaults",
    "  mode http",
    "  log global",
    "  option httplog",
    "  option forwardfor",
    "  timeout connect 5s",
    "  timeout client 60s",
    "  timeout server 60s",
    "  timeout http-keep-alive 15s",
)


def nft_ruleset(found: Iterable[Frontend]) -> str:
    """Input for nft(8) that replaces the whole table in one transaction."""
    listed = [*found]
    rules = [_rule(frontend) for frontend in listed if frontend.targets and not frontend.layer_7]
    refusals = [line for frontend in listed for line in _admission(frontend)]
    chains = [
        line
        for hook in ("prerouting", "output")
        for line in (
            *(f"  chain admit_{hook} {{", f"    type filter hook {hook} priority {_ADMISSION_PRIORITY};"),
            *(*refusals, "  }"),
            *(f"  chain {hook} {{", f"    type nat hook {hook} priority {_PRIORITY};", *rules, "  }"),
        )
    ]
    return "\n".join([f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{", *chains, "}", ""])


def _rule(frontend: Frontend) -> str:
    """The rule of a frontend: chooses a target at random by weight or, if sticky, by a hash of the client address."""
    family = "ip" if frontend.version == 4 else "ip6"
    total = sum(target.weight for target in frontend.targets)
    draw = f"jhash {family} saddr mod {total}" if frontend.sticky else f"numgen random mod {total}"
    elements = ", ".join(_shares(frontend.targets))
    return f"    {_where(frontend)} dnat {family} addr . port to {draw} map {{ {elements} }}"


def _admission(frontend: Frontend) -> Iterable[str]:
    """The rules that drop packets of clients that a frontend does not admit; nothing tells these."""
    family = "ip" if frontend.version == 4 else "ip6"
    for rule in frontend.admission:
        if rule.version == frontend.version:
            source = "" if rule.source.endswith("/0") else f" {family} saddr {rule.source}"
            yield f"    {_where(frontend)}{source} {'return' if rule.admits else 'drop'}"


def _where(frontend: Frontend) -> str:
    """What the packets of a frontend's clients have."""
    family, transport = "ip" if frontend.version == 4 else "ip6", "tcp" if frontend.layer_7 else frontend.transport
    return f"{family} daddr {frontend.address} {transport} dport {frontend.port}"


def _shares(targets: Iterable[Target]) -> Iterable[str]:
    start = 0
    for target in targets:
        end = start + target.weight - 1
        share = f"{start}" if start == end else f"{start}-{end}"
        yield f"{share} : {target.address} . {target.port}"
        start = end + 1


def haproxy_config(found: Iterable[Frontend], source: str | None, certificates: Mapping[str, Path]) -> str:
    """Configuration of haproxy(1). ``source`` is the IPv4 source address of its connections to backends."""
    sections = [["global", "  log stdout format raw local0 info"], list(_DEFAULTS)]
    for frontend in found:
        if frontend.layer_7:
            sections.append(_section(frontend, source, certificates))
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _section(frontend: Frontend, source: str | None, certificates: Mapping[str, Path]) -> list[str]:
    host = frontend.address if frontend.version == 4 else f"[{frontend.address}]"
    tls = f" ssl crt {certificates[frontend.address]} alpn h2,http/1.1" if frontend.transport == "https" else ""
    lines = [f"listen {frontend.transport}-{frontend.address}-{frontend.port}", f"  bind {host}:{frontend.port}{tls}"]
    if frontend.redirect is not None:
        port = "" if frontend.redirect == 443 else f":{frontend.redirect}"
        return [*lines, f"  http-request redirect location https://%[req.hdr(host),field(1,:)]{port}%[capture.req.uri]"]
    if frontend.proto_header:
        lines.append(f"  http-request set-header X-Forwarded-Proto {frontend.transport}")
    if source is not None and frontend.version == 4:
        lines.append(f"  source {source}")
    lines.append(f"  balance {'source' if frontend.sticky else 'roundrobin'}")
    if frontend.cookie is not None:
        lines.append(f"  cookie {frontend.cookie} insert indirect nocache")
    return [*lines, *(_server(number, target, frontend) for number, target in enumerate(frontend.targets))]


def _server(number: int, target: Target, frontend: Frontend) -> str:
    host = f"[{target.address}]" if ":" in target.address else target.address
    cookie = f" cookie s{target.address}:{target.port}" if frontend.cookie is not None else ""
    return f"  server s{number} {host}:{target.port} weight {target.weight}{cookie}"
