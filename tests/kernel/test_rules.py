"""The scripts by which a set of rules with a chain of its own is loaded into iptables, and removed."""

from __future__ import annotations

import pytest

from spiderpool.kernel.rules import RuleSet

pytestmark = pytest.mark.unit

HOOK = "FORWARD -d 10.0.0.1/32 -m comment --comment ours -j OURS"
RULES = RuleSet(
    "ours",
    lambda _: "",
    {"mangle": HOOK},
    "nothing works",
    (4,),
    "OURS",
    {"mangle": ("-s 10.0.0.2/32 -j RETURN", "-j DROP")},
)
CHAIN = ":OURS - [0:0]\n-A OURS -s 10.0.0.2/32 -j RETURN\n-A OURS -j DROP\n"


@pytest.mark.parametrize(
    ("saved", "script"),
    [
        ("", f"*mangle\n{CHAIN}-A {HOOK}\nCOMMIT\n"),
        (f"-A {HOOK}\n-A OURS -j DROP\n", f"*mangle\n{CHAIN}COMMIT\n"),
        ("-A FORWARD -j THEIRS\n", f"*mangle\n{CHAIN}-A {HOOK}\nCOMMIT\n"),
        (  # of an earlier version, which had no chain
            "-A FORWARD -d 10.0.0.1/32 -m comment --comment ours -j DROP\n",
            f"*mangle\n{CHAIN}-D FORWARD -d 10.0.0.1/32 -m comment --comment ours -j DROP\n-A {HOOK}\nCOMMIT\n",
        ),
    ],
)
def test_each_load_fills_the_chain_and_mends_what_leads_there(saved: str, script: str) -> None:
    assert RULES.iptables_script((saved,)) == script
