"""Decisions about a cloud's servers: instances and their ENIs, pools of ENIs, spare addresses, Nodes, load balancers.

May use all other subjects of core; none of them may use this one. Only the folder `alibaba` knows a cloud; the other
modules must not import it.
"""
