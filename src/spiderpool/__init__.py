"""Underlay network and IP address management for Kubernetes on plain cloud servers.

Folders and modules in order of dependence; each may import those to its right and none to its left:
lab → agent | controller | cloudcontroller | cli → daemon → kube | kernel | cloud → core → api → telemetry → settings
→ errors.
"""

__version__ = "0.1.0"
