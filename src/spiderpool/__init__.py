"""Underlay network and IP address management for Kubernetes on plain cloud servers.

Folders in order of dependence; each may import those to its right and none to its left:
lab → agent | controller → kube | kernel → core → api → telemetry → settings → errors.
"""

__version__ = "0.1.0"
