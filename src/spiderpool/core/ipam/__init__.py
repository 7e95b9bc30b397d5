"""Decisions about addresses: which pools serve a pod, which address it gets, who keeps it, when it is released.

Uses `core.addresses`, `core.annotations` and `core.labels` alone; every other subject of core may use it.
"""
