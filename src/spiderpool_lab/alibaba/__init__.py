"""A simulated Alibaba Cloud for one account: its state, its metadata service, its OpenAPI and its load balancers.

It answers as the real one answers and refuses what the real one refuses; it may import nothing of ours but the lab.
``account.Account`` is the state, ``openapi.OpenAPI`` and ``metadata.Metadata`` serve it, ``dataplane.DataPlane``
forwards what its balancers are told to forward, and ``admin.Admin`` breaks things on demand.
"""
