"""Deterministic simulation: the product's own classes on a simulated clock, scheduler, network, kernel and cluster.

docs/usage/simulation.md tells how to run it and how to read a failure. From the ground up:

    loop.py        clock and scheduler: an asyncio event loop whose time passes only when nothing is left to do
    network.py     connections to the API server, by which faults come
    api_server.py  the API server: `tests.support.api_store` behind these connections
    kernel.py      network namespaces of the nodes' pods, below the plans of core/network/plumbing
    daemons.py     agents and controllers, put together from the product's classes
    cloud.py       servers and ENIs; cloud_provider.py: how processes reach them; cloud_daemon.py: spiderpool-cloud
    node.py        a node with its kubelet and runtime; pod_worker.py: what they do for one pod
    cluster.py     all of it, with the pods and who controls them
    administrator.py  who runs commands, and what their wrong statements have cost
    operations.py  what happens to it, drawn by a seed; the events are in *_operations.py
    checks.py      what must hold after every step, and at the end; cloud_checks.py: of ENIs
    run.py         one run; shrinking.py makes a failing one shorter; teeth.py puts faults back, which must be found
    guards/        takes guards out of the product, which must be noticed

Nothing here may subclass or change a class of the product: test_rules.py.
"""
