"""The Linux kernel: netlink, sysctls, packet marks and raw sockets, in any network namespace.

The only folder that speaks to the kernel's network stack. It takes decisions as data (see core.plumbing) and takes none
of its own. It knows no API server and no CNI.
"""
