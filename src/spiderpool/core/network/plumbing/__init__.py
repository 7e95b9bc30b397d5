"""Which kernel steps give a pod an interface: values in, a printable list of steps out.

A pod on an ipvlan or macvlan child cannot reach its own node, because the kernel keeps a parent and its children
apart. The coordinator's second path, a veth pair, carries what must pass the node: the node's own addresses,
Services (the node's kube-proxy translates them), and the replies to connections that arrived by that path.

    pod    1000  fwmark 0x1           table 100  everything by veth0
           1001  from net1's address  table 101  node and Services by veth0; the rest by net1
           1001  from eth0's address  table 99   node and Services by veth0; the rest by eth0 (in pods with net1)
                                      main       node and Services by veth0; the rest by the default-route interface
    node   1000  all                  table 500  pod addresses: by the host end of the veth pair

One pair serves all interfaces of a pod. In a pod with several interfaces each has a table of its own, complete from
the beginning, so which interface owns the default route is one route in ``main`` and no route ever has to be moved.

The steps name links, never interface indexes, so that a plan can be printed, compared and explained.
Here: `values` (what goes in), `steps` (what comes out), `naming`, `checks` (refusals), `planning` (ADD), `leftovers`
(of an ADD that was cut short), `removal` (DEL), `drift` (CHECK), `sweeping` (GC), `refresh` (the node's addresses
changed), `routing` (which table, which default route), `adopting` (an interface that another plugin made), `parents`
(bonds and VLANs on the node), `NICs` (a node with several NICs).
"""
