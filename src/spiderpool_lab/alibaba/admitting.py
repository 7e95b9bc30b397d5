"""Which clients a listener admits: by the access lists of a CLB's listener, or the security groups of an NLB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from spiderpool_lab.alibaba.balancers import NLB, CLBListener
from spiderpool_lab.alibaba.resources import SecurityRule
from spiderpool_lab.alibaba.tables import AccountTables

ALL_PORTS = "-1/-1"
EVERYBODY = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class ClientRule:
    """Whether clients of a range are admitted; the first rule that fits a client counts, and without one it is."""

    source: str
    admits: bool

    @property
    def version(self) -> int:
        """IP version of the range: 4 or 6."""
        return ip_network(self.source).version


def of_access_lists(tables: AccountTables, listener: CLBListener) -> tuple[ClientRule, ...]:
    """The rules of a CLB's listener. Lists without any entry admit everybody."""
    found = [tables.access_lists.get(identity) for identity in listener.access_lists]
    entries = sorted({entry for each in found if each is not None for entry in each.entries})
    if not entries:
        return ()
    if listener.settings.get("AclType") == "black":
        return tuple(ClientRule(each, False) for each in entries)
    return (*(ClientRule(each, True) for each in entries), *(ClientRule(each, False) for each in EVERYBODY))


def of_security_groups(tables: AccountTables, owner: NLB, transport: str, port: int) -> tuple[ClientRule, ...]:
    """The rules for a port of an NLB: by priority, and what drops first. What no rule drops is admitted."""
    groups = [found for identity in owner.security_groups if (found := tables.security_groups.get(identity))]
    rules = sorted((rule for group in groups for rule in group.rules), key=lambda each: (each.priority, each.accepts))
    return tuple(_fitting(rules, transport, port))


def _fitting(rules: list[SecurityRule], transport: str, port: int) -> Iterator[ClientRule]:
    for rule in rules:
        low, _, high = rule.ports.partition("/")
        is_port = rule.ports == ALL_PORTS or int(low) <= port <= int(high)
        if is_port and rule.protocol in ("ALL", transport.upper()):
            yield ClientRule(rule.source, rule.accepts)
