"""A Kubernetes cluster on one machine: a real control plane, nodes with real kernels, and a simulated cloud.

It may import all of ``spiderpool``, which may not import it. It uses only loopback and network namespaces of its own,
and records everything that it starts or creates, so that it can be taken down.
"""
