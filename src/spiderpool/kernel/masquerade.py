"""The node's packet filter rules that give a pod's connections to Services the node's address where answers need it.

kube-proxy translates the destination of what pods send through their node. Where the endpoint is on another node, the
answer would go straight to the pod's own address, past the node that has to translate it back. So a connection that
comes from the host end of a pod, was translated, and leaves by anything but such an end gets the node's address.
Whether kube-proxy does that depends on how it is told which clients are pods.

One rule set in two renderings, see `rules`.
"""

from __future__ import annotations

from spiderpool.core.network.plumbing.naming import MASQUERADE_MARK, host_interface
from spiderpool.kernel.rules import RuleSet

TABLE = "spiderpool_masquerade"
"""Our nftables table, in families ip and ip6; the comment of our rules in iptables."""

_PODS = host_interface("")  # how the names of pods' host ends begin
_MARK = f"{MASQUERADE_MARK:#x}"
_COMMENT = f"-m comment --comment {TABLE}"
_CHAINS = f"""\
  chain forward {{
    type filter hook forward priority -150;
    iifname "{_PODS}*" oifname != "{_PODS}*" ct direction original ct status dnat meta mark set meta mark | {_MARK}
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    meta mark & {_MARK} == {_MARK} masquerade
  }}
"""

RULES = RuleSet(
    TABLE,
    lambda _: _CHAINS,
    {
        "mangle": f"FORWARD -i {_PODS}+ ! -o {_PODS}+ -m conntrack --ctstate DNAT --ctdir ORIGINAL {_COMMENT}"
        f" -j MARK --set-xmark {_MARK}/{_MARK}",
        "nat": f"POSTROUTING -m mark --mark {_MARK}/{_MARK} {_COMMENT} -j MASQUERADE",
    },
    "connections of pods to Services could not be masqueraded",
)
