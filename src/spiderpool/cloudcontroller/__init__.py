"""spiderpool-cloud: manages Nodes, addresses of ENIs and load balancers with the cloud's API.

It is the only daemon with credentials of the cloud; pods start and stop without it.
"""
