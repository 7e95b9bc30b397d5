"""A simulated Alibaba Cloud for one account: its state, metadata service, OpenAPI and load balancers.

It answers and refuses as the real cloud does. ``account.Account`` is the state, ``openapi.OpenAPI`` and
``metadata.MetadataServer`` serve it, ``dataplane.DataPlane`` forwards the traffic of its load balancers, and
``admin.Admin`` injects faults. What is simplified is listed in ``openapi``.

``python -m spiderpool_lab.alibaba`` runs it alone. Nothing here may import the rest of the lab; the exceptions
(certificates, and namespaces and processes for the data plane) are listed in pyproject.toml.
"""
