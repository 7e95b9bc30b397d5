"""The Linux kernel: netlink, sysctls, packet marks and raw sockets, in any network namespace.

Only this package uses the kernel's network stack. It takes decisions as data (core.network.plumbing) and makes none of
its own. It must not use the Kubernetes API or know CNI.

    rtnetlink   the protocol and its blocking socket        namespaces  threads and sockets in other namespaces
    messages    bodies of requests and answers              sysctl      /proc/sys
    netlink     the sockets of one operation                marks       nftables and iptables rules
    observing   read the state of node and pod              dad         wait for duplicate address detection
    applying    carry out the steps of a plan               events      changes of the node's addresses
    arp, ndp    Ethernet frames                             frames, probing  send them; collect answers
"""
