"""The kernel steps that give a pod an interface: values in, a printable list of steps out. No IO.

**Why two paths.** A pod on an ipvlan or macvlan child cannot reach its own node, because the kernel isolates a parent
from its children. So the coordinator adds a veth pair for everything that must pass through the node: the node's own
addresses, Services (the node's kube-proxy translates their addresses), and answers to connections that came in through
the pair. One pair serves all interfaces of a pod.

**Rules and tables.** The number in front is the priority of the rule:

    pod     999  all                  table 98   load balancers' addresses and externalIPs of Services through veth0
           1000  fwmark 0x1           table 100  default route through veth0
           1001  from net1's address  table 101  node and Services through veth0; the rest through net1
           1001  from eth0's address  table 99   node and Services through veth0; the rest through eth0
           32766 all                  main       node and Services through veth0; the rest through the default interface
    node   1000  all                  table 500  pod addresses through the host ends of the veth pairs

- Mark 0x1 is set on connections that begin on veth0 (`kernel.marks`), so that answers leave through it as well.
  Otherwise they would leave through the NIC, past the node that translated the addresses.
- A pod with several interfaces has a table for each (99 for eth0, 101 to 199 for the others), each complete from the
  beginning. So the choice of the default interface is one route in ``main``, and no other route moves.
- Table 98 follows the Services of the cluster while the pod runs (`services`); nothing else is in it.
- Table 500 (``hostRuleTable``) has a rule before those that choose a NIC by source address; see `naming.RULE_PRIORITY`.
- Where another CNI plugin made eth0, its veth is the path to the node: no veth0, no mark, and table 100 is eth0's.
- For a node with several NICs see `nics`: tables 1000 to 1015, rules 1100 and 3000, marks 0x10 to 0xf0.

**Interrupted calls.** A failed or cancelled ADD removes what it made. If the agent is killed, the pod keeps part of an
interface: a link (perhaps under its temporary name), addresses, rules, routes, or a veth pair. The next ADD of the
interface removes these and builds them afresh (`leftovers.plan_cleanup`); it keeps the tables of other interfaces, and
the veth pair if they use it. The rule of table 100 is added before the mark rules are loaded: if it exists, they may be
loaded in part and are loaded afresh. The default route of table 100 comes last: if it exists, the path is complete.
DEL removes what exists, also after failures, and succeeds if nothing exists. It gives a device of the node back by the
agent's own record of the loan (`values.Loan`): what the pod says of its links does not count. GC (`sweeping`) removes
what is left of pods without DEL.

Steps name links, not interface indexes, so that a plan can be printed, compared and explained.

    values      input: attachment, settings, observed state    steps      output: the steps
    naming      names, tables, priorities, marks               checks     reject what cannot work
    planning    ADD                                            removal    DEL
    leftovers   removes what an interrupted ADD left           drift      CHECK
    routing     tables, default route, path to the node        sweeping   GC
    services    addresses of Services by the node
    existing    interfaces of other plugins of the chain       refresh    the node's addresses changed
    parents     bonds and VLANs on the node                    nics       a node with several NICs
    probing     address conflicts and silent gateways
"""
