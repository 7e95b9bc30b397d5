"""Decisions about addresses: which pools may serve a pod, which address, who keeps it, when it is released.

Uses `core.addresses`, `core.annotations` and `core.labels` alone; every other subject of core may use it.
"""
