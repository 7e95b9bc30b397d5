"""A cluster on one machine: real control plane, real kernels, a cloud that enforces its rules.

May import everything of ours; nothing of ours imports it. All its addresses live on loopback or in
network namespaces of its own, and whatever it starts or creates is recorded and taken down again.
"""
