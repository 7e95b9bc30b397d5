"""The node's packet filter rules that drop what pods send through their path to the node under a false source address.

A packet passes only if the node's route to its source leads to the link by which it came, as strict ``rp_filter`` has
it. That sysctl serves IPv4 alone, and other programs set it as well. One rule set in two renderings, see `rules`.
"""

from __future__ import annotations

from spiderpool.core.network.plumbing.naming import host_interface
from spiderpool.kernel.rules import RuleSet

TABLE = "spiderpool_sources"
"""Our nftables table, in families ip and ip6; the comment of our rules in iptables."""

_PODS = host_interface("")  # how the names of pods' host ends begin


def _chains(version: int) -> str:
    """Link-local sources and none at all are for neighbour discovery; Linux forwards neither."""
    exempt = "ip6 saddr { ::, fe80::/10 } accept" if version == 6 else ""
    return f"""\
  chain prerouting {{
    type filter hook prerouting priority -300;
    iifname != "{_PODS}*" accept
    {exempt}
    fib saddr . iif oif missing drop
  }}
"""


RULES = RuleSet(
    TABLE,
    _chains,
    {"raw": f"PREROUTING -i {_PODS}+ -m rpfilter --invert -m comment --comment {TABLE} -j DROP"},
    "packets of pods under false source addresses could not be dropped",
)
